#include "coordinator/machine/loss_spike.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap::machine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class LossSpikeTest : public ::testing::Test {
 protected:
  // One report, half a second and ten steps after the one before.
  std::string Report(double loss) {
    now_ += absl::Seconds(0.5);
    return watch_.Observe(now_, step_ += 10, loss, options_);
  }
  // Noise of deviation 0.01 or so around `level`; nothing may come of it.
  void Calm(int reports, double level = 2) {
    for (int i = 0; i < reports; ++i) {
      EXPECT_EQ(Report(level + 0.01 * ((i * 7) % 5 - 2)), "") << i;
      EXPECT_EQ(watch_.above_since(), std::nullopt) << i;
    }
  }

  SpikeOptions options_;
  SpikeWatch watch_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
  int64_t step_ = 0;
};

TEST_F(LossSpikeTest, FourReportsInARowAboveTheLimitAreASpike) {
  Calm(20);
  EXPECT_EQ(Report(2.5), "");
  EXPECT_EQ(watch_.above_since(), 210);
  EXPECT_EQ(Report(2.4), "");
  EXPECT_EQ(Report(2.6), "");
  EXPECT_THAT(Report(3.25), AllOf(HasSubstr("3.2500 at step 240"), HasSubstr("since step 210"),
                                  HasSubstr("4 reports in a row"), HasSubstr("last 20 calm")));
}

TEST_F(LossSpikeTest, OneCalmReportEndsIt) {
  Calm(20);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Report(5), "");
    EXPECT_EQ(Report(5), "");
    EXPECT_EQ(Report(5), "");
    EXPECT_EQ(Report(2), "");
    EXPECT_EQ(watch_.above_since(), std::nullopt);
  }
}

TEST_F(LossSpikeTest, TheLimitIsSixRobustDeviationsAndAtLeastFivePercent) {
  Calm(64);  // 1.4826 * 0.01 * 6 = 0.089: five percent are more
  EXPECT_EQ(Report(2.099), "");
  EXPECT_EQ(watch_.above_since(), std::nullopt);
  EXPECT_EQ(Report(2.101), "");
  EXPECT_NE(watch_.above_since(), std::nullopt);
  SpikeWatch noisy;
  for (int64_t step = 1; step <= 64; ++step)
    noisy.Observe(now_, step, step % 2 == 0 ? 1.9 : 2.1, options_);  // a deviation of 0.148
  noisy.Observe(now_, 65, 2.88, options_);
  EXPECT_EQ(noisy.above_since(), std::nullopt);
  noisy.Observe(now_, 66, 2.90, options_);
  EXPECT_EQ(noisy.above_since(), 66);
}

TEST_F(LossSpikeTest, ALongSpikeDoesNotRaiseItsOwnLimit) {
  Calm(20);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Report(4), "");
  for (int i = 0; i < 100; ++i) EXPECT_NE(Report(4), "") << i;
}

TEST_F(LossSpikeTest, NothingIsSaidBeforeThereIsEnoughToCompareWith) {
  Calm(15);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(Report(i % 2 == 0 ? 2 : 9), "");  // the first two are compared with nothing
  }
}

TEST_F(LossSpikeTest, AFallingLossIsNoSpikeNorIsASlowRise) {
  for (int i = 0; i < 200; ++i) EXPECT_EQ(Report(2 + 4.0 / (1 + i)), "");
  for (int i = 0; i < 400; ++i) EXPECT_EQ(Report(2.02 + 0.0005 * i), "") << i;
}

TEST_F(LossSpikeTest, AReportOfTheSameStepCountsOnce) {  // a paused job, a doubled message
  Calm(20);
  EXPECT_EQ(Report(9), "");
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(watch_.Observe(now_ += absl::Minutes(1), step_, 9, options_), "");
}

TEST_F(LossSpikeTest, WhatIsNotFiniteIsLeftToTheRuleForNan) {
  Calm(20);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Report(std::numeric_limits<double>::quiet_NaN()), "");
  EXPECT_EQ(watch_.above_since(), std::nullopt);
}

TEST_F(LossSpikeTest, GraceIsHowLongItMayLast) {
  options_.grace = absl::Seconds(10);
  Calm(20);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Report(9), "") << i;  // 9.5 s
  EXPECT_NE(Report(9), "");
}

}  // namespace
}  // namespace leap::machine
