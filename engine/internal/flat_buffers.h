// Weights, gradients and Adam's moments, each ONE flat fp32 tensor, and the parameters as views
// into them.
//
// The parameters are autograd leaves whose storage is the flat weights and whose .grad is a view of
// the flat gradients: backward adds into it in place (AccumulateGrad does so whenever .grad is
// there and no graph of the gradient is asked for), so nothing is ever gathered or scattered.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "core/layout.h"

namespace leap {

struct FlatBuffers {
  // Everything zero.
  FlatBuffers(const WeightLayout& layout, at::Device device);

  // A fresh gradient buffer of zeros; whoever still holds the old one may go on writing into it.
  void RenewGradients(const WeightLayout& layout);

  at::Tensor weights, gradients, exp_avg, exp_avg_sq;  // [layout.size]
  std::vector<at::Tensor> parameters;                  // in the layout's order and shapes
};

}  // namespace leap
