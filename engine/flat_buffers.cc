#include "engine/internal/flat_buffers.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

namespace leap {
namespace {

at::Tensor View(const at::Tensor& flat, const TensorSlot& slot) {
  return flat.narrow(0, slot.offset, slot.size).view(slot.shape);
}

at::Tensor Zeros(int64_t size, at::Device device) {
  return at::zeros({size}, at::TensorOptions().dtype(at::kFloat).device(device));
}

}  // namespace

FlatBuffers::FlatBuffers(const WeightLayout& layout, at::Device device)
    : weights(Zeros(layout.size, device)),
      exp_avg(Zeros(layout.size, device)),
      exp_avg_sq(Zeros(layout.size, device)) {
  for (const TensorSlot& slot : layout.tensors) {
    // variable_data: the same storage under a version counter of its own, since we write weights
    // only between steps.
    parameters.push_back(View(weights, slot).variable_data().set_requires_grad(true));
  }
  RenewGradients(layout);
}

void FlatBuffers::RenewGradients(const WeightLayout& layout) {
  gradients = Zeros(layout.size, weights.device());
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].mutable_grad() = View(gradients, layout.tensors[i]);
  }
}

}  // namespace leap
