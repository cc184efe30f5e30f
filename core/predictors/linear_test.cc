#include "core/predictors/predictor_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;

TEST(LinearTest, GoesStraightOnFromTheLastTwoSnapshots) {  // Leap+Verify section 3
  TestModel model;
  model.layout = {.tensors = {{.name = "w", .shape = {3}, .size = 3}}, .size = 3};
  model.snapshots = {{1.0f, -2.0f, 0.5f}, {0.5f, -2.0f, 1.0f}};
  // s = 25 / 50: half the last displacement, (0.5, 0, -0.5), once more.
  EXPECT_THAT(PredictWhole(*Made({.name = "linear"}), model, 25), ElementsAre(1.25f, -2.0f, 0.25f));
  EXPECT_THAT(PredictWhole(*Made({.name = "linear"}), model, 100), ElementsAre(2.0f, -2.0f, -0.5f));
}

TEST(LinearTest, EqualsItsNaiveTwin) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const TestModel model = RandomModel(seed);
    for (const int64_t steps : {1, 5, 25, 50, 75, 100}) {
      const float c = static_cast<float>(static_cast<double>(steps) / 50.0);
      std::vector<float> twin;
      for (size_t i = 0; i < model.snapshots[0].size(); ++i) {
        const float d = Rounded(model.snapshots[0][i] - model.snapshots[1][i]);
        twin.push_back(Rounded(model.snapshots[0][i] + Rounded(c * d)));
      }
      EXPECT_EQ(Bits(PredictWhole(*Made({.name = "linear"}), model, steps)), Bits(twin))
          << "seed " << seed << ", K " << steps;
    }
  }
}

}  // namespace
}  // namespace leap
