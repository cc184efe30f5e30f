#include "engine/interrupt.h"

#include "absl/strings/str_cat.h"

namespace leap {

void Interrupt::Raise(absl::string_view reason) {
  MutexLock lock(&mutex_);
  if (raised_) return;
  raised_ = true;
  reason_ = std::string(reason);
}

bool Interrupt::raised() const {
  MutexLock lock(&mutex_);
  return raised_;
}

absl::Status Interrupt::status() const {
  MutexLock lock(&mutex_);
  return raised_ ? absl::AbortedError(reason_) : absl::OkStatus();
}

absl::Status Interrupt::Await(absl::FunctionRef<bool()> done, absl::Duration timeout,
                              absl::string_view what) {
  MutexLock lock(&mutex_);
  const auto settled = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return raised_ || done(); };
  const bool woken = mutex_.AwaitWithTimeout(Condition(&settled), timeout);
  if (raised_) return absl::AbortedError(reason_);
  if (woken) return absl::OkStatus();
  return absl::DeadlineExceededError(
      absl::StrCat(what, ": nothing within ", absl::FormatDuration(timeout)));
}

void Interrupt::Change(absl::FunctionRef<void()> change) {
  MutexLock lock(&mutex_);
  change();
}

}  // namespace leap
