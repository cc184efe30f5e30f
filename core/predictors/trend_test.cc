#include "core/predictors/predictor_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;

PredictorSpec Trend(double n) { return {.name = "trend", .params = {{"n", n}}}; }

// A line by the normal equations, in double, through (x, y).
double LineAt(const std::vector<double>& x, const std::vector<double>& y, double where) {
  double sx = 0, sy = 0, sxx = 0, sxy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    sx += x[i];
    sy += y[i];
    sxx += x[i] * x[i];
    sxy += x[i] * y[i];
  }
  const double n = static_cast<double>(x.size());
  const double slope = (n * sxy - sx * sy) / (n * sxx - sx * sx);
  return (sy - slope * sx) / n + slope * where;
}

TEST(TrendTest, ReadsTheLeastSquaresLineAtAnyHorizon) {
  TestModel model;
  model.layout = {.tensors = {{.name = "w", .shape = {1}, .size = 1}}, .size = 1};
  model.snapshots = {{3.0f}, {0.0f}, {0.0f}};  // at 0, -Δ, -2Δ: the line 2.5 + 1.5·x
  EXPECT_THAT(PredictWhole(*Made(Trend(3)), model, 50), ElementsAre(4.0f));
  EXPECT_THAT(PredictWhole(*Made(Trend(3)), model, 0), ElementsAre(2.5f));
  EXPECT_THAT(PredictWhole(*Made(Trend(3)), model, -100), ElementsAre(-0.5f));
}

TEST(TrendTest, InTheMiddleItIsTheAverage) {
  const TestModel model = RandomModel(8);
  const auto trend = Made(Trend(5));
  const auto average = Made({.name = "average", .params = {{"n", 5}}});
  EXPECT_EQ(Bits(PredictWhole(*trend, model, -100)), Bits(PredictWhole(*average, model, 0)));
}

TEST(TrendTest, OfTwoSnapshotsIsLinear) {
  const TestModel model = RandomModel(9);
  for (const int64_t steps : {5, 25, 75}) {
    const std::vector<float> trend = PredictWhole(*Made(Trend(2)), model, steps);
    const std::vector<float> linear = PredictWhole(*Made({.name = "linear"}), model, steps);
    for (size_t i = 0; i < trend.size(); ++i) EXPECT_NEAR(trend[i], linear[i], 1e-7);
  }
}

TEST(TrendTest, EqualsTheNormalEquations) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const TestModel model = RandomModel(seed);
    for (const int n : {2, 3, 4, 6}) {
      for (const int64_t steps : {-150, -25, 0, 10, 100}) {
        const std::vector<float> predicted = PredictWhole(*Made(Trend(n)), model, steps);
        for (size_t i = 0; i < predicted.size(); ++i) {
          std::vector<double> x, y;
          for (int k = 0; k < n; ++k) {
            x.push_back(-50.0 * k);
            y.push_back(model.snapshots[k][i]);
          }
          EXPECT_NEAR(predicted[i], LineAt(x, y, static_cast<double>(steps)), 1e-6)
              << "seed " << seed << ", n " << n << ", K " << steps;
        }
      }
    }
  }
}

TEST(TrendTest, EqualsItsNaiveTwinBitForBit) {
  // n = 3 read at s = ½: x̄ = -1, S = 2; w_1 = ⅓ + 1.5·0/2, w_2 = ⅓ + 1.5·(-1)/2.
  const float w1 = static_cast<float>(1.0 / 3), w2 = static_cast<float>(1.0 / 3 - 0.75);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const TestModel model = RandomModel(seed);
    std::vector<float> twin;
    for (size_t i = 0; i < model.snapshots[0].size(); ++i) {
      const float now = model.snapshots[0][i];
      const float first = Rounded(w1 * Rounded(model.snapshots[1][i] - now));
      const float second = Rounded(w2 * Rounded(model.snapshots[2][i] - now));
      twin.push_back(Rounded(now + Rounded(first + second)));
    }
    EXPECT_EQ(Bits(PredictWhole(*Made(Trend(3)), model, 25)), Bits(twin)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace leap
