#include "engine/internal/initial_weights.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "absl/strings/match.h"
#include "core/mixing.h"

namespace leap {
namespace {

// Uniform in (0, 1): 53 bits, never the ends.
double Uniform(uint64_t bits) { return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53; }

void FillNormal(std::span<float> out, double deviation, uint64_t key) {
  for (size_t i = 0; i < out.size(); i += 2) {
    const double radius = deviation * std::sqrt(-2 * std::log(Uniform(Mix(key, i))));
    const double angle = 2 * std::numbers::pi * Uniform(Mix(key, i + 1));
    out[i] = static_cast<float>(radius * std::cos(angle));
    if (i + 1 < out.size()) out[i + 1] = static_cast<float>(radius * std::sin(angle));
  }
}

}  // namespace

std::vector<float> InitialWeights(const ModelConfig& config, uint64_t seed) {
  const WeightLayout layout = LayoutOf(config);
  const double residual = 1 / std::sqrt(2.0 * static_cast<double>(config.n_layer));
  std::vector<float> weights(static_cast<size_t>(layout.size));
  for (size_t k = 0; k < layout.tensors.size(); ++k) {
    const TensorSlot& slot = layout.tensors[k];
    const std::span<float> out = std::span(weights).subspan(static_cast<size_t>(slot.offset),
                                                            static_cast<size_t>(slot.size));
    if (slot.shape.size() == 2) {
      const bool adds = absl::EndsWith(slot.name, ".c_proj.weight");
      FillNormal(out, config.initializer_range * (adds ? residual : 1), Mix(seed, k));
    } else if (absl::EndsWith(slot.name, ".weight")) {
      std::fill(out.begin(), out.end(), 1.0f);  // gain of a norm
    }
  }
  return weights;
}

}  // namespace leap
