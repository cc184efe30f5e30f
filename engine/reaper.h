// Ends things whose end may block (a process group with a collective that hangs) on one background
// thread, so that the thread that gave them up goes on at once.
#pragma once

#include <cstddef>
#include <deque>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace leap {

// Thread-safe. One for the process; its thread starts with the first burial and lives until the
// process ends.
class Reaper {
 public:
  // Burials waiting at most. Beyond, Bury runs the end on the caller's thread: an epoch that fails
  // faster than its time-out may be slow, but does not pile up memory and threads.
  static constexpr size_t kCapacity = 64;

  static Reaper& Get();

  // Runs `end` and destroys it, in order of arrival.
  void Bury(absl::AnyInvocable<void()> end) ABSL_LOCKS_EXCLUDED(mutex_);

  // Blocks until everything buried so far has ended, or `timeout` has passed; false: some is left.
  bool Drain(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  Mutex mutex_;
  std::deque<absl::AnyInvocable<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // never joined: the object is never destroyed
};

}  // namespace leap
