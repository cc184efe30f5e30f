// linear: θ̂ = θ_t + s·(θ_t - θ_{t-Δ}), s = K/Δ (Leap+Verify section 3; paper and code agree).
//
// Per element: d = θ_t - θ_{t-Δ}; p = c·d; θ̂ = θ_t + p, with c = float(K/Δ).

#include <cstddef>

#include "core/predictors/registration.h"

namespace leap {
namespace {

class LinearPredictor final : public Predictor {
 public:
  explicit LinearPredictor(int64_t interval_steps) : interval_steps_(interval_steps) {}

  absl::string_view name() const override { return "linear"; }
  PredictorNeeds needs() const override { return {.snapshots = 2}; }

  void Predict(const PredictorInputs& in, int64_t horizon_steps, const WeightLayout&,
               std::span<float> out) const override {
    const float* now = in.snapshots[0].data();
    const float* before = in.snapshots[1].data();
    const float c = static_cast<float>(static_cast<double>(horizon_steps) /
                                       static_cast<double>(interval_steps_));
    for (size_t i = 0; i < out.size(); ++i) {
      const float displacement = now[i] - before[i];
      const float step = c * displacement;
      out[i] = now[i] + step;
    }
  }

 private:
  const int64_t interval_steps_;
};

}  // namespace

PredictorRegistration LinearRegistration() {
  return {.name = "linear",
          .summary = "Straight on from the last two snapshots.",
          .make = [](const PredictorArgs& args) -> std::unique_ptr<Predictor> {
            return std::make_unique<LinearPredictor>(args.interval_steps);
          }};
}

}  // namespace leap
