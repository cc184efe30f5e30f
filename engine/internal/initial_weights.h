// The weights that training starts from. Pure: a function of configuration and seed, the same on
// every machine.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model.h"

namespace leap {

// As GPT-2: matrices N(0, initializer_range), those that add to the residual stream (c_proj) scaled
// by 1/sqrt(2 n_layer); gains 1, biases 0. Element i of tensor k is drawn from (seed, k, i) alone
// (Box-Muller on a counter), in double precision, then rounded once.
std::vector<float> InitialWeights(const ModelConfig& config, uint64_t seed);

}  // namespace leap
