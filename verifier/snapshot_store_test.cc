#include "verifier/snapshot_store.h"

#include "gtest/gtest.h"

namespace leap {
namespace {

Floats Of(float value) { return std::make_shared<const std::vector<float>>(4, value); }

HeldSnapshot At(int64_t step, uint64_t digest) {
  return {.step = step, .epoch = 1, .weights_digest = digest, .weights = Of(1.0f)};
}

TEST(SnapshotStore, FindsByStepAndDigest) {
  SnapshotStore store;
  store.Reset("job", 3);
  store.Put(At(50, 7));
  EXPECT_TRUE(store.Find(50, 7).has_value());
  EXPECT_FALSE(store.Find(50, 8).has_value());
  EXPECT_FALSE(store.Find(100, 7).has_value());
}

TEST(SnapshotStore, ServesOnlyTheJobItHolds) {
  SnapshotStore store;
  store.Reset("job", 3);
  store.Put(At(50, 7));
  EXPECT_TRUE(store.FindStep("job", 50).has_value());
  EXPECT_FALSE(store.FindStep("other", 50).has_value());
  EXPECT_TRUE(store.List("other").empty());
  store.Reset("other", 3);
  EXPECT_TRUE(store.List("other").empty());
}

TEST(SnapshotStore, PutAddsToTheSameDigestAndReplacesAnother) {
  SnapshotStore store;
  store.Reset("job", 3);
  store.Put(At(50, 7));
  HeldSnapshot more = At(50, 7);
  more.state = {Of(2.0f)};
  store.Put(more);
  store.Put(At(50, 7));  // knows less: takes nothing away
  ASSERT_TRUE(store.Find(50, 7).has_value());
  EXPECT_EQ(store.Find(50, 7)->state.size(), 1u);
  store.Put(At(50, 9));
  EXPECT_FALSE(store.Find(50, 7).has_value());
  EXPECT_TRUE(store.Find(50, 9)->state.empty());
}

TEST(SnapshotStore, EvictsTheLeastRecentlyUsedStep) {
  SnapshotStore store;
  store.Reset("job", 2);
  store.Put(At(50, 1));
  store.Put(At(100, 2));
  ASSERT_TRUE(store.Find(50, 1).has_value());  // a use
  store.Put(At(150, 3));
  EXPECT_TRUE(store.Find(50, 1).has_value());
  EXPECT_FALSE(store.Find(100, 2).has_value());
}

TEST(SnapshotStore, AJobThatGoesBackIsNotEvictedByItsOwnFuture) {
  SnapshotStore store;
  store.Reset("job", 2);
  store.Put(At(950, 1));
  store.Put(At(1000, 2));
  store.Put(At(500, 3));
  EXPECT_TRUE(store.Find(500, 3).has_value());
}

TEST(SnapshotStore, DropsMoments) {
  SnapshotStore store;
  store.Reset("job", 3);
  for (const int64_t step : {50, 100}) {
    HeldSnapshot snapshot = At(step, 1);
    snapshot.exp_avg = Of(0.1f);
    snapshot.exp_avg_sq = Of(0.2f);
    store.Put(snapshot);
  }
  store.DropMomentsExcept(100);
  EXPECT_EQ(store.Find(50, 1)->exp_avg, nullptr);
  EXPECT_NE(store.Find(100, 1)->exp_avg, nullptr);
}

}  // namespace
}  // namespace leap
