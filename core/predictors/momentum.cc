// momentum: the optimizer goes on without new gradients, from Adam's moments m and v at t.
//
// form adam (ours): K more updates of AdamW with frozen moments. Update j = 1..K:
//
//   θ ← (1 - lr·λ)·θ - lr·γ^(j-1)·u,    u = m/(1 - β1^T) / (√v/√(1 - β2^T) + ε)
//
//   λ only where the layout's slot decays. γ is the parameter `damping`: 1 (default) keeps the last
//   direction at full length; γ = β1 is what AdamW itself would do with zero gradients, v
//   unchanged. In one piece, with A = (1 - lr·λ)^K and B = Σ_j γ^(j-1)·(1 - lr·λ)^(K-j):
//
//   θ̂ = A·θ_t - lr·B·u
//
// form paper (Leap+Verify section 3, as printed: no learning rate, the other sign):
//
//   θ̂ = θ_t + K·m/(√v + ε)
//
// form code (the reference code, which tried c in {0.8, 1, 1.2}; c is the parameter `scale`):
//
//   θ̂ = θ_t - c·K·lr·m/(√v + ε)
//
// With the parameter `fp16_moments` = 1, m and v are first rounded through float16, as the
// reference code stored them: v below 3e-8 becomes zero. Forms paper and code exist to reproduce
// the published failure (docs/formulas.md).
//
// Per element: q = m / (√v·r + ε); θ̂ = a·θ_t + c·q, every operation rounded; r, a, c rounded to
// float once (a and c per tensor in form adam). lr is the rate of the step after t, for all K.

#include <cmath>
#include <cstddef>

#include "core/predictors/adam.h"
#include "core/predictors/half.h"
#include "core/predictors/registration.h"
#include "core/predictors/slots.h"

namespace leap {
namespace {

enum class Form { kAdam, kPaper, kCode };

struct Coefficients {
  float keep = 1;       // a
  float direction = 0;  // c
};

// A and B of form adam, by the recursion itself: K scalar steps in double.
Coefficients Continue(const AdamContext& adam, double first_correction, bool decays, double damping,
                      int64_t steps) {
  const double shrink = decays ? 1.0 - adam.lr * adam.weight_decay : 1.0;
  double keep = 1, travelled = 0, length = 1;
  for (int64_t j = 0; j < steps; ++j) {
    keep *= shrink;
    travelled = shrink * travelled + length;
    length *= damping;
  }
  return {.keep = static_cast<float>(keep),
          .direction = static_cast<float>(-adam.lr * travelled / first_correction)};
}

template <bool kHalfMoments>
void Fill(const PredictorInputs& in, float root_scale, float epsilon, Coefficients c, size_t begin,
          size_t end, std::span<float> out) {
  const float* theta = in.snapshots[0].data();
  const float* exp_avg = in.exp_avg.data();
  const float* exp_avg_sq = in.exp_avg_sq.data();
  for (size_t i = begin; i < end; ++i) {
    const float m = kHalfMoments ? RoundToHalf(exp_avg[i]) : exp_avg[i];
    const float v = kHalfMoments ? RoundToHalf(exp_avg_sq[i]) : exp_avg_sq[i];
    const float q = AdamRatio(m, v, root_scale, epsilon);
    const float kept = c.keep * theta[i];
    const float moved = c.direction * q;
    out[i] = kept + moved;
  }
}

class MomentumPredictor final : public Predictor {
 public:
  MomentumPredictor(Form form, double damping, double scale, bool half_moments)
      : form_(form),
        damping_(damping),
        scale_(scale),
        fill_(half_moments ? &Fill<true> : &Fill<false>) {}

  absl::string_view name() const override { return "momentum"; }
  PredictorNeeds needs() const override { return {.snapshots = 1, .moments = true}; }

  void Predict(const PredictorInputs& in, int64_t horizon_steps, const WeightLayout& layout,
               std::span<float> out) const override {
    const AdamScalars adam = ScalarsOf(in.adam);
    if (form_ != Form::kAdam) {
      const double steps = static_cast<double>(horizon_steps);
      const double c = form_ == Form::kPaper ? steps : -scale_ * steps * in.adam.lr;
      fill_(in, 1.0f, adam.epsilon, {.keep = 1, .direction = static_cast<float>(c)}, 0, out.size(),
            out);
      return;
    }
    const Coefficients plain =
        Continue(in.adam, adam.first_correction, false, damping_, horizon_steps);
    const Coefficients decayed =
        Continue(in.adam, adam.first_correction, true, damping_, horizon_steps);
    ForEachSlot(layout, in.range, [&](size_t tensor, size_t begin, size_t end) {
      const Coefficients& c = layout.tensors[tensor].decays ? decayed : plain;
      fill_(in, adam.root_scale, adam.epsilon, c, begin, end, out);
    });
  }

 private:
  const Form form_;
  const double damping_;
  const double scale_;
  void (*const fill_)(const PredictorInputs&, float, float, Coefficients, size_t, size_t,
                      std::span<float>);
};

}  // namespace

PredictorRegistration MomentumRegistration() {
  return {.name = "momentum",
          .summary =
              "K more AdamW updates along the last direction; forms paper and code as published.",
          .forms = {"adam", "paper", "code"},
          .params = {{.name = "damping", .fallback = 1, .low = 0, .high = 1, .forms = {"adam"}},
                     {.name = "fp16_moments", .fallback = 0, .low = 0, .high = 1, .whole = true},
                     {.name = "scale", .fallback = 1, .low = 0, .high = 10, .forms = {"code"}}},
          .make = [](const PredictorArgs& args) -> std::unique_ptr<Predictor> {
            const Form form = args.form == "code"    ? Form::kCode
                              : args.form == "paper" ? Form::kPaper
                                                     : Form::kAdam;
            return std::make_unique<MomentumPredictor>(
                form, args.Param("damping"), args.Param("scale"), args.Param("fp16_moments") != 0);
          }};
}

}  // namespace leap
