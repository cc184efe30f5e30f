// How many threads LibTorch computes with is one number per process, and results on a CPU depend on
// it.
#pragma once

#include <memory>

#include "absl/status/statusor.h"

namespace leap {

// Holds the process at a number of threads for as long as one lives.
class TorchThreads {
 public:
  // FailedPrecondition while another number is held.
  static absl::StatusOr<std::unique_ptr<TorchThreads>> Hold(int threads);
  ~TorchThreads();
  TorchThreads(const TorchThreads&) = delete;
  TorchThreads& operator=(const TorchThreads&) = delete;

 private:
  TorchThreads() = default;
};

}  // namespace leap
