#include "verifier/fetch.h"

#include "base/error_reason.h"
#include "base/fake_clock.h"
#include "base/status_matchers.h"
#include "core/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;

constexpr int64_t kSize = 3;

v1::ShardSource Source(const std::string& address, int rank) {
  v1::ShardSource source;
  source.set_data_address(address);
  source.set_begin(0);
  source.set_end(kSize);
  source.set_rank(rank);
  return source;
}

struct FetchTest : ::testing::Test {
  // Fills from the first source: verifiers hold `verifier_value`, main workers 1.
  BufferFetcher Fetcher() {
    return [this](const BufferRequest& request, std::span<const v1::ShardSource> from,
                  std::span<float> out) {
      timeouts.push_back(request.timeout);
      std::vector<std::string> order;
      for (const v1::ShardSource& source : from) order.push_back(source.data_address());
      orders.push_back(order);
      const bool verifier = !from.empty() && from[0].rank() < 0;
      std::fill(out.begin(), out.end(), verifier ? verifier_value : 1.0f);
      return from.empty() ? absl::UnavailableError("no sources") : absl::OkStatus();
    };
  }
  absl::StatusOr<std::vector<float>> Fetch(std::optional<uint64_t> expected, uint64_t spread = 0) {
    return FetchWhole({.job = "job", .step = 50, .size = kSize}, expected, sources, spread,
                      Fetcher(), control);
  }

  FakeClock clock;
  TaskControl control{clock, clock.Now() + absl::Seconds(30)};
  std::vector<v1::ShardSource> sources = {Source("rank0", 0), Source("rank1", 1), Source("v0", -1),
                                          Source("v1", -1)};
  float verifier_value = 1.0f;
  std::vector<std::vector<std::string>> orders;
  std::vector<absl::Duration> timeouts;
  const uint64_t digest = DigestOf(std::vector<float>(kSize, 1.0f), {0, kSize});
};

TEST_F(FetchTest, AsksVerifiersFirstAndSpreadsOverThem) {
  EXPECT_OK(Fetch(digest, 1));
  ASSERT_EQ(orders.size(), 1u);
  EXPECT_THAT(orders[0], ElementsAre("v1", "v0", "rank0", "rank1"));
}

TEST_F(FetchTest, WithoutVerifiersAsksTheRanks) {
  sources.resize(2);
  EXPECT_OK(Fetch(digest));
  EXPECT_THAT(orders[0], ElementsAre("rank0", "rank1"));
}

TEST_F(FetchTest, AWrongDigestIsFetchedAgainFromMainWorkersAlone) {
  verifier_value = 2.0f;
  const auto got = Fetch(digest);
  ASSERT_OK(got);
  EXPECT_THAT(*got, ElementsAre(1.0f, 1.0f, 1.0f));
  ASSERT_EQ(orders.size(), 2u);
  EXPECT_THAT(orders[1], ElementsAre("rank0", "rank1"));
}

TEST_F(FetchTest, AWrongDigestFromMainWorkersTooIsDataLoss) {
  const auto got = Fetch(digest + 1);
  EXPECT_EQ(got.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ReasonOf(got.status()), ErrorReason::kDigestMismatch);
}

TEST_F(FetchTest, WhatCannotBeCheckedComesFromMainWorkersAlone) {
  verifier_value = 2.0f;
  const auto got = Fetch(std::nullopt);
  ASSERT_OK(got);
  EXPECT_EQ((*got)[0], 1.0f);
  EXPECT_EQ(orders.size(), 1u);
}

TEST_F(FetchTest, VerifiersThatNoLongerHoldItAreNoObstacle) {
  const BufferFetcher gone = [this](const BufferRequest&, std::span<const v1::ShardSource> from,
                                    std::span<float> out) {
    std::fill(out.begin(), out.end(), 1.0f);
    return from[0].rank() < 0 ? absl::NotFoundError("no longer held") : absl::OkStatus();
  };
  EXPECT_OK(FetchWhole({.size = kSize}, digest, sources, 0, gone, control));
}

TEST_F(FetchTest, NeverWaitsBeyondTheTasksDeadline) {
  EXPECT_OK(Fetch(digest));
  EXPECT_EQ(timeouts[0], absl::Seconds(30));
  clock.Advance(absl::Seconds(31));
  EXPECT_EQ(Fetch(digest).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(FetchTest, ACancelledTaskSaysSoRatherThanWhatBroke) {
  const BufferFetcher broken = [this](const BufferRequest&, std::span<const v1::ShardSource>,
                                      std::span<float>) {
    control.Cancel("superseded");
    return absl::UnavailableError("broken pipe");
  };
  const auto got = FetchWhole({.size = kSize}, digest, sources, 0, broken, control);
  EXPECT_EQ(got.status(), absl::CancelledError("superseded"));
}

}  // namespace
}  // namespace leap
