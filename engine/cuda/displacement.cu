#include <algorithm>

#include "engine/cuda/displacement.h"

namespace leap {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 4096;  // enough to fill the memory bus; each thread strides on

__global__ void AddDisplacement(const float* live, const float* displacement, float* out,
                                int64_t size) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += stride) {
    out[i] = __fadd_rn(live[i], displacement[i]);
  }
}

}  // namespace

cudaError_t LaunchAddDisplacement(const float* live, const float* displacement, float* out,
                                  int64_t size, cudaStream_t stream) {
  if (size == 0) return cudaSuccess;
  const int64_t blocks = std::min((size + kThreads - 1) / kThreads, kMaxBlocks);
  AddDisplacement<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(live, displacement, out,
                                                                          size);
  return cudaGetLastError();
}

}  // namespace leap
