#include "engine/internal/adamw.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>

#include <cmath>

namespace leap {
namespace {

std::vector<at::Tensor> Slices(const at::Tensor& flat, const std::vector<FlatRange>& runs) {
  std::vector<at::Tensor> slices;
  for (const FlatRange& run : runs) slices.push_back(flat.narrow(0, run.begin, run.size()));
  return slices;
}

void Step(FlatBuffers& buffers, const std::vector<FlatRange>& runs, const TrainSpec& spec,
          double lr, double weight_decay, int64_t adam_step) {
  const at::Tensor step = at::full({}, static_cast<double>(adam_step), buffers.weights.options());
  at::_fused_adamw_(Slices(buffers.weights, runs), Slices(buffers.gradients, runs),
                    Slices(buffers.exp_avg, runs), Slices(buffers.exp_avg_sq, runs),
                    /*max_exp_avg_sqs=*/{}, std::vector<at::Tensor>(runs.size(), step), lr,
                    spec.beta1, spec.beta2, weight_decay, spec.epsilon, /*amsgrad=*/false,
                    /*maximize=*/false);
}

}  // namespace

DecayRuns::DecayRuns(const WeightLayout& layout) {
  for (const TensorSlot& slot : layout.tensors) {
    std::vector<FlatRange>& runs = slot.decays ? decaying : plain;
    if (!runs.empty() && runs.back().end == slot.offset) {
      runs.back().end += slot.size;
    } else {
      runs.push_back({slot.offset, slot.offset + slot.size});
    }
  }
}

double GlobalNorm(const at::Tensor& flat) {
  const int64_t whole = flat.numel() / kBlockFloats * kBlockFloats;
  double squares = 0;
  if (whole > 0) {
    const at::Tensor blocks = flat.narrow(0, 0, whole).view({-1, kBlockFloats});
    squares += at::linalg_vector_norm(blocks, 2, {1}).to(at::kDouble).square().sum().item<double>();
  }
  if (whole < flat.numel()) {
    const double rest =
        at::linalg_vector_norm(flat.narrow(0, whole, flat.numel() - whole), 2).item<double>();
    squares += rest * rest;
  }
  return std::sqrt(squares);
}

double ClipAndStep(FlatBuffers& buffers, const DecayRuns& runs, const TrainSpec& spec, double lr,
                   int64_t adam_step) {
  const at::NoGradGuard no_grad;
  const double norm = GlobalNorm(buffers.gradients);
  if (!std::isfinite(norm)) return norm;
  if (spec.clip_norm > 0 && norm > spec.clip_norm) buffers.gradients.mul_(spec.clip_norm / norm);
  Step(buffers, runs.decaying, spec, lr, spec.weight_decay, adam_step);
  Step(buffers, runs.plain, spec, lr, 0.0, adam_step);
  return norm;
}

}  // namespace leap
