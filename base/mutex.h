// leap::Mutex, leap::MutexLock and leap::Condition: Abseil's, under names that a sanitizer build
// can replace.
//
// Debian's Abseil is not instrumented, so ThreadSanitizer cannot see its mutexes and would report
// every guarded member as a race. Under the tsan preset these names mean a small twin made of
// std::mutex, which ThreadSanitizer understands. It has the members Leap uses, with Abseil's
// meaning; add here what you need there.
//
// Waiting is Await with a condition and a deadline; there is no condition variable:
//
//   MutexLock lock(&mutex_);
//   const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !items_.empty(); };
//   if (!mutex_.AwaitWithTimeout(Condition(&ready), timeout)) return DeadlineExceeded(…);
#pragma once

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#ifndef __SANITIZE_THREAD__

namespace leap {
using Mutex = absl::Mutex;
using MutexLock = absl::MutexLock;
using Condition = absl::Condition;
}  // namespace leap

#else

#include <condition_variable>
#include <mutex>

namespace leap {

using Condition =
    absl::Condition;  // only evaluated, under our lock; it synchronises nothing by itself

class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() {
    changed_.notify_all();
    mutex_.unlock();
  }
  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK() {}

  void Await(const Condition& condition) {
    changed_.notify_all();  // like Abseil, waiting publishes what was changed before
    while (!condition.Eval()) changed_.wait(mutex_);
  }
  bool AwaitWithTimeout(const Condition& condition, absl::Duration timeout) {
    return AwaitWithDeadline(condition, absl::Now() + timeout);
  }
  bool AwaitWithDeadline(const Condition& condition, absl::Time deadline) {
    changed_.notify_all();
    while (!condition.Eval()) {
      if (deadline == absl::InfiniteFuture()) {
        changed_.wait(mutex_);
      } else if (changed_.wait_until(mutex_, absl::ToChronoTime(deadline)) ==
                 std::cv_status::timeout) {
        return condition.Eval();
      }
    }
    return true;
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_->Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* const mutex_;
};

}  // namespace leap

#endif
