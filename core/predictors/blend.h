// Affine blends of snapshots, written as displacements from the newest one, so that snapshots that
// agree blend to themselves exactly and rounding is relative to how far they lie apart.
#pragma once

#include <cstddef>
#include <span>

namespace leap {

// out = θ_0 + (w_1·(θ_1 - θ_0) + w_2·(θ_2 - θ_0) + …), summed from the left; weights[k] is the
// weight of snapshots[k + 1], so weights.size() + 1 snapshots are read. Without weights, out = θ_0.
inline void BlendSnapshots(std::span<const std::span<const float>> snapshots,
                           std::span<const float> weights, std::span<float> out) {
  const float* now = snapshots[0].data();
  for (size_t k = 0; k < weights.size(); ++k) {
    const float* other = snapshots[k + 1].data();
    const float weight = weights[k];
    for (size_t i = 0; i < out.size(); ++i) {
      const float displacement = other[i] - now[i];
      const float term = weight * displacement;
      out[i] = k == 0 ? term : out[i] + term;
    }
  }
  for (size_t i = 0; i < out.size(); ++i) out[i] = weights.empty() ? now[i] : now[i] + out[i];
}

}  // namespace leap
