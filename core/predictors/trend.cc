// trend: the least-squares line through the last n snapshots (parameter `n`), per weight, read K
// steps from t. K may be negative or zero: the line at t - (n-1)Δ/2 is the average of the n
// snapshots, at t the smoothed present, beyond t a prediction. The textbook's fit: snapshots k =
// 0..n-1 at x_k = -k (in units of Δ), mean x̄ = -(n-1)/2, S = n(n²-1)/12; the line at s = K/Δ is Σ_k
// w_k·θ_{t-kΔ} with w_k = 1/n + (s - x̄)(x_k - x̄)/S. With n = 2: `linear`.
//
// A displacement read at K > 0 carries progress, one at K ≤ 0 is an average under another name; so
// needs().carries_progress is true only if every horizon of the spec lies ahead.
//
// Per element: θ_t + (w_1·(θ_{t-Δ} - θ_t) + …), see blend.h (the weights sum to one); weights
// rounded to float once.

#include <algorithm>

#include "core/predictors/blend.h"
#include "core/predictors/registration.h"

namespace leap {
namespace {

class TrendPredictor final : public Predictor {
 public:
  TrendPredictor(int count, int64_t interval_steps, bool ahead)
      : count_(count), interval_steps_(interval_steps), ahead_(ahead) {}

  absl::string_view name() const override { return "trend"; }
  PredictorNeeds needs() const override {
    return {.snapshots = count_, .carries_progress = ahead_};
  }

  void Predict(const PredictorInputs& in, int64_t horizon_steps, const WeightLayout&,
               std::span<float> out) const override {
    const double n = count_;
    const double s = static_cast<double>(horizon_steps) / static_cast<double>(interval_steps_);
    const double mean = -(n - 1) / 2;
    const double spread = n * (n * n - 1) / 12;
    std::vector<float> weights;
    for (int k = 1; k < count_; ++k) {
      weights.push_back(static_cast<float>(1 / n + (s - mean) * (-k - mean) / spread));
    }
    BlendSnapshots(in.snapshots, weights, out);
  }

 private:
  const int count_;
  const int64_t interval_steps_;
  const bool ahead_;
};

}  // namespace

PredictorRegistration TrendRegistration() {
  return {.name = "trend",
          .summary =
              "Least-squares line through the last n snapshots, read at any horizon, backward ones "
              "too.",
          .params = {{.name = "n", .fallback = 4, .low = 2, .high = 64, .whole = true}},
          .backward = true,
          .make = [](const PredictorArgs& args) -> std::unique_ptr<Predictor> {
            const bool ahead =
                std::ranges::all_of(args.horizons_steps, [](int64_t steps) { return steps > 0; });
            return std::make_unique<TrendPredictor>(static_cast<int>(args.Param("n")),
                                                    args.interval_steps, ahead);
          }};
}

}  // namespace leap
