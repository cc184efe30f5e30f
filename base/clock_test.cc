#include "base/clock.h"

#include <thread>

#include "base/fake_clock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

TEST(RealClock, SleepsAtLeastAsLongAsAsked) {
  const absl::Time before = RealClock().Now();

  RealClock().SleepFor(absl::Milliseconds(1));

  EXPECT_GE(RealClock().Now() - before, absl::Milliseconds(1));
}

TEST(FakeClock, StandsStillUntilAdvanced) {
  FakeClock clock(absl::FromUnixSeconds(100));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(100));

  clock.Advance(absl::Seconds(5));

  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(105));
}

TEST(FakeClock, WakesASleeperWhenItsTimeHasCome) {
  FakeClock clock;
  bool awake = false;
  std::thread sleeper([&] {
    clock.SleepFor(absl::Hours(2));
    awake = true;
  });
  clock.WaitForSleepers(1);

  clock.Advance(absl::Hours(1));
  clock.Advance(absl::Hours(1));
  sleeper.join();

  EXPECT_TRUE(awake);
}

}  // namespace
}  // namespace leap
