#include "core/predictors/predictor_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;

PredictorSpec Average(double n) { return {.name = "average", .params = {{"n", n}}}; }

TEST(AverageTest, IsTheMeanOfTheLastNSnapshots) {
  TestModel model;
  model.layout = {.tensors = {{.name = "w", .shape = {2}, .size = 2}}, .size = 2};
  model.snapshots = {{4.0f, 1.0f}, {2.0f, 1.0f}, {8.0f, 3.0f}, {2.0f, -1.0f}};
  EXPECT_THAT(PredictWhole(*Made(Average(4)), model, 0), ElementsAre(4.0f, 1.0f));
  EXPECT_THAT(PredictWhole(*Made(Average(2)), model, 0), ElementsAre(3.0f, 1.0f));
}

TEST(AverageTest, OfEqualSnapshotsIsThatSnapshotExactly) {
  TestModel model = RandomModel(5);
  for (auto& snapshot : model.snapshots) snapshot = model.snapshots[0];
  EXPECT_EQ(Bits(PredictWhole(*Made(Average(6)), model, 0)), Bits(model.snapshots[0]));
}

TEST(AverageTest, EqualsItsNaiveTwins) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const TestModel model = RandomModel(seed);
    for (const int n : {2, 3, 4, 6}) {
      const float weight = static_cast<float>(1.0 / n);
      const std::vector<float> predicted = PredictWhole(*Made(Average(n)), model, 0);
      std::vector<float> twin;
      for (size_t i = 0; i < predicted.size(); ++i) {
        const float now = model.snapshots[0][i];
        float sum = Rounded(weight * Rounded(model.snapshots[1][i] - now));
        double mean = static_cast<double>(now) + model.snapshots[1][i];
        for (int k = 2; k < n; ++k) {
          sum = Rounded(sum + Rounded(weight * Rounded(model.snapshots[k][i] - now)));
          mean += model.snapshots[k][i];
        }
        twin.push_back(Rounded(now + sum));
        EXPECT_NEAR(predicted[i], mean / n, 1e-7);
      }
      EXPECT_EQ(Bits(predicted), Bits(twin)) << "seed " << seed << ", n " << n;
    }
  }
}

}  // namespace
}  // namespace leap
