// The ring of one rank: digests, predictor state, what readers hold, and leaps staged from it.
#include "engine/ring.h"

#include <cmath>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "base/clock.h"
#include "base/error_reason.h"
#include "base/mutex.h"
#include "base/status_matchers.h"
#include "core/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class RingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const ModelConfig config{.n_positions = 16, .n_embd = 64, .n_layer = 2, .n_head = 2};
    ASSERT_OK_AND_ASSIGN(model_, Model::Create(config, {}, 1));
    spec_.leap.interval_steps = 10;
    spec_.leap.warmup_steps = 10;
    spec_.leap.ring_depth = 3;
    spec_.leap.audit_every_leaps = 0;
    spec_.leap.predictors = {{.name = "outer-nesterov"}};
  }

  void Make(int rank = 1, int world_size = 2) {
    shard_ = ShardOf(model_->layout().size, rank, world_size);
    RingCallbacks callbacks;
    callbacks.on_vote = [this](const PrepareRequest& request,
                               const absl::StatusOr<uint64_t>& digest) {
      MutexLock lock(&mutex_);
      votes_.insert_or_assign(request.leap, digest);
    };
    ASSERT_OK_AND_ASSIGN(ring_, Ring::Create(spec_, *model_, rank, world_size, callbacks, {}));
  }

  // Sets every weight to `value` + its index and takes the snapshot of `step`, if there is room.
  bool Take(int64_t step, float value, uint64_t applied_leap = 0) {
    std::vector<float> weights(static_cast<size_t>(model_->layout().size));
    for (size_t i = 0; i < weights.size(); ++i) {
      weights[i] = value + static_cast<float>(i % 1000) / 64;
    }
    model_->WriteWeights({0, model_->layout().size}, weights);
    if (!ring_->HasRoom()) return false;
    const TrainPosition position{.step = step, .data_position = step, .adam_step = step};
    EXPECT_OK(ring_->Take(*model_, position, applied_leap));
    ring_->Drain();
    return true;
  }

  absl::StatusOr<uint64_t> Prepare(const PrepareRequest& request) {
    ring_->Prepare(request);
    ring_->Drain();
    MutexLock lock(&mutex_);
    const auto vote = votes_.find(request.leap);
    return vote == votes_.end() ? absl::UnknownError("no vote") : vote->second;
  }

  float At(int64_t step, size_t i) { return ring_->Find(step)->weights[i]; }

  JobSpec spec_;
  std::unique_ptr<Model> model_;
  FlatRange shard_;
  Mutex mutex_;
  std::map<uint64_t, absl::StatusOr<uint64_t>> votes_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Ring> ring_;  // last: its thread votes
};

TEST_F(RingTest, SnapshotIsTheShardWithItsDigest) {
  for (const int rank : {0, 1, 2}) {
    Make(rank, 3);
    ASSERT_TRUE(Take(10, 2));
    const auto snapshot = ring_->Find(10);
    ASSERT_NE(snapshot, nullptr);
    ASSERT_THAT(snapshot->weights, SizeIs(shard_.size()));
    EXPECT_EQ(snapshot->weights[5], 2 + static_cast<float>((shard_.begin + 5) % 1000) / 64);
    EXPECT_EQ(snapshot->weights_digest, DigestOf(snapshot->weights, shard_));
    EXPECT_EQ(ring_->Find(20), nullptr);
  }
}

// Each rank also digests the next rank's shard, and every other one in its turn: what a flipped bit
// in its memory shows in (coordinator/machine/corruption.h).
TEST_F(RingTest, OtherRanksShardsAreDigestedInTurn) {
  const int world = 4;
  std::map<int, uint64_t> owners;
  for (int rank = 0; rank < world; ++rank) {
    Make(rank, world);
    ASSERT_TRUE(Take(10, 2));
    owners[rank] = ring_->Find(10)->weights_digest;
  }
  Make(1, world);
  std::set<int> digested;
  for (const int64_t step : {10, 20}) {
    ASSERT_TRUE(Take(step, 2));
    for (const ShardDigest& other : ring_->Find(step)->others) {
      EXPECT_EQ(other.digest, owners.at(other.rank)) << "shard " << other.rank << ", step " << step;
      digested.insert(other.rank);
    }
  }
  EXPECT_THAT(digested, ElementsAre(0, 2, 3));
  Make(0, 1);
  ASSERT_TRUE(Take(10, 2));
  EXPECT_THAT(ring_->Find(10)->others, IsEmpty());
}

TEST_F(RingTest, MomentsComeAlongOnlyIfSomebodyReadsThem) {
  Make();
  EXPECT_FALSE(ring_->keeps_moments());
  spec_.leap.audit_every_leaps = 8;
  Make();
  EXPECT_TRUE(ring_->keeps_moments());
  ASSERT_TRUE(Take(10, 2));
  EXPECT_THAT(ring_->Find(10)->exp_avg, SizeIs(shard_.size()));
  spec_.leap.enabled = false;
  Make();
  EXPECT_FALSE(ring_->keeps_moments());
}

TEST_F(RingTest, KeepsItsDepthAndForgetsTheOldest) {
  Make();
  for (const int64_t step : {10, 20, 30, 40}) ASSERT_TRUE(Take(step, 1));
  EXPECT_THAT(ring_->List(), SizeIs(3));
  EXPECT_EQ(ring_->Find(10), nullptr);
  EXPECT_NE(ring_->Find(20), nullptr);
}

TEST_F(RingTest, WhatIsReadIsNeverOverwritten) {
  Make();
  std::vector<std::shared_ptr<const RingSnapshot>> readers;
  bool skipped = false;
  for (int64_t step = 10; step <= 100; step += 10) {
    if (!Take(step, static_cast<float>(step))) {
      skipped = true;
      break;
    }
    readers.push_back(ring_->Find(step));
  }
  EXPECT_TRUE(skipped);  // all memory is pinned: training goes on without the snapshot
  EXPECT_THAT(readers, SizeIs(5));
  for (const auto& reader : readers) {
    EXPECT_EQ(reader->weights_digest, DigestOf(reader->weights, shard_));
    EXPECT_EQ(reader->weights[0], static_cast<float>(reader->position.step) +
                                      static_cast<float>(shard_.begin % 1000) / 64);
  }
  readers.clear();
  EXPECT_TRUE(Take(200, 7));  // and takes them again once the readers are gone
}

// S_t by hand: o = θ_{t-Δ} (or θ̂ of the applied leap), b = μ b + (θ_t - o).
TEST_F(RingTest, StateAdvancesFromTheAnchor) {
  Make();
  ASSERT_TRUE(Take(10, 1));
  EXPECT_THAT(ring_->Find(10)->state, SizeIs(2));
  EXPECT_EQ(ring_->Find(10)->state[1][3], 0);  // b starts at 0
  ASSERT_TRUE(Take(20, 2));
  EXPECT_EQ(ring_->Find(20)->state[0][3], At(10, 3));
  EXPECT_EQ(ring_->Find(20)->state[1][3], At(20, 3) - At(10, 3));
  EXPECT_EQ(ring_->Find(20)->state_digests[1], DigestOf(ring_->Find(20)->state[1], shard_));

  ASSERT_OK(Prepare({.leap = 1, .base_step = 20}));
  ASSERT_TRUE(ring_->Decide(1, true));
  const float predicted = ring_->HeldLeap()->predicted[3];
  ring_->MarkApplied(1);
  ASSERT_TRUE(Take(30, 5, 1));
  const auto snapshot = ring_->Find(30);
  EXPECT_EQ(snapshot->applied_leap, 1u);
  EXPECT_EQ(snapshot->state[0][3], predicted);
  const float carried = 0.5f * ring_->Find(20)->state[1][3];
  EXPECT_EQ(snapshot->state[1][3], carried + (At(30, 3) - predicted));
}

TEST_F(RingTest, NoStateBeforeWarmup) {
  Make();
  ASSERT_TRUE(Take(5, 1));
  EXPECT_THAT(ring_->Find(5)->state, SizeIs(0));
  EXPECT_THAT(Prepare({.leap = 1, .base_step = 5}), HasReason(ErrorReason::kSnapshotNotFound));
}

TEST_F(RingTest, LeapIsPredictedFromTheRing) {
  spec_.leap.predictors = {{.name = "linear", .horizons_steps = {5}}};
  Make();
  ASSERT_TRUE(Take(10, 1));
  EXPECT_THAT(Prepare({.leap = 1, .base_step = 10, .horizon_steps = 5}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("1 consecutive snapshots")));
  ASSERT_TRUE(Take(20, 3));
  const auto vote = Prepare({.leap = 2, .base_step = 20, .horizon_steps = 5});
  ASSERT_OK(vote);
  ASSERT_TRUE(ring_->Decide(2, true));
  const auto leap = ring_->HeldLeap();
  EXPECT_EQ(*vote, DigestOf(leap->predicted, shard_));
  EXPECT_EQ(leap->predicted[0], At(20, 0) + 1);  // K / Δ = 1/2 of a displacement of 2
  EXPECT_EQ(Prepare({.leap = 2, .base_step = 20, .horizon_steps = 5}).value(), *vote);  // repeated
}

// They come from a verifier, by way of the coordinator, which does not know the layout.
TEST_F(RingTest, ScalesThatDoNotFitAreVotedAgainst) {
  spec_.leap.predictors = {{.name = "quadratic", .horizons_steps = {5}, .form = "code"}};
  Make();
  for (const int64_t step : {10, 20, 30}) ASSERT_TRUE(Take(step, static_cast<float>(step)));
  const size_t tensors = model_->layout().tensors.size();
  PrepareRequest request{.leap = 1, .base_step = 30, .horizon_steps = 5};
  for (const std::vector<double>& bad :
       {std::vector<double>{}, std::vector<double>(tensors - 1, 0.5),
        std::vector<double>(tensors + 1, 0.5), std::vector<double>(tensors, 1e30),
        std::vector<double>(tensors, std::nan(""))}) {
    request.scales = bad;
    EXPECT_THAT(Prepare(request), StatusIs(absl::StatusCode::kInvalidArgument));
    ++request.leap;
  }
  request.scales.assign(tensors, 0.5);
  EXPECT_OK(Prepare(request));
}

TEST_F(RingTest, LifeOfALeap) {
  Make();
  ASSERT_TRUE(Take(10, 1));
  ASSERT_OK(Prepare({.leap = 1, .base_step = 10}));
  EXPECT_EQ(ring_->Held(), 0u);
  EXPECT_FALSE(ring_->Decide(99, true));
  EXPECT_TRUE(ring_->Decide(1, false));  // aborted
  EXPECT_FALSE(ring_->Decide(1, true));
  ASSERT_OK(Prepare({.leap = 2, .base_step = 10}));
  EXPECT_TRUE(ring_->Decide(2, true));
  EXPECT_EQ(ring_->Held(), 2u);
  EXPECT_EQ(ring_->Expire(20), 2u);  // the next snapshot came first
  EXPECT_EQ(ring_->HeldLeap(), nullptr);
  ASSERT_OK(Prepare({.leap = 3, .base_step = 10}));
  EXPECT_EQ(ring_->Expire(20), 0u);  // staged, never decided
  EXPECT_FALSE(ring_->Decide(3, true));
  ASSERT_TRUE(Take(20, 2));
  EXPECT_THAT(Prepare({.leap = 4, .base_step = 10}), HasReason(ErrorReason::kLeapSuperseded));
  EXPECT_THAT(Prepare({.leap = 5, .base_step = 20, .predictor = 1}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(RingTest, ALeapFromTheSnapshotJustTakenDoesNotExpireWithTheOneBefore) {
  Make();
  ASSERT_TRUE(Take(10, 1));
  ASSERT_OK(Prepare({.leap = 1, .base_step = 10}));
  EXPECT_TRUE(ring_->Decide(1, true));  // faster than the training thread, which comes now
  EXPECT_EQ(ring_->Expire(10), 0u);
  EXPECT_EQ(ring_->Held(), 1u);
}

}  // namespace
}  // namespace leap
