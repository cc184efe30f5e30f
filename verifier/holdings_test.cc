#include "verifier/holdings.h"

#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;

Floats Of(std::vector<float> values) {
  return std::make_shared<const std::vector<float>>(std::move(values));
}

v1::FetchRequest Request(v1::Buffer buffer, int64_t begin, int64_t end, uint64_t epoch = 2) {
  v1::FetchRequest request;
  request.set_job("job");
  request.set_epoch(epoch);
  request.set_step(50);
  request.set_buffer(buffer);
  request.set_begin(begin);
  request.set_end(end);
  return request;
}

struct HoldingsTest : ::testing::Test {
  HoldingsTest() {
    store.Reset("job", 2);
    store.Put({.step = 50,
               .epoch = 2,
               .weights_digest = 1,
               .weights = Of({1, 2, 3, 4}),
               .exp_avg = Of({5, 6, 7, 8}),
               .exp_avg_sq = Of({9, 9, 9, 9}),
               .state = {Of({0, 1, 0, 1})}});
  }
  SnapshotStore store;
  Holdings holdings{&store};
};

TEST_F(HoldingsTest, PinsARangeThatOutlivesTheRing) {
  ASSERT_OK_AND_ASSIGN(const PinnedRange pinned, holdings.Pin(Request(v1::BUFFER_WEIGHTS, 1, 3)));
  store.Reset("", 1);
  EXPECT_THAT(std::vector<float>(pinned.values.begin(), pinned.values.end()), ElementsAre(2, 3));
  EXPECT_EQ(pinned.range, (FlatRange{1, 3}));
}

TEST_F(HoldingsTest, WeightsAreServedInAnyEpochMomentsOnlyInTheirs) {
  EXPECT_OK(holdings.Pin(Request(v1::BUFFER_WEIGHTS, 0, 4, 3)));
  EXPECT_OK(holdings.Pin(Request(v1::BUFFER_STATE_0, 0, 4, 3)));
  EXPECT_OK(holdings.Pin(Request(v1::BUFFER_EXP_AVG, 0, 4, 2)));
  EXPECT_EQ(holdings.Pin(Request(v1::BUFFER_EXP_AVG, 0, 4, 3)).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(HoldingsTest, WhatIsNotHeldIsNotFound) {
  for (v1::FetchRequest request :
       {Request(v1::BUFFER_STATE_1, 0, 4), Request(v1::BUFFER_UNSPECIFIED, 0, 4)}) {
    EXPECT_EQ(holdings.Pin(request).status().code(), absl::StatusCode::kNotFound);
  }
  v1::FetchRequest other = Request(v1::BUFFER_WEIGHTS, 0, 4);
  other.set_job("other");
  EXPECT_EQ(holdings.Pin(other).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(HoldingsTest, RangesBeyondTheBufferAreOutOfRange) {
  for (const auto& [begin, end] :
       std::vector<std::pair<int64_t, int64_t>>{{-1, 2}, {3, 2}, {0, 5}}) {
    EXPECT_EQ(holdings.Pin(Request(v1::BUFFER_WEIGHTS, begin, end)).status().code(),
              absl::StatusCode::kOutOfRange);
  }
}

TEST_F(HoldingsTest, ListsWhatIsHeld) {
  const std::vector<v1::Holding> list = holdings.ListHoldings("job");
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].end(), 4);
  EXPECT_EQ(list[0].buffers_size(), 4);
  EXPECT_TRUE(holdings.ListHoldings("other").empty());
}

}  // namespace
}  // namespace leap
