#include "core/schedule.h"

#include <cmath>

#include "gtest/gtest.h"

namespace leap {
namespace {

TrainSpec Spec(LrSchedule schedule) {
  TrainSpec train;
  train.steps = 1000;
  train.lr = 0.5;
  train.schedule = schedule;
  train.warmup_steps = 100;
  train.decay_fraction = 0.2;
  train.min_lr_fraction = 0.1;
  return train;
}

TEST(ScheduleTest, WarmsUpLinearlyFromTheFirstStep) {
  for (const LrSchedule schedule : {LrSchedule::kConstant, LrSchedule::kCosine, LrSchedule::kWsd}) {
    EXPECT_DOUBLE_EQ(LearningRate(Spec(schedule), 0), 0.005);
    EXPECT_DOUBLE_EQ(LearningRate(Spec(schedule), 49), 0.25);
    EXPECT_DOUBLE_EQ(LearningRate(Spec(schedule), 99), 0.5);
    EXPECT_DOUBLE_EQ(LearningRate(Spec(schedule), 100), 0.5);
  }
}

TEST(ScheduleTest, ConstantStaysThere) {
  EXPECT_EQ(LearningRate(Spec(LrSchedule::kConstant), 999), 0.5);
  EXPECT_EQ(LearningRate(Spec(LrSchedule::kConstant), 5000), 0.5);
}

TEST(ScheduleTest, CosineFallsToTheFloor) {  // the paper's, with its floor of 10 %
  const TrainSpec train = Spec(LrSchedule::kCosine);
  EXPECT_DOUBLE_EQ(LearningRate(train, 550), 0.5 * (0.1 + 0.9 * 0.5));  // half way
  EXPECT_NEAR(LearningRate(train, 325), 0.5 * (0.1 + 0.9 * 0.5 * (1 + std::sqrt(0.5))), 1e-12);
  EXPECT_DOUBLE_EQ(LearningRate(train, 1000), 0.05);
  EXPECT_DOUBLE_EQ(LearningRate(train, 2000), 0.05);
}

TEST(ScheduleTest, WsdDecaysLinearlyOverTheLastFraction) {
  const TrainSpec train = Spec(LrSchedule::kWsd);
  EXPECT_EQ(LearningRate(train, 799), 0.5);
  EXPECT_EQ(LearningRate(train, 800), 0.5);
  EXPECT_DOUBLE_EQ(LearningRate(train, 900), 0.5 * 0.55);
  EXPECT_DOUBLE_EQ(LearningRate(train, 1000), 0.05);
}

TEST(ScheduleTest, EveryScheduleIsContinuousAndWithinItsBounds) {
  for (const LrSchedule schedule : {LrSchedule::kConstant, LrSchedule::kCosine, LrSchedule::kWsd}) {
    for (const int64_t warmup : {0, 1, 100, 900, 1000, 2000}) {
      TrainSpec train = Spec(schedule);
      train.warmup_steps = warmup;
      for (int64_t step = 0; step < 1200; ++step) {
        const double rate = LearningRate(train, step);
        EXPECT_GT(rate, 0);
        EXPECT_LE(rate, 0.5);
        const double change = std::fabs(LearningRate(train, step + 1) - rate);
        EXPECT_TRUE(change < 0.01 || warmup >= 800) << "step " << step << ", warm-up " << warmup;
      }
    }
  }
}

TEST(ScheduleTest, WithoutWarmupOrDecayItIsConstant) {
  TrainSpec train = Spec(LrSchedule::kWsd);
  train.warmup_steps = 0;
  train.decay_fraction = 0;
  EXPECT_EQ(LearningRate(train, 0), 0.5);
  EXPECT_EQ(LearningRate(train, 999), 0.5);
}

}  // namespace
}  // namespace leap
