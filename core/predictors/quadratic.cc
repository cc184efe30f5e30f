// quadratic: θ̂ = θ_t + s·d1 + c2·d2, s = K/Δ, with backward differences d1 = θ_t - θ_{t-Δ} and
// d2 = d1 - (θ_{t-Δ} - θ_{t-2Δ}).
//
// form newton: c2 = ½s(s+1), the parabola through the three snapshots (Newton's backward form).
// form paper:  c2 = ½s(s-1), Leap+Verify section 3, as printed.
// form code:   c2 = ½s²·min(1, ½‖d1‖/‖d2‖), the reference code; norms per tensor (Scales).
//
// Per element: d1, d2 as above; θ̂ = (θ_t + c1·d1) + c2·d2, with c1 = float(s) and c2 rounded to
// float once (per tensor in form code).

#include <cmath>
#include <cstddef>

#include "core/predictors/registration.h"
#include "core/predictors/slots.h"

namespace leap {
namespace {

enum class Form { kNewton, kPaper, kCode };

struct Differences {
  float first = 0;
  float second = 0;
};

inline Differences DifferencesOf(float now, float before, float earlier) {
  const float first = now - before;
  const float previous = before - earlier;
  return {.first = first, .second = first - previous};
}

class QuadraticPredictor final : public Predictor {
 public:
  QuadraticPredictor(Form form, int64_t interval_steps)
      : form_(form), interval_steps_(interval_steps) {}

  absl::string_view name() const override { return "quadratic"; }
  PredictorNeeds needs() const override { return {.snapshots = 3, .scales = form_ == Form::kCode}; }

  std::vector<double> Scales(const PredictorInputs& whole,
                             const WeightLayout& layout) const override {
    if (form_ != Form::kCode) return {};
    std::vector<double> scales(layout.tensors.size(), 1.0);
    ForEachSlot(layout, whole.range, [&](size_t tensor, size_t begin, size_t end) {
      double first = 0, second = 0;  // sums of squares, in order
      for (size_t i = begin; i < end; ++i) {
        const Differences d =
            DifferencesOf(whole.snapshots[0][i], whole.snapshots[1][i], whole.snapshots[2][i]);
        first += static_cast<double>(d.first) * d.first;
        second += static_cast<double>(d.second) * d.second;
      }
      const double bound = 0.5 * std::sqrt(first);
      if (std::sqrt(second) > bound) scales[tensor] = bound / std::sqrt(second);
    });
    return scales;
  }

  void Predict(const PredictorInputs& in, int64_t horizon_steps, const WeightLayout& layout,
               std::span<float> out) const override {
    const double s = static_cast<double>(horizon_steps) / static_cast<double>(interval_steps_);
    if (form_ != Form::kCode) {
      const double curvature = form_ == Form::kNewton ? 0.5 * s * (s + 1) : 0.5 * s * (s - 1);
      Fill(in, s, curvature, 0, out.size(), out);
      return;
    }
    ForEachSlot(layout, in.range, [&](size_t tensor, size_t begin, size_t end) {
      Fill(in, s, 0.5 * s * s * in.scales[tensor], begin, end, out);
    });
  }

 private:
  static void Fill(const PredictorInputs& in, double s, double curvature, size_t begin, size_t end,
                   std::span<float> out) {
    const float* now = in.snapshots[0].data();
    const float* before = in.snapshots[1].data();
    const float* earlier = in.snapshots[2].data();
    const float c1 = static_cast<float>(s);
    const float c2 = static_cast<float>(curvature);
    for (size_t i = begin; i < end; ++i) {
      const Differences d = DifferencesOf(now[i], before[i], earlier[i]);
      const float straight = c1 * d.first;
      const float bend = c2 * d.second;
      const float ahead = now[i] + straight;
      out[i] = ahead + bend;
    }
  }

  const Form form_;
  const int64_t interval_steps_;
};

}  // namespace

PredictorRegistration QuadraticRegistration() {
  return {.name = "quadratic",
          .summary =
              "A parabola through the last three snapshots, or one of the two published variants "
              "of it.",
          .forms = {"newton", "paper", "code"},
          .make = [](const PredictorArgs& args) -> std::unique_ptr<Predictor> {
            const Form form = args.form == "code"    ? Form::kCode
                              : args.form == "paper" ? Form::kPaper
                                                     : Form::kNewton;
            return std::make_unique<QuadraticPredictor>(form, args.interval_steps);
          }};
}

}  // namespace leap
