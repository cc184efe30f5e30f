#include "base/backoff.h"

#include <algorithm>

namespace leap {

Backoff::Backoff(const BackoffOptions& options, uint64_t seed)
    : options_(options), random_(seed), ceiling_(std::min(options.initial, options.max)) {}

absl::Duration Backoff::Next() {
  const double unit =
      static_cast<double>(random_() >> 11) * 0x1.0p-53;  // [0, 1), the same on every platform
  const absl::Duration delay = ceiling_ * (1.0 - options_.jitter * unit);
  ceiling_ = std::min(ceiling_ * options_.multiplier, options_.max);
  return delay;
}

void Backoff::Reset() { ceiling_ = std::min(options_.initial, options_.max); }

}  // namespace leap
