#include <cmath>

#include "core/predictors/predictor_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;

TEST(LastUpdateTest, RepeatsTheLastUpdateKTimes) {  // Fast Forward: W_t + τ·(W_t - W_{t-1})
  // An AdamW update done by hand in double, with its own moments; then θ_t - θ_{t-1}, K times.
  for (uint64_t seed = 0; seed < 20; ++seed) {
    TestModel model = RandomModel(seed);
    const AdamContext& adam = model.adam;
    const double step = static_cast<double>(adam.adam_step);
    for (const int64_t steps : {1, 10, 40}) {
      const std::vector<float> predicted =
          PredictWhole(*Made({.name = "last-update"}), model, steps);
      for (size_t i = 0; i < predicted.size(); ++i) {
        const double m = model.exp_avg[i] / (1 - std::pow(adam.beta1, step));
        const double v = model.exp_avg_sq[i] / (1 - std::pow(adam.beta2, step));
        const double u = adam.lr * m / (std::sqrt(v) + adam.epsilon);
        const bool decays = model.layout.tensors[TensorOf(model.layout, i)].decays;
        const double keep = decays ? 1 - adam.lr * adam.weight_decay : 1;
        const double now = model.snapshots[0][i];
        const double before = (now + u) / keep;  // the update undone
        ASSERT_NEAR(before * keep - u, now, 1e-12);
        const double twin = now + static_cast<double>(steps) * (now - before);
        EXPECT_NEAR(predicted[i], twin, 1e-6 * (std::fabs(twin - now) + 1)) << "seed " << seed;
      }
    }
  }
}

TEST(LastUpdateTest, HandComputed) {
  TestModel model;
  model.layout = {.tensors = {{.name = "w", .shape = {1}, .size = 1, .decays = true},
                              {.name = "b", .shape = {1}, .offset = 1, .size = 1}},
                  .size = 2};
  // lr·λ = ½, lr·u = ⅛: w_t = ½·w_{t-1} - ⅛ = 1, so w_{t-1} = 2.25; b_{t-1} = 1.125.
  model.snapshots = {{1.0f, 1.0f}};
  model.exp_avg = {0.25f, 0.25f};
  model.exp_avg_sq = {0.25f, 0.25f};
  model.adam = {.adam_step = 100'000, .lr = 0.25, .epsilon = 0, .weight_decay = 2};
  // w: last update 1 - 2.25 = -1.25; b: -⅛. Twice.
  EXPECT_THAT(PredictWhole(*Made({.name = "last-update"}), model, 2), ElementsAre(-1.5f, 0.75f));
}

TEST(LastUpdateTest, BeforeTheFirstUpdateThereIsNoneToRepeat) {
  TestModel model = RandomModel(1);
  model.adam.adam_step = 0;
  EXPECT_EQ(Bits(PredictWhole(*Made({.name = "last-update"}), model, 50)),
            Bits(model.snapshots[0]));
}

TEST(LastUpdateTest, DiffersFromMomentumOnlyByTheCompoundingOfTheDecay) {
  const TestModel model = RandomModel(3);
  const std::vector<float> repeated = PredictWhole(*Made({.name = "last-update"}), model, 25);
  const std::vector<float> continued = PredictWhole(*Made({.name = "momentum"}), model, 25);
  const double share = model.adam.lr * model.adam.weight_decay * 26 / 2;
  for (size_t i = 0; i < repeated.size(); ++i) {
    const double displacement = std::fabs(repeated[i] - model.snapshots[0][i]);
    EXPECT_NEAR(repeated[i], continued[i], 1.1 * share * displacement + 1e-7);
  }
}

TEST(LastUpdateTest, EqualsItsNaiveTwinBitForBit) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const TestModel model = RandomModel(seed);
    const AdamContext& adam = model.adam;
    const double step = static_cast<double>(adam.adam_step);
    const float epsilon = static_cast<float>(adam.epsilon);
    const float r = static_cast<float>(1 / std::sqrt(1 - std::pow(adam.beta2, step)));
    std::vector<float> twin;
    for (size_t i = 0; i < model.exp_avg.size(); ++i) {
      const bool decays = model.layout.tensors[TensorOf(model.layout, i)].decays;
      const double decay = decays ? adam.lr * adam.weight_decay : 0;
      const double first = 1 - std::pow(adam.beta1, step);
      const float c = static_cast<float>(-40 * adam.lr / ((1 - decay) * first));
      const float w = static_cast<float>(-40 * decay / (1 - decay));
      const float root = Rounded(Rounded(std::sqrt(model.exp_avg_sq[i])) * r);
      const float q = Rounded(model.exp_avg[i] / Rounded(root + epsilon));
      const float theta = model.snapshots[0][i];
      twin.push_back(Rounded(theta + Rounded(Rounded(c * q) + Rounded(w * theta))));
    }
    EXPECT_EQ(Bits(PredictWhole(*Made({.name = "last-update"}), model, 40)), Bits(twin));
  }
}

}  // namespace
}  // namespace leap
