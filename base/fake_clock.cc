#include "base/fake_clock.h"

namespace leap {

absl::Time FakeClock::Now() const {
  MutexLock lock(&mutex_);
  return now_;
}

void FakeClock::SleepFor(absl::Duration duration) {
  MutexLock lock(&mutex_);
  const absl::Time wake = now_ + duration;
  ++sleepers_;
  const auto woken = [this, wake]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return now_ >= wake; };
  mutex_.Await(Condition(&woken));
  --sleepers_;
}

void FakeClock::Advance(absl::Duration duration) {
  MutexLock lock(&mutex_);
  now_ += duration;
}

void FakeClock::WaitForSleepers(int count) {
  MutexLock lock(&mutex_);
  const auto enough = [this, count]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return sleepers_ >= count; };
  mutex_.Await(Condition(&enough));
}

}  // namespace leap
