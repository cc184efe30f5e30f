// Ranks of one job as threads of a test, over real groups on loopback: for the trainer's tests.
#pragma once

#include <csignal>
#include <cstdlib>
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
#include "engine/trainer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {

struct Snapshot {
  std::vector<float> weights;
  uint64_t digest = 0;
  std::vector<uint64_t> state_digests;
  uint64_t applied_leap = 0;
  FlatRange shard;
};

struct Rank {
  std::shared_ptr<Interrupt> interrupt;
  bool live = false;
  JoinReport joined;
  std::function<void(const absl::Status&)> on_checkpoint_error;  // unset: there must be none
  Mutex mutex;
  std::map<int64_t, Snapshot> snapshots ABSL_GUARDED_BY(mutex);
  std::map<uint64_t, absl::StatusOr<uint64_t>> votes ABSL_GUARDED_BY(mutex);
  std::vector<LeapReport> leaps ABSL_GUARDED_BY(mutex);
  std::vector<int64_t> checkpoints ABSL_GUARDED_BY(mutex);
  std::unique_ptr<Trainer> trainer;  // last: its threads report to the above until it is gone
};

// Where the jobs of these tests compute, unless they say it themselves
// (engine/cuda/CMakeLists.txt).
inline const char* TestDevice() {
  const char* device = std::getenv("LEAP_TEST_DEVICE");
  return device == nullptr ? "cpu" : device;
}

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
        steps, ", batch_sequences: 4, lr: 0.003, warmup_steps: 2, device: ", TestDevice(),
        "}\n  workers: {replicas: 2}\n  leap: ", leap,
        "\n  checkpoint: {every_steps: ", checkpoint_every, "}\n");
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
                                              snapshot.state_digests, snapshot.applied_leap, shard};
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
      if (!path.ok() && r->on_checkpoint_error) return r->on_checkpoint_error(path.status());
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
                           .job = "t",
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

  // The digests of the whole predictor state at a snapshot, from those of the ranks' shards.
  std::vector<uint64_t> State(int64_t step) {
    std::vector<uint64_t> sums;
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      AwaitSnapshot(rank, step);
      MutexLock lock(&ranks_[rank]->mutex);
      const std::vector<uint64_t>& digests = ranks_[rank]->snapshots[step].state_digests;
      sums.resize(digests.size());
      for (size_t i = 0; i < digests.size(); ++i) sums[i] += digests[i];
    }
    return sums;
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

inline uint64_t DigestAll(const std::vector<float>& values) {
  return DigestOf(values, {0, static_cast<int64_t>(values.size())});
}

}  // namespace leap
