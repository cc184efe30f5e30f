// outer-nesterov: Nesterov momentum on the displacement of a whole interval (SNOO, arXiv
// 2510.15830; policies.md section 4.1, where its saving was measured). Parameters eta (η, 0.8) and
// mu (μ, 0.5).
//
// State: o, the outer point, and b, its momentum. At the first snapshot after warm-up o = θ, b = 0.
// At snapshot t AdvanceState, then Predict:
//
//   o ← anchor (θ̂ of the applied leap at t-Δ, else θ_{t-Δ});  d = θ_t - o;  b ← μ·b + d
//
//   θ̂ = o + η·(d + μ·b)
//
// Predict evaluates the algebraically equal θ̂ = θ_t + ((η-1)·d + ημ·b): o + η·d = θ_t + (η-1)·d.
// Written so, η = 1 and μ = 0 gives θ_t itself (o + (θ_t - o) need not, in fp32), and the rounding
// is relative to the displacement that a rebase adds, not to the weight. (A weight of -0 may come
// out as +0; they compare equal.)
//
// Per element: d = θ_t - o; p = c1·d; q = c2·b; θ̂ = θ_t + (p + q), with c1 = float(η-1), c2 =
// float(η·μ); and b ← float(μ)·b + d.

#include <algorithm>
#include <cstddef>

#include "core/predictors/registration.h"

namespace leap {
namespace {

constexpr int kOuterPoint = 0;
constexpr int kMomentum = 1;

class OuterNesterovPredictor final : public Predictor {
 public:
  OuterNesterovPredictor(double eta, double mu) : eta_(eta), mu_(mu) {}

  absl::string_view name() const override { return "outer-nesterov"; }
  PredictorNeeds needs() const override {
    return {.snapshots = 1, .state_buffers = 2, .horizon = false};
  }

  void Predict(const PredictorInputs& in, int64_t, const WeightLayout&,
               std::span<float> out) const override {
    const float* theta = in.snapshots[0].data();
    const float* outer = in.state[kOuterPoint].data();
    const float* momentum = in.state[kMomentum].data();
    const float c1 = static_cast<float>(eta_ - 1.0);
    const float c2 = static_cast<float>(eta_ * mu_);
    for (size_t i = 0; i < out.size(); ++i) {
      const float displacement = theta[i] - outer[i];
      const float damped = c1 * displacement;
      const float pushed = c2 * momentum[i];
      const float leap = damped + pushed;
      out[i] = theta[i] + leap;
    }
  }

  void InitState(std::span<const float> theta, std::vector<std::span<float>> state) const override {
    std::ranges::copy(theta, state[kOuterPoint].begin());
    std::ranges::fill(state[kMomentum], 0.0f);
  }

  void AdvanceState(std::span<const float> anchor, std::span<const float> theta,
                    std::vector<std::span<float>> state) const override {
    const float mu = static_cast<float>(mu_);
    float* outer = state[kOuterPoint].data();
    float* momentum = state[kMomentum].data();
    for (size_t i = 0; i < theta.size(); ++i) {
      outer[i] = anchor[i];
      const float displacement = theta[i] - anchor[i];
      const float carried = mu * momentum[i];
      momentum[i] = carried + displacement;
    }
  }

 private:
  const double eta_;
  const double mu_;
};

}  // namespace

PredictorRegistration OuterNesterovRegistration() {
  return {.name = "outer-nesterov",
          .summary = "Nesterov momentum on the displacement between snapshots; the default policy.",
          .params = {{.name = "eta", .fallback = 0.8, .low = 0, .high = 2},
                     {.name = "mu", .fallback = 0.5, .low = 0, .high = 0.999}},
          .make = [](const PredictorArgs& args) -> std::unique_ptr<Predictor> {
            return std::make_unique<OuterNesterovPredictor>(args.Param("eta"), args.Param("mu"));
          }};
}

}  // namespace leap
