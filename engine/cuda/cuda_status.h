// CUDA's error codes as Status.
#pragma once

#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/error_reason.h"

namespace leap {

// OK, ResourceExhausted (no memory), or Unavailable with DEVICE_UNAVAILABLE: most of CUDA's errors
// stay for as long as the process lives.
inline absl::Status CudaStatus(cudaError_t error, absl::string_view doing) {
  if (error == cudaSuccess) return absl::OkStatus();
  if (error == cudaErrorMemoryAllocation) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory left while ", doing, " (", cudaGetErrorString(error), ")"));
  }
  return MakeError(absl::StatusCode::kUnavailable, ErrorReason::kDeviceUnavailable,
                   absl::StrCat("the device failed while ", doing, ": ", cudaGetErrorString(error),
                                "; this process cannot use it any more and must be started again"));
}

}  // namespace leap

// Returns from the enclosing function unless `call`, a cudaError_t, is cudaSuccess.
#define LEAP_CUDA_RETURN_IF_ERROR(call, doing) \
  LEAP_RETURN_IF_ERROR(::leap::CudaStatus((call), (doing)))
