#include <cmath>

#include "core/predictors/half.h"
#include "core/predictors/predictor_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;

PredictorSpec Spec(const std::string& form,
                   std::vector<std::pair<std::string, double>> params = {}) {
  return {.name = "momentum", .params = std::move(params), .form = form};
}

// Two weights of one tensor with m/√v = ½ and -1 (ε = 0, no bias left).
TestModel TwoWeights(bool decays) {
  TestModel model;
  model.layout = {.tensors = {{.name = "w", .shape = {2}, .size = 2, .decays = decays}}, .size = 2};
  model.snapshots = {{1.0f, 2.0f}};
  model.exp_avg = {0.25f, -0.5f};
  model.exp_avg_sq = {0.25f, 0.25f};
  model.adam = {.adam_step = 100'000,
                .lr = 0.125,
                .beta1 = 0.9,
                .beta2 = 0.95,
                .epsilon = 0,
                .weight_decay = 2.0};
  return model;
}

TEST(MomentumTest, AdamContinuesWithTheLearningRateDownhill) {
  // K = 4: 4 · lr · (½, -1) = (0.25, -0.5) is taken away.
  EXPECT_THAT(PredictWhole(*Made(Spec("adam")), TwoWeights(false), 4), ElementsAre(0.75f, 2.5f));
}

TEST(MomentumTest, WeightDecayActsOnlyWhereTheSlotDecays) {
  // 1 - lr·λ = ¾. Two updates of the first weight: 1 → ¾ - 1/16 = 11/16 → 33/64 - 4/64 = 29/64.
  EXPECT_EQ(PredictWhole(*Made(Spec("adam")), TwoWeights(true), 2)[0], 29.0f / 64);
  EXPECT_EQ(PredictWhole(*Made(Spec("adam")), TwoWeights(false), 2)[0], 1.0f - 2.0f / 16);
}

TEST(MomentumTest, DampingShortensEachFurtherUpdate) {
  // γ = ½, K = 3: (1 + ½ + ¼) · lr · ½ = 7/64.
  EXPECT_EQ(PredictWhole(*Made(Spec("adam", {{"damping", 0.5}})), TwoWeights(false), 3)[0],
            1.0f - 7.0f / 64);
  // γ = 0: one update, however far.
  EXPECT_EQ(PredictWhole(*Made(Spec("adam", {{"damping", 0}})), TwoWeights(false), 100)[0],
            1.0f - 1.0f / 16);
}

TEST(MomentumTest, EarlyMomentsAreBiasCorrected) {
  // After one update m = (1-β1)·g and v = (1-β2)·g²: corrected, the direction is the sign of g.
  TestModel model = TwoWeights(false);
  model.adam.adam_step = 1;
  model.exp_avg = {0.1f * 0.01f, -0.1f * 0.03f};
  model.exp_avg_sq = {0.05f * 0.0001f, 0.05f * 0.0009f};
  const std::vector<float> predicted = PredictWhole(*Made(Spec("adam")), model, 1);
  EXPECT_NEAR(predicted[0], 1.0 - 0.125, 1e-6);
  EXPECT_NEAR(predicted[1], 2.0 + 0.125, 1e-6);
}

TEST(MomentumTest, BeforeTheFirstUpdateNothingMoves) {
  TestModel model = TwoWeights(false);
  model.adam.adam_step = 0;
  model.adam.epsilon = 1e-8;
  model.exp_avg = model.exp_avg_sq = {0.0f, 0.0f};
  EXPECT_THAT(PredictWhole(*Made(Spec("adam")), model, 50), ElementsAre(1.0f, 2.0f));
}

TEST(MomentumTest, ThePaperHasNoLearningRateAndTheOtherSign) {  // Leap+Verify section 3
  EXPECT_THAT(PredictWhole(*Made(Spec("paper")), TwoWeights(true), 4), ElementsAre(3.0f, -2.0f));
}

TEST(MomentumTest, TheCodeHasBothAndAScale) {  // its c of {0.8, 1, 1.2}
  EXPECT_THAT(PredictWhole(*Made(Spec("code")), TwoWeights(true), 4), ElementsAre(0.75f, 2.5f));
  EXPECT_FLOAT_EQ(PredictWhole(*Made(Spec("code", {{"scale", 1.2}})), TwoWeights(true), 4)[0],
                  0.7f);
}

TEST(MomentumTest, SquaresOfOrder1e10VanishInFloat16SoThatOnlyEpsilonDivides) {  // section 3, note
  TestModel model = TwoWeights(false);
  model.adam.epsilon = 1e-8;
  model.exp_avg = {0x1p-20f, 0x1p-20f};
  model.exp_avg_sq = {1e-10f, 1e-4f};
  const auto move = [&](double fp16) {
    std::vector<float> out = PredictWhole(*Made(Spec("code", {{"fp16_moments", fp16}})), model, 1);
    return std::vector<double>{out[0] - 1.0, out[1] - 2.0};
  };
  EXPECT_NEAR(move(0)[0], -0.125 * 0x1p-20 / 1e-5, 1e-4);
  EXPECT_NEAR(move(1)[0], -0.125 * 0x1p-20 / 1e-8, 1e-2);  // a thousand times as far
  EXPECT_NEAR(move(1)[1], move(0)[1], 1e-6);               // v = 1e-4 survives
}

// K updates of AdamW one after the other, in double: what form adam claims to be.
double AdamWUpdates(const TestModel& model, size_t i, double damping, int64_t steps) {
  const AdamContext& adam = model.adam;
  const double step = static_cast<double>(adam.adam_step);
  const double m = model.exp_avg[i] / (1 - std::pow(adam.beta1, step));
  const double v = model.exp_avg_sq[i] / (1 - std::pow(adam.beta2, step));
  const bool decays = model.layout.tensors[TensorOf(model.layout, i)].decays;
  double theta = model.snapshots[0][i];
  double length = adam.lr;
  for (int64_t j = 0; j < steps; ++j) {
    if (decays) theta -= adam.lr * adam.weight_decay * theta;
    theta -= length * m / (std::sqrt(v) + adam.epsilon);
    length *= damping;
  }
  return theta;
}

TEST(MomentumTest, AdamEqualsKUpdatesOfAdamW) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    TestModel model = RandomModel(seed);
    model.adam.adam_step = 1 + static_cast<int64_t>(seed * 7);
    for (const double damping : {1.0, 0.9}) {
      for (const int64_t steps : {1, 5, 25, 100}) {
        const auto predictor = Made(Spec("adam", {{"damping", damping}}));
        const std::vector<float> predicted = PredictWhole(*predictor, model, steps);
        for (size_t i = 0; i < predicted.size(); ++i) {
          const double twin = AdamWUpdates(model, i, damping, steps);
          const double moved = std::fabs(twin - model.snapshots[0][i]);
          EXPECT_NEAR(predicted[i], twin, 1e-6 * (moved + 1)) << "seed " << seed << ", K " << steps;
        }
      }
    }
  }
}

// The published forms, operation by operation.
std::vector<float> PublishedTwin(const TestModel& model, bool paper, double c, bool half) {
  std::vector<float> twin;
  const float epsilon = static_cast<float>(model.adam.epsilon);
  const float coefficient = static_cast<float>(paper ? c : -c * model.adam.lr);
  for (size_t i = 0; i < model.exp_avg.size(); ++i) {
    const float m = half ? RoundToHalf(model.exp_avg[i]) : model.exp_avg[i];
    const float v = half ? RoundToHalf(model.exp_avg_sq[i]) : model.exp_avg_sq[i];
    const float q = Rounded(m / Rounded(Rounded(std::sqrt(v)) + epsilon));
    twin.push_back(Rounded(model.snapshots[0][i] + Rounded(coefficient * q)));
  }
  return twin;
}

TEST(MomentumTest, PublishedFormsEqualTheirNaiveTwins) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const TestModel model = RandomModel(seed);
    for (const double half : {0.0, 1.0}) {
      for (const int64_t steps : {5, 25, 100}) {
        const double k = static_cast<double>(steps);
        EXPECT_EQ(Bits(PredictWhole(*Made(Spec("paper", {{"fp16_moments", half}})), model, steps)),
                  Bits(PublishedTwin(model, true, k, half != 0)));
        EXPECT_EQ(Bits(PredictWhole(*Made(Spec("code", {{"fp16_moments", half}})), model, steps)),
                  Bits(PublishedTwin(model, false, k, half != 0)));
      }
    }
  }
}

// Form adam, operation by operation; A and B by their recursion, in double.
std::vector<float> AdamTwin(const TestModel& model, double damping, int64_t steps) {
  const AdamContext& adam = model.adam;
  const double step = static_cast<double>(adam.adam_step);
  const float epsilon = static_cast<float>(adam.epsilon);
  const float r = static_cast<float>(1 / std::sqrt(1 - std::pow(adam.beta2, step)));
  std::vector<float> twin;
  for (size_t i = 0; i < model.exp_avg.size(); ++i) {
    const bool decays = model.layout.tensors[TensorOf(model.layout, i)].decays;
    const double shrink = decays ? 1 - adam.lr * adam.weight_decay : 1;
    double a = 1, b = 0, length = 1;
    for (int64_t j = 0; j < steps; ++j, length *= damping) a *= shrink, b = shrink * b + length;
    const float c = static_cast<float>(-adam.lr * b / (1 - std::pow(adam.beta1, step)));
    const float root = Rounded(Rounded(std::sqrt(model.exp_avg_sq[i])) * r);
    const float q = Rounded(model.exp_avg[i] / Rounded(root + epsilon));
    const float kept = Rounded(static_cast<float>(a) * model.snapshots[0][i]);
    twin.push_back(Rounded(kept + Rounded(c * q)));
  }
  return twin;
}

TEST(MomentumTest, AdamEqualsItsNaiveTwinBitForBit) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    TestModel model = RandomModel(seed);
    model.adam.adam_step = 1 + static_cast<int64_t>(seed * 7);
    for (const double damping : {1.0, 0.9}) {
      for (const int64_t steps : {1, 25, 100}) {
        const auto predictor = Made(Spec("adam", {{"damping", damping}}));
        EXPECT_EQ(Bits(PredictWhole(*predictor, model, steps)),
                  Bits(AdamTwin(model, damping, steps)))
            << "seed " << seed << ", K " << steps;
      }
    }
  }
}

}  // namespace
}  // namespace leap
