#include "engine/cuda/plugin.h"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <bit>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/cuda/cuda_status.h"
#include "engine/cuda/displacement.h"
#include "engine/cuda/nccl_group.h"
#include "engine/cuda/pinned_copier.h"
#include "engine/internal/torch_errors.h"

namespace leap {
namespace {

const CudaHost* program = nullptr;  // set once, by the entry, before anything else is called

absl::StatusOr<int> DeviceCount() {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess) return absl::FailedPreconditionError(cudaGetErrorString(error));
  if (devices == 0) return absl::FailedPreconditionError("CUDA sees none");
  return devices;
}

std::string Tensors(int device) { return absl::StrCat("cuda:", device); }

absl::StatusOr<CudaIdentity> Identity(int device) {
  constexpr char kAsking[] = "asking which GPU this is";
  cudaDeviceProp properties;
  LEAP_CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&properties, device), kAsking);
  static_assert(sizeof(CudaIdentity) == sizeof(properties.uuid));
  return std::bit_cast<CudaIdentity>(properties.uuid);
}

absl::StatusOr<std::unique_ptr<Group>> Join(const GroupOptions& options, int device,
                                            std::shared_ptr<Interrupt> interrupt,
                                            std::unique_ptr<Group> host_group) {
  return JoinNccl(*program, options, device, std::move(interrupt), std::move(host_group));
}

absl::Status AddDisplacement(int device, const float* live, const float* displacement, float* out,
                             int64_t size) {
  constexpr char kApplying[] = "applying a leap";
  return Fenced(kApplying, [&] {
    const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
    const cudaStream_t stream =
        c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream();
    return CudaStatus(LaunchAddDisplacement(live, displacement, out, size, stream), kApplying);
  });
}

constexpr CudaPlugin kPlugin = {.version = kCudaPluginVersion,
                                .compiler = kCudaPluginCompiler,
                                .device_count = DeviceCount,
                                .tensors = Tensors,
                                .identity = Identity,
                                .join = Join,
                                .make_copier = MakePinnedCopier,
                                .add_displacement = AddDisplacement};

}  // namespace
}  // namespace leap

extern "C" const leap::CudaPlugin* leap_cuda_plugin(const leap::CudaHost* host) {
  leap::program = host;
  return &leap::kPlugin;
}
