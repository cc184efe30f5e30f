#include "base/signals.h"

#include <signal.h>

#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::Optional;

TEST(StopSignal, NothingComesUntilAsked) {
  StopSignal stop;

  EXPECT_FALSE(stop.requested());
  EXPECT_EQ(stop.WaitFor(absl::Milliseconds(1)), std::nullopt);
}

TEST(StopSignal, TellsWhichSignalCameAndKeepsTellingIt) {
  StopSignal stop;

  ASSERT_EQ(raise(SIGTERM), 0);

  EXPECT_TRUE(stop.requested());
  EXPECT_EQ(stop.Wait(), SIGTERM);
  EXPECT_THAT(stop.WaitFor(absl::ZeroDuration()), Optional(SIGTERM));
}

TEST(StopSignal, AClosedTerminalAsksOnceHoweverOftenItIsTold) {
  StopSignal stop;

  for (int i = 0; i < 3; ++i) ASSERT_EQ(raise(SIGHUP), 0);

  EXPECT_EQ(stop.Wait(), SIGHUP);
}

TEST(StopSignal, NohupStaysInForce) {
  signal(SIGHUP, SIG_IGN);
  {
    StopSignal stop;
    ASSERT_EQ(raise(SIGHUP), 0);
    EXPECT_FALSE(stop.requested());
  }
  EXPECT_EQ(signal(SIGHUP, SIG_DFL), SIG_IGN);
}

TEST(StopSignal, WakesAWaitingThread) {
  StopSignal stop;
  std::thread waiter([&] { EXPECT_EQ(stop.Wait(), 0); });

  stop.Request();

  waiter.join();
}

TEST(StopSignal, CanBeMadeAgain) {
  {
    StopSignal stop;
    stop.Request();
  }
  StopSignal again;

  EXPECT_FALSE(again.requested());
}

TEST(StopSignalDeathTest, ASecondSignalEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        StopSignal stop;
        raise(SIGINT);
        raise(SIGINT);
      },
      ::testing::KilledBySignal(SIGINT), "");
}

}  // namespace
}  // namespace leap
