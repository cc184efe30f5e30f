// Test-only Clock that stands still until the test moves it.
#pragma once

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"

namespace leap {

// Thread-safe.
class FakeClock final : public Clock {
 public:
  explicit FakeClock(absl::Time start = absl::FromUnixSeconds(1'700'000'000)) : now_(start) {}

  absl::Time Now() const override ABSL_LOCKS_EXCLUDED(mutex_);

  // Blocks until other threads have advanced the clock by `duration`.
  void SleepFor(absl::Duration duration) override ABSL_LOCKS_EXCLUDED(mutex_);

  // Moves time forward and wakes every sleeper whose time has come.
  void Advance(absl::Duration duration) ABSL_LOCKS_EXCLUDED(mutex_);

  // Blocks until this many threads are inside SleepFor, so that a test knows when to advance.
  void WaitForSleepers(int count) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_);
  int sleepers_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace leap
