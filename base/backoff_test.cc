#include "base/backoff.h"

#include "gtest/gtest.h"

namespace leap {
namespace {

TEST(Backoff, DoublesUpToTheMaximum) {
  Backoff backoff({.initial = absl::Milliseconds(100),
                   .max = absl::Milliseconds(350),
                   .multiplier = 2,
                   .jitter = 0},
                  /*seed=*/1);

  EXPECT_EQ(backoff.Next(), absl::Milliseconds(100));
  EXPECT_EQ(backoff.Next(), absl::Milliseconds(200));
  EXPECT_EQ(backoff.Next(), absl::Milliseconds(350));
  EXPECT_EQ(backoff.Next(), absl::Milliseconds(350));
}

TEST(Backoff, StartsAgainAfterReset) {
  Backoff backoff({.initial = absl::Seconds(1), .max = absl::Seconds(9), .jitter = 0}, /*seed=*/1);
  backoff.Next();
  backoff.Next();

  backoff.Reset();

  EXPECT_EQ(backoff.Next(), absl::Seconds(1));
}

TEST(Backoff, JitterStaysWithinItsBoundsAndVaries) {
  const BackoffOptions options{.initial = absl::Seconds(1), .max = absl::Seconds(1), .jitter = 0.5};
  Backoff backoff(options, /*seed=*/7);

  absl::Duration shortest = absl::InfiniteDuration(), longest;
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration delay = backoff.Next();
    shortest = std::min(shortest, delay);
    longest = std::max(longest, delay);
  }

  EXPECT_GE(shortest, absl::Milliseconds(500));
  EXPECT_LT(shortest, absl::Milliseconds(510));
  EXPECT_LE(longest, absl::Seconds(1));
  EXPECT_GT(longest, absl::Milliseconds(990));
}

TEST(Backoff, TheSameSeedGivesTheSameDelays) {
  Backoff a({}, /*seed=*/42), b({}, /*seed=*/42), c({}, /*seed=*/43);

  EXPECT_EQ(a.Next(), b.Next());
  EXPECT_EQ(a.Next(), b.Next());
  EXPECT_NE(a.Next(), c.Next());
}

}  // namespace
}  // namespace leap
