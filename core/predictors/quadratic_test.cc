#include <cmath>

#include "core/predictors/predictor_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::DoubleEq;
using ::testing::ElementsAre;

PredictorSpec Form(const std::string& form) { return {.name = "quadratic", .form = form}; }

// θ at t, t-Δ, t-2Δ on the parabola 1 + 2x + 3x² (x in units of Δ), and on a line.
TestModel Parabola() {
  TestModel model;
  model.layout = {.tensors = {{.name = "w", .shape = {2}, .size = 2}}, .size = 2};
  model.snapshots = {{1.0f, 1.0f}, {2.0f, -1.0f}, {9.0f, -3.0f}};
  return model;
}

TEST(QuadraticTest, NewtonsFormIsTheParabolaThroughTheThreeSnapshots) {
  // At x = 1 and x = 2: 1 + 2 + 3 = 6, 1 + 4 + 12 = 17; the line goes on to 3 and 5.
  EXPECT_THAT(PredictWhole(*Made(Form("newton")), Parabola(), 50), ElementsAre(6.0f, 3.0f));
  EXPECT_THAT(PredictWhole(*Made(Form("newton")), Parabola(), 100), ElementsAre(17.0f, 5.0f));
}

TEST(QuadraticTest, NewtonIsTheDefault) {
  EXPECT_EQ(Bits(PredictWhole(*Made({.name = "quadratic"}), Parabola(), 30)),
            Bits(PredictWhole(*Made(Form("newton")), Parabola(), 30)));
}

TEST(QuadraticTest, ThePapersFormHasAMinusThere) {  // Leap+Verify section 3
  // d1 = (-1, 2), d2 = (6, 0). s = 2: 1 - 2 + ½·2·1·6 = 5. s = 1: d2 does not count at all.
  EXPECT_THAT(PredictWhole(*Made(Form("paper")), Parabola(), 100), ElementsAre(5.0f, 5.0f));
  EXPECT_THAT(PredictWhole(*Made(Form("paper")), Parabola(), 50), ElementsAre(0.0f, 3.0f));
}

TEST(QuadraticTest, BelowOneIntervalThePapersCoefficientIsNegative) {  // policies.md section 1
  // s = ½: -1/8 · 6 = -0.75 where the parabola has +3/8 · 6 = 2.25.
  EXPECT_THAT(PredictWhole(*Made(Form("paper")), Parabola(), 25), ElementsAre(-0.25f, 2.0f));
  EXPECT_THAT(PredictWhole(*Made(Form("newton")), Parabola(), 25), ElementsAre(2.75f, 2.0f));
}

TEST(QuadraticTest, TheCodeClampsTheSecondDifferencePerTensor) {
  TestModel model = Parabola();
  model.layout = {.tensors = {{.name = "bent", .shape = {1}, .size = 1},
                              {.name = "straight", .shape = {1}, .offset = 1, .size = 1}},
                  .size = 2};
  const auto code = Made(Form("code"));
  // ‖d1‖ = 1 and ‖d2‖ = 6 in the first tensor: d2 is cut to ½, a twelfth.
  EXPECT_THAT(code->Scales(model.Whole(), model.layout), ElementsAre(DoubleEq(0.5 / 6.0), 1.0));
  // s = 2: 1 - 2 + ½·4·(6/12) = 0; and the line.
  const std::vector<float> predicted = PredictWhole(*code, model, 100);
  EXPECT_FLOAT_EQ(predicted[0], 0.0f);
  EXPECT_FLOAT_EQ(predicted[1], 5.0f);
}

TEST(QuadraticTest, TheClampTakesTheNormOverTheWholeTensor) {
  // One tensor: ‖d1‖ = √(1 + 4), ‖d2‖ = 6.
  EXPECT_THAT(Made(Form("code"))->Scales(Parabola().Whole(), Parabola().layout),
              ElementsAre(DoubleEq(0.5 * std::sqrt(5.0) / 6.0)));
}

TEST(QuadraticTest, ATensorThatDoesNotMoveHasScaleOne) {
  TestModel model = Parabola();
  model.snapshots = {{1.0f, 2.0f}, {1.0f, 2.0f}, {1.0f, 2.0f}};
  EXPECT_THAT(Made(Form("code"))->Scales(model.Whole(), model.layout), ElementsAre(1.0));
  EXPECT_THAT(PredictWhole(*Made(Form("code")), model, 50), ElementsAre(1.0f, 2.0f));
}

double Curvature(const std::string& form, double s) {
  if (form == "newton") return 0.5 * s * (s + 1);
  if (form == "paper") return 0.5 * s * (s - 1);
  return 0.5 * s * s;
}

std::vector<float> Twin(const TestModel& model, const std::string& form, double s,
                        const std::vector<double>& scales) {
  std::vector<float> twin;
  for (size_t i = 0; i < model.snapshots[0].size(); ++i) {
    const float now = model.snapshots[0][i];
    const float before = model.snapshots[1][i];
    const float d1 = Rounded(now - before);
    const float d2 = Rounded(d1 - Rounded(before - model.snapshots[2][i]));
    const double scale = scales.empty() ? 1.0 : scales[TensorOf(model.layout, i)];
    const float c1 = static_cast<float>(s);
    const float c2 = static_cast<float>(Curvature(form, s) * scale);
    twin.push_back(Rounded(Rounded(now + Rounded(c1 * d1)) + Rounded(c2 * d2)));
  }
  return twin;
}

TEST(QuadraticTest, EveryFormEqualsItsNaiveTwin) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const TestModel model = RandomModel(seed);
    for (const std::string form : {"newton", "paper", "code"}) {
      const auto predictor = Made(Form(form));
      const std::vector<double> scales = predictor->Scales(model.Whole(), model.layout);
      EXPECT_EQ(scales.size(), form == "code" ? model.layout.tensors.size() : 0);
      for (const int64_t steps : {5, 25, 50, 100}) {
        const double s = static_cast<double>(steps) / 50.0;
        EXPECT_EQ(Bits(PredictWhole(*predictor, model, steps)), Bits(Twin(model, form, s, scales)))
            << form << ", seed " << seed << ", K " << steps;
      }
    }
  }
}

TEST(QuadraticTest, TheClampedSecondDifferenceIsAtMostHalfTheFirst) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const TestModel model = RandomModel(seed);
    const std::vector<double> scales = Made(Form("code"))->Scales(model.Whole(), model.layout);
    std::vector<double> first(scales.size()), second(scales.size());
    for (size_t i = 0; i < model.snapshots[0].size(); ++i) {
      const float d1 = model.snapshots[0][i] - model.snapshots[1][i];
      const float d2 = d1 - (model.snapshots[1][i] - model.snapshots[2][i]);
      const size_t tensor = TensorOf(model.layout, i);
      first[tensor] += std::pow(d1, 2);
      second[tensor] += std::pow(d2 * scales[tensor], 2);
    }
    for (size_t i = 0; i < scales.size(); ++i) {
      EXPECT_LE(std::sqrt(second[i]), 0.5 * std::sqrt(first[i]) * (1 + 1e-12)) << "seed " << seed;
      EXPECT_LE(scales[i], 1.0);
    }
  }
}

}  // namespace
}  // namespace leap
