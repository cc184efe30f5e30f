#include "coordinator/machine/corruption.h"

#include "gtest/gtest.h"

namespace leap::machine {
namespace {

// `world` ranks that digest their own shard, the next one and, with `thirds`, the one after: shard
// s has the digest 100 + s.
std::map<int, SnapshotTaken> Healthy(int world, bool thirds) {
  std::map<int, SnapshotTaken> shards;
  for (int rank = 0; rank < world; ++rank) {
    SnapshotTaken& taken = shards[rank];
    taken.rank = rank;
    taken.weights_digest = 100 + static_cast<uint64_t>(rank);
    for (int step = 1; step <= (thirds ? 2 : 1) && step < world; ++step) {
      const int other = (rank + step) % world;
      taken.others.push_back({other, 100 + static_cast<uint64_t>(other)});
    }
  }
  return shards;
}

// A bit of `rank`'s replica flips in the range of `shard`.
void Flip(std::map<int, SnapshotTaken>& shards, int rank, int shard) {
  if (rank == shard) shards[rank].weights_digest ^= 1;
  for (ShardDigest& other : shards[rank].others) {
    if (other.rank == shard) other.digest ^= 1;
  }
}

TEST(Corruption, NothingToSayOfHealthyRanks) {
  for (const int world : {1, 2, 3, 4, 8}) {
    EXPECT_FALSE(FindCorruption(Healthy(world, false)).has_value()) << world;
    EXPECT_FALSE(FindCorruption(Healthy(world, true)).has_value()) << world;
  }
}

TEST(Corruption, WithThreeOpinionsTheOddOneOutIsNamedWhereverItsBitFlipped) {
  for (const int world : {3, 4, 8}) {
    for (int rank = 0; rank < world; ++rank) {
      for (int step = 0; step <= 2; ++step) {
        auto shards = Healthy(world, true);
        Flip(shards, rank, (rank + step) % world);
        const auto found = FindCorruption(shards);
        ASSERT_TRUE(found.has_value());
        EXPECT_EQ(found->odd_rank, rank) << found->reason;
      }
    }
  }
  auto shards = Healthy(3, true);
  Flip(shards, 2, 0);
  EXPECT_EQ(FindCorruption(shards)->reason,
            "rank 2 digests shard 0 differently from ranks 0 and 1");
}

TEST(Corruption, OfTwoOpinionsNobodyCanTell) {
  auto shards = Healthy(2, false);
  Flip(shards, 1, 1);
  const auto found = FindCorruption(shards);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->odd_rank, -1);
  EXPECT_EQ(found->reason,
            "ranks 0 and 1 digest shard 1 differently, and nobody can tell who is right");
}

TEST(Corruption, TwoShardsInDisputeHaveOneSuspectInCommon) {
  auto shards = Healthy(4, false);
  Flip(shards, 2, 2);  // ranks 1 and 2 differ
  Flip(shards, 2, 3);  // ranks 2 and 3 differ
  EXPECT_EQ(FindCorruption(shards)->odd_rank, 2);
}

TEST(Corruption, TwoCorruptRanksAtOnceCannotBeTold) {
  auto shards = Healthy(8, true);
  Flip(shards, 2, 2);
  Flip(shards, 5, 5);
  EXPECT_EQ(FindCorruption(shards)->odd_rank, -1);
}

TEST(Corruption, ADigestOfNoRanksShardCountsForNothing) {
  auto shards = Healthy(3, true);
  shards[0].others.push_back({7, 1});
  shards[0].others.push_back({0, 1});  // a second opinion of its own
  EXPECT_FALSE(FindCorruption(shards).has_value());
}

}  // namespace
}  // namespace leap::machine
