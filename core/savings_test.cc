#include "core/savings.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::DoubleNear;
using ::testing::Eq;
using ::testing::Optional;

// A fall of 0.001 nats a step, a point every 10 steps.
std::vector<LossPoint> Falling(int points) {
  std::vector<LossPoint> curve;
  for (int i = 0; i < points; ++i) curve.push_back({.step = 10 * i, .loss = 3.0 - 0.01 * i});
  return curve;
}

TEST(SavingsTest, AGainIsWorthTheStepsThatFallAsMuch) {
  EXPECT_THAT(EquivalentSteps(Falling(10), 90, 0.02), Optional(DoubleNear(20, 1e-9)));
  EXPECT_THAT(EquivalentSteps(Falling(10), 90, 0), Optional(DoubleNear(0, 1e-9)));
}

TEST(SavingsTest, ALossIsWorthNegativeSteps) {
  EXPECT_THAT(EquivalentSteps(Falling(10), 90, -0.03), Optional(DoubleNear(-30, 1e-9)));
}

TEST(SavingsTest, TheSlopeIsLeastSquaresOverTheLastWindowUpToTheStep) {
  std::vector<LossPoint> curve = Falling(10);
  curve[0].loss = 100;         // before the window
  curve.push_back({100, 50});  // after the step
  EXPECT_THAT(EquivalentSteps(curve, 90, 0.02, 4), Optional(DoubleNear(20, 1e-9)));
  // Losses 4, 2, 1 at 0, 1, 2: slope -1.5.
  EXPECT_THAT(EquivalentSteps({{0, 4}, {1, 2}, {2, 1}}, 2, 3), Optional(DoubleNear(2, 1e-12)));
}

TEST(SavingsTest, NotKnownWhileTheCurveDoesNotFall) {
  EXPECT_THAT(EquivalentSteps({{0, 1}, {10, 2}, {20, 3}}, 20, 0.1), Eq(std::nullopt));
  EXPECT_THAT(EquivalentSteps({{0, 1}, {10, 1}, {20, 1}}, 20, 0.1), Eq(std::nullopt));
}

TEST(SavingsTest, NotKnownOnAPlateauWhereItWouldBeAnyNumber) {
  // Falls by 1e-5 a step among deviations of 0.01: a loss of 0.02 is not "2000 steps lost".
  const std::vector<LossPoint> plateau = {{0, 0.70},  {10, 0.68}, {20, 0.70}, {30, 0.69},
                                          {40, 0.68}, {50, 0.70}, {60, 0.69}};
  EXPECT_THAT(EquivalentSteps(plateau, 60, -0.02, 7), Eq(std::nullopt));
  // Losses 4, 1, 1: slope -1.5, standard error 0.87.
  EXPECT_THAT(EquivalentSteps({{0, 4}, {1, 1}, {2, 1}}, 2, 3), Eq(std::nullopt));
}

TEST(SavingsTest, NotKnownFromFewerThanThreePoints) {
  EXPECT_THAT(EquivalentSteps({}, 0, 1), Eq(std::nullopt));
  EXPECT_THAT(EquivalentSteps(Falling(10), 10, 1), Eq(std::nullopt));
  EXPECT_THAT(EquivalentSteps(Falling(10), 90, 1, 2), Eq(std::nullopt));
}

TEST(SavingsTest, NotKnownFromLossesThatAreNotNumbers) {
  std::vector<LossPoint> curve = Falling(5);
  curve[4].loss = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(EquivalentSteps(curve, 40, 1), Eq(std::nullopt));
  EXPECT_THAT(EquivalentSteps({{5, 3}, {5, 2}, {5, 1}}, 5, 1), Eq(std::nullopt));
}

}  // namespace
}  // namespace leap
