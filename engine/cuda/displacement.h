// The kernel that applies a leap to a shard by rebase (protocol.md, "What a commit means").
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace leap {

// out[i] = live[i] + displacement[i] for i < size, launched on `stream`: one fp32 addition per
// element, rounded to nearest even, denormals kept, never contracted; what the CPU computes, to the
// last bit (the payload of a NaN aside). `out` may be either of them. Returns the launch's error.
cudaError_t LaunchAddDisplacement(const float* live, const float* displacement, float* out,
                                  int64_t size, cudaStream_t stream);

}  // namespace leap
