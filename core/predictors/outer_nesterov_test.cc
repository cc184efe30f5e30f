#include <cmath>

#include "core/predictors/predictor_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;

std::unique_ptr<Predictor> Outer(double eta, double mu) {
  return Made({.name = "outer-nesterov", .params = {{"eta", eta}, {"mu", mu}}});
}

std::vector<std::span<float>> Spans(TestModel& model) { return {model.state[0], model.state[1]}; }

TEST(OuterNesterovTest, StartsAtTheFirstSnapshotWithNoMomentum) {
  TestModel model = RandomModel(1);
  const auto predictor = Outer(0.8, 0.5);
  predictor->InitState(model.snapshots[0], Spans(model));
  EXPECT_EQ(Bits(model.state[0]), Bits(model.snapshots[0]));
  EXPECT_EQ(model.state[1], std::vector<float>(model.snapshots[0].size(), 0.0f));
  EXPECT_EQ(PredictWhole(*predictor, model, 0), model.snapshots[0]);  // nothing to leap by yet
}

TEST(OuterNesterovTest, HandComputedOverThreeSnapshots) {  // policies.md section 4.1
  TestModel model;
  model.layout = {.tensors = {{.name = "w", .shape = {1}, .size = 1}}, .size = 1};
  model.state = {{0.0f}, {0.0f}};
  const auto predictor = Outer(0.5, 0.5);
  const auto at = [&](float theta) {
    model.snapshots = {{theta}};
    return PredictWhole(*predictor, model, 0)[0];
  };
  const std::vector<float> first = {8.0f}, second = {10.0f}, third = {13.0f};
  predictor->InitState(first, Spans(model));
  EXPECT_EQ(at(8), 8);
  // Not committed: o = 8. d = 2, b = 2: 8 + ½·(2 + 1) = 9.5.
  predictor->AdvanceState(first, second, Spans(model));
  EXPECT_EQ(at(10), 9.5f);
  // Committed: o = 9.5. d = 3.5, b = 1 + 3.5 = 4.5: 9.5 + ½·(3.5 + 2.25) = 12.375.
  const std::vector<float> anchor = {9.5f};
  predictor->AdvanceState(anchor, third, Spans(model));
  EXPECT_EQ(at(13), 12.375f);
}

TEST(OuterNesterovTest, WithEtaOneAndMuZeroItChangesNothing) {  // policies.md section 4.1
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const TestModel model = RandomModel(seed);
    EXPECT_EQ(Bits(PredictWhole(*Outer(1, 0), model, 0)), Bits(model.snapshots[0]))
        << "seed " << seed;
  }
}

// o + η·(d + μ·b) as written, in double, with the state kept in double as well.
TEST(OuterNesterovTest, FollowsTheRecursionOverAWholeRun) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    TestModel model = RandomModel(seed, 3, 1);
    const auto predictor = Outer(0.8, 0.5);
    predictor->InitState(model.snapshots[0], Spans(model));
    const size_t size = model.snapshots[0].size();
    std::vector<double> outer(model.snapshots[0].begin(), model.snapshots[0].end());
    std::vector<double> momentum(size);
    std::mt19937_64 random(seed);
    std::normal_distribution<float> noise(0, 0.01f);
    for (int snapshot = 0; snapshot < 20; ++snapshot) {
      const bool committed = random() % 3 != 0;
      const std::vector<float> anchor =
          committed ? PredictWhole(*predictor, model, 0) : model.snapshots[0];
      for (size_t i = 0; i < size; ++i) {
        outer[i] = anchor[i];
        model.snapshots[0][i] = anchor[i] + noise(random);
      }
      predictor->AdvanceState(anchor, model.snapshots[0], Spans(model));
      const std::vector<float> predicted = PredictWhole(*predictor, model, 0);
      for (size_t i = 0; i < size; ++i) {
        const double d = model.snapshots[0][i] - outer[i];
        momentum[i] = 0.5 * momentum[i] + d;
        EXPECT_NEAR(predicted[i], outer[i] + 0.8 * (d + 0.5 * momentum[i]), 1e-7);
      }
    }
  }
}

TEST(OuterNesterovTest, EqualsItsNaiveTwin) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    TestModel model = RandomModel(seed);
    const float c1 = static_cast<float>(0.8 - 1.0), c2 = static_cast<float>(0.8 * 0.5);
    std::vector<float> twin, outer, momentum;
    for (size_t i = 0; i < model.snapshots[0].size(); ++i) {
      const float anchor = model.snapshots[1][i], theta = model.snapshots[0][i];
      const float d = Rounded(theta - anchor);
      const float b = Rounded(Rounded(0.5f * model.state[1][i]) + d);
      outer.push_back(anchor);
      momentum.push_back(b);
      twin.push_back(Rounded(theta + Rounded(Rounded(c1 * d) + Rounded(c2 * b))));
    }
    const auto predictor = Outer(0.8, 0.5);
    predictor->AdvanceState(model.snapshots[1], model.snapshots[0], Spans(model));
    EXPECT_EQ(Bits(model.state[0]), Bits(outer));
    EXPECT_EQ(Bits(model.state[1]), Bits(momentum));
    EXPECT_EQ(Bits(PredictWhole(*predictor, model, 0)), Bits(twin)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace leap
