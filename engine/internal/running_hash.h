// XXH3 over bytes that come in parts; the same value as over all of them at once.
#pragma once

#include <cstddef>
#include <memory>

#include "xxhash.h"

namespace leap {

class RunningHash {
 public:
  RunningHash() { XXH3_128bits_reset(state_.get()); }

  void Update(const void* bytes, size_t size) { XXH3_128bits_update(state_.get(), bytes, size); }
  uint64_t Sum64() const { return XXH3_64bits_digest(state_.get()); }
  XXH128_hash_t Sum128() const { return XXH3_128bits_digest(state_.get()); }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_{XXH3_createState()};
};

}  // namespace leap
