// Clipping and AdamW over flat buffers. Loshchilov & Hutter, "Decoupled weight decay
// regularization", 2019; the kernel is LibTorch's fused one.
#pragma once

#include <cstdint>
#include <vector>

#include "core/job_spec.h"
#include "core/layout.h"
#include "engine/internal/flat_buffers.h"

namespace leap {

// Stretches of the flat vector whose tensors all decay, or all do not: as few as there are.
struct DecayRuns {
  explicit DecayRuns(const WeightLayout& layout);
  std::vector<FlatRange> decaying, plain;
};

// L2 norm: fp32 within blocks of kBlockFloats, double over the blocks; so large models lose no
// precision, and the order of summation does not depend on how many blocks there are.
double GlobalNorm(const at::Tensor& flat);

// Scales gradients down to spec.clip_norm (0: never), then one AdamW update, the `adam_step`th
// (from 1). Returns the norm before clipping; leaves everything as it is if that is not finite.
double ClipAndStep(FlatBuffers& buffers, const DecayRuns& runs, const TrainSpec& spec, double lr,
                   int64_t adam_step);

}  // namespace leap
