// The one switch that ends every wait of an epoch: collectives, pauses, waits for background work.
//
// The agent's thread raises it when the coordinator aborts the epoch; whoever waits returns Aborted
// at once. One object per epoch, shared by everything that waits in it; once raised it stays
// raised, so nothing of an old epoch can start to wait again.
#pragma once

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace leap {

// Thread-safe.
class Interrupt {
 public:
  // Ends all waits, present and future. The first reason stays.
  void Raise(absl::string_view reason) ABSL_LOCKS_EXCLUDED(mutex_);

  bool raised() const ABSL_LOCKS_EXCLUDED(mutex_);

  // OK, or Aborted with the reason.
  absl::Status status() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Blocks until `done()` is true. Aborted: raised first. DeadlineExceeded: neither within
  // `timeout`; the message is
  // "<what>: nothing within <timeout>". `done` runs under the lock, on any thread; what it reads is
  // to be changed inside Change.
  absl::Status Await(absl::FunctionRef<bool()> done, absl::Duration timeout, absl::string_view what)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Runs `change` under the lock and wakes whoever waits for what it changed.
  void Change(absl::FunctionRef<void()> change) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable Mutex mutex_;
  bool raised_ ABSL_GUARDED_BY(mutex_) = false;
  std::string reason_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace leap
