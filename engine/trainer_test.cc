// One rank's training, several ranks as threads over loopback: the same training whatever happens
// to the group, and leaps that are exact and at one boundary.
#include "engine/trainer.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/status_matchers.h"
#include "core/digest.h"
#include "core/predictor.h"
#include "engine/test_scratch.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

// What one rank reported, copied.
struct Snapshot {
  std::vector<float> weights;
  uint64_t digest = 0;
  uint64_t applied_leap = 0;
  FlatRange shard;
};

struct Rank {
  std::shared_ptr<Interrupt> interrupt;
  bool live = false;
  JoinReport joined;
  Mutex mutex;
  std::map<int64_t, Snapshot> snapshots ABSL_GUARDED_BY(mutex);
  std::map<uint64_t, absl::StatusOr<uint64_t>> votes ABSL_GUARDED_BY(mutex);
  std::vector<LeapReport> leaps ABSL_GUARDED_BY(mutex);
  std::vector<int64_t> checkpoints ABSL_GUARDED_BY(mutex);
  std::unique_ptr<Trainer> trainer;  // last: its threads report to the above until it is gone
};

class TrainerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::signal(SIGPIPE, SIG_IGN);
    folder_ = ScratchPath(
        absl::StrCat("trainer_", ::testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    std::ofstream text(folder_ + "/text.txt");
    for (int i = 0; i < 1200; ++i) text << "the leap of step " << i % 37 << " is verified; ";
    text.close();
    std::ofstream config(folder_ + "/config.json");
    config << R"({"model_type": "gpt2", "vocab_size": 257, "n_positions": 32, "n_embd": 64,
                  "n_layer": 2, "n_head": 2})";
    config.close();
    ASSERT_OK_AND_ASSIGN(store_, StoreServer::Start("127.0.0.1"));
  }
  void TearDown() override {
    ranks_.clear();
    EXPECT_TRUE(DrainGroups(absl::Seconds(20)));
    std::filesystem::remove_all(folder_);
  }

  JobSpec Spec(const std::string& leap = "{policy: default, interval_steps: 4, warmup_steps: 4}",
               int steps = 12, int checkpoint_every = 0) {
    const std::string yaml = absl::StrCat(
        "apiVersion: leap/v1\nkind: Job\nmetadata: {name: t}\nspec:\n  model: {config: ", folder_,
        "/config.json}\n  data: {paths: [", folder_,
        "/text.txt], sequence_length_tokens: 16, gate_sequences: 2, report_sequences: 2}\n"
        "  train: {steps: ",
        steps,
        ", batch_sequences: 4, lr: 0.003, warmup_steps: 2}\n  workers: {replicas: 2}\n  leap: ",
        leap, "\n  checkpoint: {every_steps: ", checkpoint_every, "}\n");
    absl::StatusOr<JobSpec> spec = ParseJobSpec(yaml);
    EXPECT_OK(spec);
    return spec.ok() ? *spec : JobSpec();
  }

  // A fresh process for `rank`, as it were.
  void Start(size_t rank, const JobSpec& spec) {
    if (ranks_.size() <= rank) ranks_.resize(rank + 1);
    ranks_[rank] = std::make_unique<Rank>();
    Rank* r = ranks_[rank].get();
    TrainerCallbacks callbacks;
    callbacks.on_snapshot = [r](const RingSnapshot& snapshot, FlatRange shard) {
      MutexLock lock(&r->mutex);
      r->snapshots[snapshot.position.step] = {snapshot.weights, snapshot.weights_digest,
                                              snapshot.applied_leap, shard};
    };
    callbacks.on_vote = [r](const PrepareRequest& request, const absl::StatusOr<uint64_t>& digest) {
      MutexLock lock(&r->mutex);
      r->votes.insert_or_assign(request.leap, digest);
    };
    callbacks.on_leap = [r](const LeapReport& report) {
      MutexLock lock(&r->mutex);
      r->leaps.push_back(report);
    };
    callbacks.on_checkpoint = [r](int64_t step, const absl::StatusOr<std::string>& path, double) {
      EXPECT_OK(path);
      MutexLock lock(&r->mutex);
      r->checkpoints.push_back(step);
    };
    ASSERT_OK_AND_ASSIGN(r->trainer, Trainer::Create(spec, folder_, std::move(callbacks)));
  }

  void StartAll(size_t world, const JobSpec& spec) {
    ranks_.clear();
    for (size_t rank = 0; rank < world; ++rank) Start(rank, spec);
  }

  void OnEach(const std::function<void(size_t)>& run) {
    std::vector<std::thread> threads;
    for (size_t rank = 0; rank < ranks_.size(); ++rank)
      threads.emplace_back([&run, rank] { run(rank); });
    for (std::thread& thread : threads) thread.join();
  }

  void JoinAll(bool from_checkpoint, uint64_t undo_leap = 0) {
    ++epoch_;
    for (auto& rank : ranks_) rank->interrupt = std::make_shared<Interrupt>();
    OnEach([&](size_t rank) {
      EpochOptions options{.group = {.store_address = absl::StrCat("127.0.0.1:", store_->port()),
                                     .prefix = absl::StrCat("t/", epoch_),
                                     .rank = static_cast<int>(rank),
                                     .world_size = static_cast<int>(ranks_.size()),
                                     .timeout = absl::Seconds(20),
                                     .join_timeout = absl::Seconds(20)},
                           .epoch = epoch_,
                           .live = ranks_[rank]->live,
                           .from_checkpoint = from_checkpoint,
                           .undo_leap = undo_leap};
      const absl::StatusOr<JoinReport> joined =
          ranks_[rank]->trainer->Join(options, ranks_[rank]->interrupt);
      ASSERT_OK(joined);
      ranks_[rank]->joined = *joined;
      ranks_[rank]->live = true;
    });
  }

  // Steps of every rank until `until` batches are trained; `at` runs on each rank's thread before
  // each step.
  void Train(int64_t until, const std::function<void(size_t, int64_t)>& at = nullptr) {
    OnEach([&](size_t rank) {
      Trainer& trainer = *ranks_[rank]->trainer;
      while (trainer.position().data_position < until) {
        if (at) at(rank, trainer.position().data_position);
        const absl::StatusOr<StepReport> step = trainer.Step();
        ASSERT_OK(step);
        if (step->done) return;
      }
    });
  }

  std::vector<uint64_t> FinalDigests() {
    std::vector<uint64_t> digests(ranks_.size());
    OnEach([&](size_t rank) {
      const absl::StatusOr<FinalReport> report = ranks_[rank]->trainer->Finish();
      ASSERT_OK(report);
      digests[rank] = report->weights_digest;
    });
    return digests;
  }

  // The digest at the end of a run in which nothing happens.
  uint64_t Undisturbed(size_t world, const JobSpec& spec) {
    StartAll(world, spec);
    JoinAll(true);
    Train(spec.train.steps);
    const std::vector<uint64_t> digests = FinalDigests();
    for (const uint64_t digest : digests) EXPECT_EQ(digest, digests[0]);
    ranks_.clear();
    std::filesystem::remove_all(folder_ + "/checkpoints");
    return digests[0];
  }

  template <typename Check>
  void Await(const char* what, Check check) {
    const absl::Time deadline = RealClock().Now() + absl::Seconds(20);
    while (!check()) {
      ASSERT_LT(RealClock().Now(), deadline) << what;
      RealClock().SleepFor(absl::Milliseconds(1));
    }
  }

  // Blocks until `rank` has published the snapshot of `step`.
  void AwaitSnapshot(size_t rank, int64_t step) {
    Await("snapshot", [&] {
      MutexLock lock(&ranks_[rank]->mutex);
      return ranks_[rank]->snapshots.count(step) > 0;
    });
  }

  // Has `rank` stage a leap and returns its vote.
  absl::StatusOr<uint64_t> Prepare(size_t rank, PrepareRequest request) {
    ranks_[rank]->trainer->Prepare(request);
    Await("vote", [&] {
      MutexLock lock(&ranks_[rank]->mutex);
      return ranks_[rank]->votes.count(request.leap) > 0;
    });
    MutexLock lock(&ranks_[rank]->mutex);
    const auto vote = ranks_[rank]->votes.find(request.leap);
    return vote == ranks_[rank]->votes.end() ? absl::UnknownError("no vote") : vote->second;
  }

  std::vector<LeapReport> Leaps(size_t rank, size_t count) {
    Await("outcome", [&] {
      MutexLock lock(&ranks_[rank]->mutex);
      return ranks_[rank]->leaps.size() >= count;
    });
    MutexLock lock(&ranks_[rank]->mutex);
    return ranks_[rank]->leaps;
  }

  // The whole weights of a snapshot, put together from the ranks' shards.
  std::vector<float> Whole(int64_t step) {
    std::vector<float> whole(static_cast<size_t>(ranks_[0]->trainer->parameters()));
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      AwaitSnapshot(rank, step);
      MutexLock lock(&ranks_[rank]->mutex);
      const Snapshot& snapshot = ranks_[rank]->snapshots[step];
      std::ranges::copy(snapshot.weights, whole.begin() + snapshot.shard.begin);
    }
    return whole;
  }

  // Weights after `step` optimizer steps of `spec` without leaps (a snapshot is taken at each).
  std::vector<float> Reference(int64_t step) {
    auto ranks = std::exchange(ranks_, {});
    StartAll(ranks.size(),
             Spec("{policy: default, interval_steps: 1, warmup_steps: 1, ring_depth: 4}"));
    JoinAll(true);
    Train(step);
    std::vector<float> whole = Whole(step);
    ranks_ = std::move(ranks);
    return whole;
  }

  std::string folder_;
  uint64_t epoch_ = 0;
  std::unique_ptr<StoreServer> store_;
  std::vector<std::unique_ptr<Rank>> ranks_;
};

uint64_t DigestAll(const std::vector<float>& values) {
  return DigestOf(values, {0, static_cast<int64_t>(values.size())});
}

TEST_F(TrainerTest, SameWorldSizeTrainsTheSameBits) {
  const JobSpec spec = Spec();
  const uint64_t first = Undisturbed(2, spec);
  EXPECT_EQ(Undisturbed(2, spec), first);
  EXPECT_EQ(Undisturbed(2, Spec("{policy: \"off\"}")), first);  // snapshots change nothing
}

TEST_F(TrainerTest, ShardDigestsAddUp) {
  StartAll(3, Spec());
  JoinAll(true);
  Train(8);
  for (const int64_t step : {4, 8}) {
    const uint64_t whole = DigestAll(Whole(step));
    uint64_t sum = 0;
    for (auto& rank : ranks_) {
      MutexLock lock(&rank->mutex);
      sum += rank->snapshots[step].digest;
    }
    EXPECT_EQ(sum, whole);
  }
}

TEST_F(TrainerTest, InterruptedInTheMiddleOfAStepAndGoesOnExactly) {
  const JobSpec spec = Spec();
  const uint64_t expected = Undisturbed(2, spec);
  StartAll(2, spec);
  JoinAll(true);
  Train(5);
  // Rank 1 is stopped; rank 0 hangs in its step until the coordinator's abort.
  absl::Time raised;
  std::thread agent([&] {
    RealClock().SleepFor(absl::Milliseconds(200));
    raised = RealClock().Now();
    ranks_[0]->interrupt->Raise("epoch 2");
  });
  EXPECT_THAT(ranks_[0]->trainer->Step(), StatusIs(absl::StatusCode::kAborted));
  agent.join();
  EXPECT_LT(absl::ToDoubleSeconds(RealClock().Now() - raised), 1);
  EXPECT_EQ(ranks_[0]->trainer->position().data_position, 5);
  for (auto& rank : ranks_) rank->trainer->Leave();
  JoinAll(false);
  EXPECT_EQ(ranks_[0]->joined.recovered_from, "");
  Train(spec.train.steps);
  EXPECT_EQ(FinalDigests(), std::vector<uint64_t>(2, expected));
}

TEST_F(TrainerTest, NewcomerGetsTheStateOfAPeer) {
  const JobSpec spec = Spec();
  const uint64_t expected = Undisturbed(2, spec);
  for (const size_t lost : {size_t{0}, size_t{1}}) {
    StartAll(2, spec);
    JoinAll(true);
    Train(5);
    ranks_[1 - lost]->interrupt->Raise("peer lost");
    Start(lost, spec);
    JoinAll(false);
    EXPECT_EQ(ranks_[lost]->joined.recovered_from, absl::StrCat("peer rank ", 1 - lost));
    EXPECT_EQ(ranks_[0]->joined.weights_digest, ranks_[1]->joined.weights_digest);
    EXPECT_EQ(ranks_[lost]->joined.position.data_position, 5);
    Train(spec.train.steps);
    EXPECT_EQ(FinalDigests(), std::vector<uint64_t>(2, expected)) << "rank " << lost << " was lost";
    std::filesystem::remove_all(folder_ + "/checkpoints");
  }
}

TEST_F(TrainerTest, NewestStateWins) {
  const JobSpec spec = Spec();
  const uint64_t expected = Undisturbed(2, spec);
  // Rank 0 is at batch 3, rank 1 at batch 6 of the same training (as ranks of one are).
  StartAll(2, spec);
  JoinAll(true);
  Train(3);
  auto behind = std::move(ranks_[0]);
  Start(0, spec);
  JoinAll(false);
  Train(6);
  ranks_[0] = std::move(behind);
  JoinAll(false);
  EXPECT_EQ(ranks_[0]->joined.recovered_from, "peer rank 1");
  EXPECT_EQ(ranks_[0]->joined.position.data_position, 6);
  Train(spec.train.steps);
  EXPECT_EQ(FinalDigests(), std::vector<uint64_t>(2, expected));
}

TEST_F(TrainerTest, ResumesFromACheckpointExactly) {
  const JobSpec spec = Spec("{policy: \"off\"}", 12, 5);
  const uint64_t expected = Undisturbed(2, spec);
  StartAll(2, spec);
  JoinAll(true);
  Train(8);
  Await("checkpoint", [&] {
    MutexLock lock(&ranks_[0]->mutex);
    return !ranks_[0]->checkpoints.empty();
  });
  StartAll(2, spec);  // all workers killed
  JoinAll(true);
  EXPECT_THAT(ranks_[0]->joined.recovered_from, StartsWith("checkpoint "));
  EXPECT_EQ(ranks_[1]->joined.position.data_position, 5);
  Train(spec.train.steps);
  EXPECT_EQ(FinalDigests(), std::vector<uint64_t>(2, expected));
}

TEST_F(TrainerTest, NotANumberEndsAllRanksAlike) {
  JobSpec spec = Spec("{policy: \"off\"}", 40);
  spec.train.lr = 1e30;  // more than the validator lets pass
  StartAll(2, spec);
  JoinAll(true);
  std::vector<int64_t> ended(2);
  OnEach([&](size_t rank) {
    absl::Status status;
    while (status.ok()) {
      const absl::StatusOr<StepReport> step = ranks_[rank]->trainer->Step();
      if (step.ok() && step->done) break;
      status = step.status();
    }
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("is not finite")));
    ended[rank] = ranks_[rank]->trainer->position().step;
  });
  EXPECT_EQ(ended[0], ended[1]);
}

TEST_F(TrainerTest, PausesAndResumesTogether) {
  StartAll(2, Spec());
  JoinAll(true);
  std::thread person([&] {
    ranks_[1]->trainer->SetPaused(true);  // one that has heard of it holds all
    Await("steps", [&] { return ranks_[0]->trainer->position().data_position >= 1; });
    RealClock().SleepFor(absl::Milliseconds(300));
    const int64_t at = ranks_[0]->trainer->position().data_position;
    RealClock().SleepFor(absl::Milliseconds(200));
    EXPECT_EQ(ranks_[0]->trainer->position().data_position, at);
    EXPECT_EQ(ranks_[1]->trainer->position().data_position, at);
    EXPECT_LT(at, 12);
    ranks_[1]->trainer->SetPaused(false);
  });
  Train(12);
  person.join();
  EXPECT_EQ(ranks_[0]->trainer->position().data_position, 12);
}

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
              (TrainPosition{.rollbacks = 1, .step = 6, .data_position = 6, .adam_step = 6}));
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

}  // namespace
}  // namespace leap
