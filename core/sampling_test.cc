#include "core/sampling.h"

#include <algorithm>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAreArray;

std::vector<int64_t> Global(uint64_t seed, int64_t position, int64_t windows, int64_t batch) {
  return BatchWindows(seed, position, windows, batch, 0, 1);
}

// The windows of `batches` batches in a row.
std::vector<int64_t> Stream(uint64_t seed, int64_t batches, int64_t windows, int64_t batch) {
  std::vector<int64_t> stream;
  for (int64_t position = 0; position < batches; ++position) {
    const std::vector<int64_t> next = Global(seed, position, windows, batch);
    stream.insert(stream.end(), next.begin(), next.end());
  }
  return stream;
}

TEST(SamplingTest, EveryEpochVisitsEveryWindowOnce) {
  for (const int64_t windows : {1, 2, 3, 4, 5, 16, 17, 100, 257, 1000}) {
    const std::vector<int64_t> stream = Stream(7, 3 * windows, windows, 1);
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      std::set<int64_t> seen(stream.begin() + epoch * windows,
                             stream.begin() + (epoch + 1) * windows);
      EXPECT_EQ(static_cast<int64_t>(seen.size()), windows);
      EXPECT_EQ(*seen.begin(), 0);
      EXPECT_EQ(*seen.rbegin(), windows - 1);
    }
  }
}

TEST(SamplingTest, BatchesWrapIntoTheNextEpochWithoutSkippingOrRepeating) {
  // Seven windows in batches of three: the stream does not depend on how it is cut.
  const std::vector<int64_t> one_by_one = Stream(3, 21, 7, 1);
  EXPECT_THAT(Stream(3, 7, 7, 3), ElementsAreArray(one_by_one));
  EXPECT_THAT(Stream(3, 1, 7, 21), ElementsAreArray(one_by_one));
}

TEST(SamplingTest, AnyWorldSizeTrainsOnTheSameSamplesInTheSameOrder) {
  for (const int64_t batch : {1, 5, 16, 33}) {
    for (int64_t position = 0; position < 20; ++position) {
      const std::vector<int64_t> whole = Global(11, position, 100, batch);
      for (const int world : {1, 2, 3, 7, 40}) {
        std::vector<int64_t> together;
        size_t most = 0, fewest = whole.size();
        for (int rank = 0; rank < world; ++rank) {
          const std::vector<int64_t> part = BatchWindows(11, position, 100, batch, rank, world);
          together.insert(together.end(), part.begin(), part.end());
          most = std::max(most, part.size());
          fewest = std::min(fewest, part.size());
        }
        EXPECT_THAT(together, ElementsAreArray(whole));
        EXPECT_LE(most - fewest, 1u);
      }
    }
  }
}

TEST(SamplingTest, SeedsAndEpochsGiveDifferentOrders) {
  EXPECT_NE(Global(1, 0, 1000, 50), Global(2, 0, 1000, 50));
  EXPECT_NE(Global(1, 0, 1000, 50), Global(1, 20, 1000, 50));  // same place, next epoch
  EXPECT_EQ(Global(1, 5, 1000, 50), Global(1, 5, 1000, 50));
}

// Over many seeds every window comes first about equally often (chi-squared, 9 degrees of freedom:
// 27.9 has a probability of 0.1 %).
TEST(SamplingTest, TheOrderIsNearUniform) {
  constexpr int kWindows = 10, kSeeds = 10'000;
  for (const int64_t place : {0, 5, 9}) {
    std::vector<int> count(kWindows);
    for (uint64_t seed = 0; seed < kSeeds; ++seed) ++count[Global(seed, place, kWindows, 1)[0]];
    double chi = 0;
    for (const int seen : count) chi += (seen - 1000.0) * (seen - 1000.0) / 1000.0;
    EXPECT_LT(chi, 27.9) << "place " << place;
  }
}

TEST(SamplingTest, NeighboursAreSpreadOut) {
  const std::vector<int64_t> stream = Stream(5, 1, 10'000, 10'000);
  double correlation = 0;
  for (size_t i = 1; i < stream.size(); ++i) {
    correlation +=
        (static_cast<double>(stream[i - 1]) - 4999.5) * (static_cast<double>(stream[i]) - 4999.5);
  }
  correlation /= 10'000.0 * (10'000.0 * 10'000.0 / 12);
  EXPECT_LT(std::abs(correlation), 0.04);  // four standard deviations
}

// Written into checkpoints' meaning: if this changes, resumed runs see other data.
TEST(SamplingTest, TheOrderIsFixedForever) {
  EXPECT_EQ(Global(42, 0, 1000, 8), (std::vector<int64_t>{457, 203, 940, 928, 782, 198, 303, 643}));
}

TEST(SamplingTest, FarAlongALargeCorpus) {
  const int64_t windows = 1'000'000'007;
  for (const int64_t window : Global(1, 100'000'000, windows, 64)) {
    EXPECT_GE(window, 0);
    EXPECT_LT(window, windows);
  }
}

}  // namespace
}  // namespace leap
