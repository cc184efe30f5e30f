// The one way to read time and to wait. Pure rooms take `now` as an argument instead; threads and
// skins take a Clock&, so that a test can hand them base/fake_clock.h.
#pragma once

#include "absl/time/time.h"

namespace leap {

// Thread-safe. Whoever passes a Clock keeps it alive longer than what it was passed to.
class Clock {
 public:
  virtual ~Clock() = default;

  // Wall-clock time; it can jump when the machine's clock is set.
  virtual absl::Time Now() const = 0;

  // Blocks the calling thread for at least this long; not at all for zero or less.
  virtual void SleepFor(absl::Duration duration) = 0;
};

// The machine's own clock, alive for the whole process.
Clock& RealClock();

}  // namespace leap
