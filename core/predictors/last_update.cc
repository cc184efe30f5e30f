// last-update: θ̂ = θ_t + K·(θ_t - θ_{t-1}), the last optimizer update once more, K times. Fast
// Forward (Rahamim et al. 2024, arXiv 2409.04206): W_t + τ·ΔW with ΔW = W_t - W_{t-1}, by line
// search over τ; here the grid of K is the search.
//
// Snapshots lie Δ apart, so θ_{t-1} is not at hand; but AdamW's last update can be solved for it
// from the moments at t:
//
//   θ_t = (1 - lr·λ)·θ_{t-1} - lr·u_t   =>   θ_t - θ_{t-1} = -(lr·u_t + lr·λ·θ_t) / (1 - lr·λ)
//
// with u_t as in momentum.cc; clipping is inside the moments already. Deviation: lr is the
// schedule's rate for the step AFTER t (AdamContext), not the one before; that rescales K by their
// ratio, which is 1 to within a step's change.
//
// Against `momentum` (form adam, damping 1): the same direction, repeated as a whole instead of
// compounded; the displacements differ by a share of lr·λ·(K+1)/2, so by nothing without decay.
//
// Per element: q = m / (√v·r + ε); θ̂ = θ_t + (c·q + w·θ_t), with c and w rounded to float once.

#include <cstddef>

#include "core/predictors/adam.h"
#include "core/predictors/registration.h"
#include "core/predictors/slots.h"

namespace leap {
namespace {

class LastUpdatePredictor final : public Predictor {
 public:
  absl::string_view name() const override { return "last-update"; }
  PredictorNeeds needs() const override { return {.snapshots = 1, .moments = true}; }

  void Predict(const PredictorInputs& in, int64_t horizon_steps, const WeightLayout& layout,
               std::span<float> out) const override {
    const AdamScalars scalars = ScalarsOf(in.adam);
    const double steps =
        in.adam.adam_step > 0 ? static_cast<double>(horizon_steps) : 0.0;  // no update, no last one
    const float* theta = in.snapshots[0].data();
    ForEachSlot(layout, in.range, [&](size_t tensor, size_t begin, size_t end) {
      const double decay = layout.tensors[tensor].decays ? in.adam.lr * in.adam.weight_decay : 0.0;
      const float c =
          static_cast<float>(-steps * in.adam.lr / ((1 - decay) * scalars.first_correction));
      const float w = static_cast<float>(-steps * decay / (1 - decay));
      for (size_t i = begin; i < end; ++i) {
        const float q =
            AdamRatio(in.exp_avg[i], in.exp_avg_sq[i], scalars.root_scale, scalars.epsilon);
        const float moved = c * q;
        const float shrunk = w * theta[i];
        const float update = moved + shrunk;
        out[i] = theta[i] + update;
      }
    });
  }
};

}  // namespace

PredictorRegistration LastUpdateRegistration() {
  return {.name = "last-update",
          .summary = "Repeats the last optimizer update K times (Fast Forward).",
          .make = [](const PredictorArgs&) -> std::unique_ptr<Predictor> {
            return std::make_unique<LastUpdatePredictor>();
          }};
}

}  // namespace leap
