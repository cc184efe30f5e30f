// How long to wait before trying again: exponential, capped, with jitter, from a seed. Only
// computes; the caller waits.
#pragma once

#include <cstdint>
#include <random>

#include "absl/time/time.h"

namespace leap {

struct BackoffOptions {
  absl::Duration initial = absl::Milliseconds(100);
  absl::Duration max = absl::Seconds(10);
  double multiplier = 2.0;
  // Each delay is drawn evenly from [1 - jitter, 1] times the exponential one, so that a crowd
  // spreads out and no delay exceeds `max`. Between 0 and 1.
  double jitter = 0.5;
};

// Not thread-safe: one per retrying loop. The same options and seed give the same delays.
class Backoff {
 public:
  Backoff(const BackoffOptions& options, uint64_t seed);

  // The delay before the next try.
  absl::Duration Next();

  // After a success: the next delay is the first one again.
  void Reset();

 private:
  const BackoffOptions options_;
  std::mt19937_64 random_;
  absl::Duration ceiling_;
};

}  // namespace leap
