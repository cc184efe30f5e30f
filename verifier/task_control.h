// How a running task hears that it should stop: cancelled, or past its deadline. The scoring thread
// asks between chunks of work (a few hundred milliseconds at most); any thread may cancel.
#pragma once

#include <atomic>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"

namespace leap {

// Thread-safe. One per task; outlives the work it controls.
class TaskControl {
 public:
  // `deadline` InfiniteFuture: none. `clock` must outlive this.
  TaskControl(Clock& clock, absl::Time deadline) : clock_(clock), deadline_(deadline) {}
  TaskControl(const TaskControl&) = delete;
  TaskControl& operator=(const TaskControl&) = delete;

  // The first reason stays.
  void Cancel(std::string reason) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    if (!cancelled_) reason_ = std::move(reason);
    cancelled_ = true;
  }

  // OK: go on. Cancelled (with the reason) or DeadlineExceeded: give the task up now.
  absl::Status Check() const ABSL_LOCKS_EXCLUDED(mutex_) {
    if (cancelled_) {
      MutexLock lock(&mutex_);
      return absl::CancelledError(reason_);
    }
    if (clock_.Now() <= deadline_) return absl::OkStatus();
    return absl::DeadlineExceededError("the task's deadline has passed");
  }

  // Time left; InfiniteDuration without a deadline.
  absl::Duration Left() const { return deadline_ - clock_.Now(); }

  // For waits that look at a flag (service/snapshot_client.h); valid as long as this.
  const std::atomic<bool>* cancelled() const { return &cancelled_; }
  Clock& clock() const { return clock_; }

 private:
  Clock& clock_;
  const absl::Time deadline_;
  std::atomic<bool> cancelled_ = false;

  mutable Mutex mutex_;
  std::string reason_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace leap
