// AdamW's update direction, read off its moments. Adam: Kingma & Ba 2015, algorithm 1; AdamW:
// Loshchilov & Hutter 2019, algorithm 2, in the arithmetic of PyTorch's torch.optim.AdamW.
//
//   u = m/(1 - β1^T) / (√v / √(1 - β2^T) + ε)          T = updates done so far
//
// The first bias correction is left to the caller, who folds it into the learning rate's
// coefficient (in double).
#pragma once

#include <cmath>

#include "core/predictor.h"

namespace leap {

// Scalars of the direction, computed in double and rounded to float once.
struct AdamScalars {
  double first_correction = 1;  // 1 - β1^T
  float root_scale = 1;         // 1 / √(1 - β2^T)
  float epsilon = 0;
};

// Before the first update (T = 0) the moments are zero and so is the direction: corrections are
// taken as 1.
inline AdamScalars ScalarsOf(const AdamContext& adam) {
  AdamScalars scalars;
  scalars.epsilon = static_cast<float>(adam.epsilon);
  if (adam.adam_step > 0) {
    const double step = static_cast<double>(adam.adam_step);
    scalars.first_correction = 1.0 - std::pow(adam.beta1, step);
    scalars.root_scale = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(adam.beta2, step)));
  }
  return scalars;
}

// m / (√v · root_scale + ε): a square root, a product, a sum and a quotient, each rounded.
inline float AdamRatio(float m, float v, float root_scale, float epsilon) {
  const float root = std::sqrt(v);
  const float scaled = root * root_scale;
  const float denominator = scaled + epsilon;
  return m / denominator;
}

}  // namespace leap
