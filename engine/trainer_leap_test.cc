// Leaps on real ranks: applied at one boundary, exact, undone; and what their predictor carries.
#include "engine/trainer_testing.h"

namespace leap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// ---- leaps ----

class LeapTest : public TrainerTest {
 protected:
  // A leap from the snapshot at 4, prepared on all ranks before the step from 5, decided on rank r
  // before the step from decide_at[r]. Trains to the end; returns the sum of the votes.
  uint64_t Leap(const JobSpec& spec, PrepareRequest request, std::vector<int64_t> decide_at) {
    StartAll(decide_at.size(), spec);
    JoinAll(true);
    std::atomic<uint64_t> digest = 0;
    Train(spec.train.steps, [&](size_t rank, int64_t position) {
      if (position == 5) {
        AwaitSnapshot(rank, 4);
        const absl::StatusOr<uint64_t> vote = Prepare(rank, request);
        ASSERT_OK(vote);
        digest += *vote;
      }
      if (position == decide_at[rank]) {
        EXPECT_EQ(ranks_[rank]->trainer->Decide(request.leap, true), position < 8);
      }
    });
    return digest;
  }
};

TEST_F(LeapTest, RebaseIsExact) {
  const JobSpec spec = Spec();
  const uint64_t voted = Leap(spec, {.leap = 7, .base_step = 4}, {5, 6, 5});
  std::vector<LeapReport> reports;
  for (size_t rank = 0; rank < 3; ++rank) {
    const std::vector<LeapReport> leaps = Leaps(rank, 1);
    ASSERT_THAT(leaps, SizeIs(1));
    EXPECT_TRUE(leaps[0].applied);
    EXPECT_EQ(leaps[0].boundary_step, 7);  // rank 1 said so first in the step from 6
    EXPECT_EQ(leaps[0].step, 7);
    EXPECT_EQ(leaps[0].weights_digest, Leaps(0, 1)[0].weights_digest);
    AwaitSnapshot(rank, 8);
    MutexLock lock(&ranks_[rank]->mutex);
    EXPECT_EQ(ranks_[rank]->snapshots[8].applied_leap, 7u);
  }
  const std::vector<float> base = Reference(4);
  const std::vector<float> live = Reference(7);
  ASSERT_OK_AND_ASSIGN(const auto predictor, MakePredictor(spec.leap.predictors[0], 4));
  std::vector<std::vector<float>> state(2, std::vector<float>(base.size()));
  predictor->InitState(base, {state.begin(), state.end()});
  std::vector<float> predicted(base.size());
  const FlatRange all{0, static_cast<int64_t>(base.size())};
  predictor->Predict({.range = all, .snapshots = {base}, .state = {state[0], state[1]}}, 0, {},
                     predicted);
  EXPECT_EQ(voted, DigestAll(predicted));
  std::vector<float> expected(base.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const float displacement = predicted[i] - base[i];
    expected[i] = live[i] + displacement;
  }
  EXPECT_EQ(Leaps(0, 1)[0].weights_digest, DigestAll(expected));
}

TEST_F(LeapTest, ReplaceIsTheVerifiedPoint) {
  const JobSpec linear = Spec(
      "{policy: default, interval_steps: 2, warmup_steps: 2, commit_rule: replace,"
      " advance_step: true, predictors: [{name: linear, horizons_steps: [3]}]}");
  const uint64_t voted = Leap(linear, {.leap = 3, .base_step = 4, .horizon_steps = 3}, {5, 5});
  for (size_t rank = 0; rank < 2; ++rank) {
    const LeapReport leap = Leaps(rank, 1)[0];
    EXPECT_TRUE(leap.applied);
    EXPECT_EQ(leap.boundary_step, 6);
    EXPECT_EQ(leap.step, 7);  // base + K
    EXPECT_EQ(leap.weights_digest, voted);
  }
}

TEST_F(LeapTest, NoHoldTimesSplitTheRanks) {
  std::mt19937 random(20261123);
  for (int round = 0; round < 6; ++round) {
    std::vector<int64_t> decide_at;
    for (int rank = 0; rank < 3; ++rank)
      decide_at.push_back(5 + static_cast<int64_t>(random() % 5));
    SCOPED_TRACE(absl::StrCat("decided at ", decide_at[0], ", ", decide_at[1], ", ", decide_at[2]));
    Leap(Spec(), {.leap = 9, .base_step = 4}, decide_at);
    const int64_t last = *std::ranges::max_element(decide_at);
    // In the vote of the step from `last`, every rank holds it; the snapshot at 8 ends the leap.
    const bool applies = last < 8;
    for (size_t rank = 0; rank < 3; ++rank) {
      const bool told = decide_at[rank] < 8;
      if (!told) continue;  // never held: the agent answers for it
      const std::vector<LeapReport> leaps = Leaps(rank, 1);
      ASSERT_THAT(leaps, SizeIs(1));
      EXPECT_EQ(leaps[0].applied, applies);
      if (applies) {
        EXPECT_EQ(leaps[0].boundary_step, last + 1);
      }
    }
    EXPECT_THAT(std::set<uint64_t>({FinalDigests()[0], FinalDigests()[1], FinalDigests()[2]}),
                SizeIs(1));
    std::filesystem::remove_all(folder_ + "/checkpoints");
  }
}

// One rank's memory is full of what somebody reads: no rank takes the snapshot, so that predictor
// state, which follows from the snapshots, stays the same function of the trajectory on all ranks.
TEST_F(LeapTest, SnapshotIsTakenByAllRanksOrByNone) {
  const JobSpec spec = Spec(
      "{policy: default, interval_steps: 2, warmup_steps: 2, ring_depth: 2, audit_every_leaps: 0}");
  StartAll(2, spec);
  JoinAll(true);
  std::vector<std::shared_ptr<const RingSnapshot>> read;
  Train(spec.train.steps, [&](size_t rank, int64_t position) {
    if (rank == 0 || position < 2 || position % 2 != 1) return;
    AwaitSnapshot(rank, std::min<int64_t>(position - 1, 8));
    if (const auto snapshot = ranks_[rank]->trainer->ring()->Find(position - 1)) {
      read.push_back(snapshot);
    }
  });
  EXPECT_THAT(read, SizeIs(4)) << "the depth, and two more";
  for (size_t rank = 0; rank < 2; ++rank) {
    ranks_[rank]->trainer->ring()->Drain();
    std::vector<int64_t> taken;
    MutexLock lock(&ranks_[rank]->mutex);
    for (const auto& [step, snapshot] : ranks_[rank]->snapshots) taken.push_back(step);
    EXPECT_THAT(taken, ElementsAre(2, 4, 6, 8)) << "rank 0 has room at 10, and skips with rank 1";
  }
}

TEST_F(LeapTest, StaleBaseIsRefused) {
  StartAll(2, Spec());
  JoinAll(true);
  Train(8);
  AwaitSnapshot(0, 8);
  EXPECT_FALSE(Prepare(0, {.leap = 1, .base_step = 4}).ok());
  EXPECT_FALSE(Prepare(0, {.leap = 2, .base_step = 8, .predictor = 5}).ok());
  EXPECT_FALSE(ranks_[0]->trainer->Decide(1, true));
}

// ---- undoing a leap ----

constexpr char kUndoable[] =
    "{policy: default, interval_steps: 4, warmup_steps: 4, rollback_bound: 0.1}";

TEST_F(LeapTest, IsUndoneOnAllRanksToTheLastBit) {
  const JobSpec spec = Spec(kUndoable, 12, 9);
  const uint64_t without = Undisturbed(2, spec);
  Leap(spec, {.leap = 3, .base_step = 4}, {5, 5});  // applied after step 6
  EXPECT_NE(ranks_[0]->trainer->position().last_leap, 0U);
  JoinAll(false, /*undo_leap=*/3);
  for (const auto& rank : ranks_) {
    EXPECT_EQ(rank->joined.recovered_from, "the state before leap 3");
    EXPECT_EQ(rank->joined.undo_problem, "");
    EXPECT_EQ(rank->joined.position,
              (TrainPosition{.rollbacks = 1,
                             .step = 6,
                             .data_position = 6,
                             .adam_step = 6,
                             .train_loss = rank->joined.position.train_loss}));
  }
  EXPECT_THAT(ListCheckpoints(folder_ + "/checkpoints/t"), ElementsAre(HasSubstr("step-6")))
      << "the one of step 9 had the leap";
  JoinAll(false, /*undo_leap=*/3);  // said again: done already
  EXPECT_EQ(ranks_[1]->joined.position.rollbacks, 1);
  EXPECT_EQ(ranks_[1]->joined.undo_problem, "");
  Train(spec.train.steps);
  EXPECT_EQ(FinalDigests(), std::vector<uint64_t>(2, without));
}

TEST_F(LeapTest, StaysIfARankDidNotKeepTheStateBeforeIt) {
  JobSpec spec = Spec(kUndoable, 10);
  Leap(spec, {.leap = 3, .base_step = 4}, {5, 5});
  Start(1, spec);
  JoinAll(false, /*undo_leap=*/3);
  for (const auto& rank : ranks_) {
    EXPECT_THAT(rank->joined.undo_problem,
                HasSubstr("rank 1 did not keep the state before leap 3"));
    EXPECT_EQ(rank->joined.position.data_position, 10);
    EXPECT_EQ(rank->joined.position.last_leap, 3U);
  }
}

TEST_F(LeapTest, AStateInWhichItWasUndoneWinsOverOneThatIsFurther) {
  const JobSpec spec = Spec(kUndoable, 10);
  Leap(spec, {.leap = 3, .base_step = 4}, {5});
  JoinAll(false, /*undo_leap=*/3);
  auto undone = std::move(ranks_[0]);
  std::filesystem::remove_all(folder_ + "/checkpoints");
  Leap(spec, {.leap = 3, .base_step = 4}, {5});
  ranks_.push_back(std::move(undone));
  JoinAll(false);
  EXPECT_EQ(ranks_[0]->joined.recovered_from, "peer rank 1");
  for (const auto& rank : ranks_) {
    EXPECT_EQ(rank->joined.position.rollbacks, 1);
    EXPECT_EQ(rank->joined.position.data_position, 6);
  }
}

// ---- predictor state over a change of epoch ----

constexpr char kStateful[] =
    "{policy: default, interval_steps: 4, warmup_steps: 4, audit_every_leaps: 0}";

class StateTest : public TrainerTest {
 protected:
  // State at `step` of a run in which nothing happens.
  std::vector<uint64_t> UndisturbedState(size_t world, int64_t step) {
    StartAll(world, Spec(kStateful, 24));
    JoinAll(true);
    Train(step);
    std::vector<uint64_t> state = State(step);
    ranks_.clear();
    return state;
  }
};

TEST_F(StateTest, GoesOnThoughARankIsLost) {
  const std::vector<uint64_t> expected = UndisturbedState(3, 16);
  ASSERT_THAT(expected, SizeIs(2));
  const JobSpec spec = Spec(kStateful, 24);
  for (const size_t lost : {0, 1, 2}) {
    StartAll(3, spec);
    JoinAll(true);
    Train(10);
    Start(lost, spec);  // another process in its place: its shard is at its neighbour's
    JoinAll(false);
    for (const auto& rank : ranks_) {
      EXPECT_EQ(rank->joined.predictor_state, "goes on from step 8");
    }
    Train(16);
    EXPECT_EQ(State(16), expected) << "rank " << lost << " was lost";
  }
}

TEST_F(StateTest, GoesOnInAnotherWorldSize) {
  StartAll(3, Spec(kStateful, 24));
  JoinAll(true);
  Train(10);
  ranks_.pop_back();
  JoinAll(false);
  EXPECT_EQ(ranks_[0]->joined.predictor_state, "goes on from step 8");
  Train(12);
  EXPECT_THAT(State(12), SizeIs(2));
}

TEST_F(StateTest, StartsOverWithAReasonIfTwoNeighboursAreLost) {
  const JobSpec spec = Spec(kStateful, 24);
  StartAll(3, spec);
  JoinAll(true);
  Train(10);
  Start(1, spec);
  Start(2, spec);
  JoinAll(false);
  EXPECT_THAT(ranks_[0]->joined.predictor_state, HasSubstr("starts over: no rank holds"));
}

TEST_F(StateTest, ComesBackFromACheckpointInAnyWorldSize) {
  const std::vector<uint64_t> expected = UndisturbedState(2, 16);
  const JobSpec spec = Spec(kStateful, 24, /*checkpoint_every=*/10);
  StartAll(2, spec);
  JoinAll(true);
  Train(10);
  Await("checkpoint", [&] {
    MutexLock lock(&ranks_[0]->mutex);
    return !ranks_[0]->checkpoints.empty();
  });
  for (const size_t world : {2, 1}) {
    StartAll(world, spec);
    JoinAll(true);
    EXPECT_EQ(ranks_[0]->joined.position.step, 10);
    EXPECT_EQ(ranks_[0]->joined.predictor_state, "goes on from step 8");
    if (world != 2) continue;  // other sums, other weights
    Train(16);
    EXPECT_EQ(State(16), expected);
    std::filesystem::remove_all(folder_ + "/checkpoints/t/step-20");
  }
}

TEST_F(StateTest, IsInTheLastCheckpointThoughItsDiskWasAway) {
  StartAll(2, Spec(kStateful, 12));
  JoinAll(true);
  Train(12);
  const std::string folder = folder_ + "/checkpoints";
  std::filesystem::remove_all(folder);
  std::ofstream(folder) << "in the way";
  int failures = 0;
  ranks_[0]->on_checkpoint_error = [&](const absl::Status& status) {
    EXPECT_THAT(status.message(), HasSubstr("/checkpoints/t"));
    std::filesystem::remove(folder);
    ++failures;
  };
  FinalDigests();
  EXPECT_EQ(failures, 1);
  ASSERT_OK_AND_ASSIGN(const CheckpointData last, ReadCheckpoint(folder + "/t/step-12"));
  EXPECT_FALSE(last.state.empty());
  EXPECT_GE(last.position.state_base_step, 0);
}

TEST_F(TrainerTest, WhoWaitsForTheDiskOfTheLastCheckpointCanBeToldToStop) {
  StartAll(1, Spec("{policy: \"off\"}", 4));
  JoinAll(true);
  Train(4);
  std::ofstream(folder_ + "/checkpoints") << "in the way";
  ranks_[0]->on_checkpoint_error = [&](const absl::Status&) {
    ranks_[0]->interrupt->Raise("cancelled by a person");
  };
  EXPECT_THAT(ranks_[0]->trainer->Finish().status(), StatusIs(absl::StatusCode::kAborted));
}

// The anchor of S_12 is where the leap led, not where the snapshot at 8 was.
TEST_F(StateTest, KeepsTheLeapThatWasAppliedSince) {
  const JobSpec spec = Spec(kStateful, 24);
  std::vector<std::vector<uint64_t>> states;
  for (const bool disturbed : {false, true}) {
    StartAll(2, spec);
    JoinAll(true);
    Train(10, [&](size_t rank, int64_t position) {
      if (position != 9) return;
      AwaitSnapshot(rank, 8);
      ASSERT_OK(Prepare(rank, {.leap = 5, .base_step = 8}));
      EXPECT_TRUE(ranks_[rank]->trainer->Decide(5, true));
    });
    EXPECT_EQ(ranks_[0]->trainer->position().last_leap, 5U);
    if (disturbed) {
      Start(1, spec);
      JoinAll(false);
    }
    Train(12);
    states.push_back(State(12));
    MutexLock lock(&ranks_[1]->mutex);
    EXPECT_EQ(ranks_[1]->snapshots[12].applied_leap, 5U);
  }
  EXPECT_EQ(states[0], states[1]);
}

}  // namespace
}  // namespace leap
