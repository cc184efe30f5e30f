// Training, in integers: the weights are one number, every operation is exact, and two runs that
// did the same have the same number. Digests of shards add up, as core/digest.h says.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/sim/random.h"

namespace leap::sim {

struct ModelState {
  uint64_t weights = 0;
  int64_t step = 0;
  int64_t position = 0;         // trained batches
  std::vector<uint64_t> leaps;  // applied, in order
  int64_t rollbacks = 0;        // leaps undone
  int line = 0;  // another number after a flipped bit that nobody was left to contradict
  bool operator==(const ModelState&) const = default;
  uint64_t last_leap() const { return leaps.empty() ? 0 : leaps.back(); }
};

inline constexpr int64_t kFloats = 1 << 20;  // size of the flat vector, for shard ranges

inline ModelState FreshState(uint64_t seed) { return {.weights = Mix(seed, 1)}; }

inline void TrainStep(ModelState& state) {
  state.weights = Mix(state.weights, static_cast<uint64_t>(state.position));
  ++state.step;
  ++state.position;
}

inline uint64_t CandidateOf(uint64_t base, int predictor, int64_t horizon) {
  return Mix(base ^ 0xca9d1da7eULL,
             static_cast<uint64_t>(predictor) * 1000 + static_cast<uint64_t>(horizon));
}

// rebase: the displacement is added to the live weights; replace: they become the candidate.
inline uint64_t ApplyLeap(uint64_t live, uint64_t base, uint64_t candidate, bool replace) {
  return replace ? candidate : live + (candidate - base);
}

inline uint64_t ShardDigest(uint64_t weights, int rank, int world) {
  if (rank + 1 < world)
    return Mix(weights, 0x5a5a + static_cast<uint64_t>(rank) * 64 + static_cast<uint64_t>(world));
  uint64_t rest = weights;
  for (int other = 0; other + 1 < world; ++other) rest -= ShardDigest(weights, other, world);
  return rest;
}

// Gate losses: about 3 nats with some noise between weights, so that a guard of 5 % accepts most
// candidates, not all. One candidate in 32 has no finite loss.
inline std::vector<float> GateLosses(uint64_t weights, int64_t sequences, bool candidate) {
  const double mean = 3.0 + 0.15 * static_cast<double>(Mix(weights, 5) % 1000) / 1000.0;
  std::vector<float> losses;
  for (int64_t i = 0; i < sequences; ++i) {
    losses.push_back(static_cast<float>(
        mean +
        0.01 * static_cast<double>(Mix(weights, 100 + static_cast<uint64_t>(i)) % 100) / 100.0));
  }
  if (candidate && Mix(weights, 6) % 32 == 0) losses[0] = std::numeric_limits<float>::quiet_NaN();
  return losses;
}

}  // namespace leap::sim
