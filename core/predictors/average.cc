// average: θ̂ = mean of the last n snapshots, θ_t included (parameter `n`). Polyak & Juditsky 1992;
// LAWA (Kaddour 2022) for its use on checkpoints. It removes gradient noise and carries no
// progress: policies.md sections 2 to 4 show why it belongs to the model that is shipped and is
// never committed by default, and never rebased.
//
// Per element: θ_t + ((θ_{t-Δ} - θ_t)/n + (θ_{t-2Δ} - θ_t)/n + …), see blend.h; 1/n rounded to
// float once.

#include "core/predictors/blend.h"
#include "core/predictors/registration.h"

namespace leap {
namespace {

class AveragePredictor final : public Predictor {
 public:
  explicit AveragePredictor(int count) : weights_(count - 1, static_cast<float>(1.0 / count)) {}

  absl::string_view name() const override { return "average"; }
  PredictorNeeds needs() const override {
    return {.snapshots = static_cast<int>(weights_.size()) + 1,
            .horizon = false,
            .carries_progress = false};
  }

  void Predict(const PredictorInputs& in, int64_t, const WeightLayout&,
               std::span<float> out) const override {
    BlendSnapshots(in.snapshots, weights_, out);
  }

 private:
  const std::vector<float> weights_;
};

}  // namespace

PredictorRegistration AverageRegistration() {
  return {.name = "average",
          .summary =
              "Mean of the last n snapshots: for the model that is shipped, not for the state "
              "trained on.",
          .params = {{.name = "n", .fallback = 4, .low = 2, .high = 64, .whole = true}},
          .make = [](const PredictorArgs& args) -> std::unique_ptr<Predictor> {
            return std::make_unique<AveragePredictor>(static_cast<int>(args.Param("n")));
          }};
}

}  // namespace leap
