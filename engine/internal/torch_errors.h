// What LibTorch throws, as a Status; and how a call into it is fenced, so that nothing it throws
// leaves a function.
#pragma once

#include <ATen/Parallel.h>

#include <exception>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace leap {

// The error that is being handled, as a Status that says what was being done and what to do about
// it. ResourceExhausted: no memory. Unavailable with DEVICE_UNAVAILABLE: the device failed.
// Internal: anything else.
absl::Status CurrentTorchError(absl::string_view doing);

// Calls `work`, which returns a Status or a StatusOr, on a thread that knows how many threads
// LibTorch may use.
template <typename Work>
auto Fenced(absl::string_view doing, Work&& work) -> decltype(work()) {
  try {
    at::internal::lazy_init_num_threads();
    return std::forward<Work>(work)();
  } catch (...) {
    return CurrentTorchError(doing);
  }
}

// For calls that have no way to answer: an error of the device ends the process, with a line in the
// log. Whoever watches over this process replaces it.
template <typename Work>
void FencedOrDie(absl::string_view doing, Work&& work);
void DieOf(const absl::Status& status);

template <typename Work>
void FencedOrDie(absl::string_view doing, Work&& work) {
  const absl::Status status = Fenced(doing, [&work]() -> absl::Status {
    std::forward<Work>(work)();
    return absl::OkStatus();
  });
  if (!status.ok()) DieOf(status);
}

}  // namespace leap
