#include "core/layout.h"

#include <algorithm>

#include "gtest/gtest.h"

namespace leap {
namespace {

constexpr int64_t kSizes[] = {0,
                              1,
                              kBlockFloats - 1,
                              kBlockFloats,
                              kBlockFloats + 1,
                              7 * kBlockFloats,
                              10 * kBlockFloats + 5,
                              124'439'808};  // GPT-2's
constexpr int kWorlds[] = {1, 2, 3, 7, 8, 64};

TEST(ShardOfTest, HandComputed) {
  constexpr int64_t kSize = 5 * kBlockFloats + 3;  // six blocks, the last of three floats
  EXPECT_EQ(ShardOf(kSize, 0, 4), (FlatRange{0, 2 * kBlockFloats}));
  EXPECT_EQ(ShardOf(kSize, 1, 4), (FlatRange{2 * kBlockFloats, 4 * kBlockFloats}));
  EXPECT_EQ(ShardOf(kSize, 2, 4), (FlatRange{4 * kBlockFloats, 5 * kBlockFloats}));
  EXPECT_EQ(ShardOf(kSize, 3, 4), (FlatRange{5 * kBlockFloats, kSize}));
}

TEST(ShardOfTest, ShardsFollowOneAnotherAndCoverTheVector) {
  for (const int64_t size : kSizes) {
    for (const int world : kWorlds) {
      int64_t covered = 0;
      for (int rank = 0; rank < world; ++rank) {
        const FlatRange shard = ShardOf(size, rank, world);
        EXPECT_EQ(shard.begin, covered) << size << " floats, rank " << rank << " of " << world;
        covered = shard.end;
      }
      EXPECT_EQ(covered, size);
    }
  }
}

TEST(ShardOfTest, ShardsAreWholeBlocksOfAlmostEqualNumber) {
  for (const int64_t size : kSizes) {
    for (const int world : kWorlds) {
      int64_t most = 0, fewest = size;
      for (int rank = 0; rank < world; ++rank) {
        const FlatRange shard = ShardOf(size, rank, world);
        EXPECT_TRUE(shard.size() == 0 || shard.begin % kBlockFloats == 0);
        EXPECT_TRUE(shard.end == size || shard.end % kBlockFloats == 0);
        const int64_t blocks = (shard.size() + kBlockFloats - 1) / kBlockFloats;
        most = std::max(most, blocks);
        fewest = std::min(fewest, blocks);
      }
      EXPECT_LE(most - fewest, 1) << size << " floats over " << world;
    }
  }
}

TEST(ShardOfTest, ARankBeyondTheBlocksGetsNothing) {
  EXPECT_EQ(ShardOf(100, 0, 3), (FlatRange{0, 100}));
  EXPECT_EQ(ShardOf(100, 2, 3).size(), 0);
}

}  // namespace
}  // namespace leap
