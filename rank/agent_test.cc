// A main worker as an agent, with a coordinator that is this test: what it answers to each message,
// and what it says again. The training is real, in a world of one.
#include "rank/agent.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/clock.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

class FakeSession final : public AgentSession {
 public:
  bool Send(v1::AgentMessage message) override {
    MutexLock lock(&mutex_);
    sent_.push_back(std::move(message));
    return true;
  }
  AgentSessionInfo info() const override { return {.connected = true}; }
  void Stop(const std::string&, absl::Duration) override {}

  // The first message that `matches`, from the `from`-th on; waits for it.
  v1::AgentMessage Await(const char* what,
                         const std::function<bool(const v1::AgentMessage&)>& matches,
                         size_t from = 0) {
    v1::AgentMessage found;
    const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      for (size_t i = from; i < sent_.size(); ++i) {
        if (!matches(sent_[i])) continue;
        found = sent_[i];
        return true;
      }
      return false;
    };
    MutexLock lock(&mutex_);
    EXPECT_TRUE(mutex_.AwaitWithTimeout(Condition(&there), absl::Seconds(20))) << what;
    return found;
  }
  size_t count() const {
    MutexLock lock(&mutex_);
    return sent_.size();
  }

 private:
  mutable Mutex mutex_;
  std::vector<v1::AgentMessage> sent_ ABSL_GUARDED_BY(mutex_);
};

class RankAgentTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::signal(SIGPIPE, SIG_IGN);
    folder_ = absl::StrCat(::testing::TempDir(), "/leap_agent_", getpid(), "_",
                           ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
    std::ofstream text(folder_ + "/text.txt");
    for (int i = 0; i < 1200; ++i) text << "the leap of step " << i % 37 << " is verified; ";
    text.close();
    std::ofstream config(folder_ + "/config.json");
    config << R"({"model_type": "gpt2", "vocab_size": 257, "n_positions": 32, "n_embd": 32,
                  "n_layer": 1, "n_head": 2})";
    config.close();
    ASSERT_OK_AND_ASSIGN(metrics_, Metrics::Start({.room = kInWorker}));
    agent_ = std::make_unique<RankAgent>(
        RankOptions{.name = "w0", .incarnation = 5, .state_dir = folder_, .path_roots = {folder_}},
        &holdings_, metrics_.get(), &RealClock());
    callbacks_ = agent_->Callbacks();
    agent_->Attach(&session_);
  }
  void TearDown() override {
    agent_->Detach();
    agent_->Stop("test ends");
    std::filesystem::remove_all(folder_);
  }

  v1::AssignWorker Assign(uint64_t epoch, int64_t steps, const std::string& job = "job-1",
                          int64_t interval_steps = 4) {
    v1::AssignWorker assign;
    assign.set_job(job);
    assign.set_epoch(epoch);
    assign.set_rank(0);
    assign.set_world_size(1);
    assign.set_from_checkpoint(epoch == 1);
    assign.set_spec_yaml(absl::StrCat(
        "apiVersion: leap/v1\nkind: Job\nmetadata: {name: t}\nspec:\n  model: {config: ", folder_,
        "/config.json}\n  data: {paths: [", folder_,
        "/text.txt], sequence_length_tokens: 16, gate_sequences: 2, report_sequences: 2}\n  train: "
        "{steps: ",
        steps, ", batch_sequences: 2}\n  leap: {policy: default, interval_steps: ", interval_steps,
        ", warmup_steps: 4}\n"));
    return assign;
  }

  void Say(const v1::CoordinatorMessage& message) { callbacks_.on_message(message); }
  void SayAssign(const v1::AssignWorker& assign) {
    v1::CoordinatorMessage message;
    *message.mutable_assign_worker() = assign;
    Say(message);
  }
  void SayControl(v1::RunControl::Command command) {
    v1::CoordinatorMessage message;
    message.mutable_run_control()->set_job("job-1");
    message.mutable_run_control()->set_command(command);
    Say(message);
  }
  void SayCommit(uint64_t epoch, uint64_t leap) {
    v1::CoordinatorMessage message;
    message.mutable_decide()->set_job("job-1");
    message.mutable_decide()->set_epoch(epoch);
    message.mutable_decide()->set_leap(leap);
    message.mutable_decide()->set_commit(true);
    Say(message);
  }
  void SayRelease() {
    v1::CoordinatorMessage message;
    message.mutable_release()->set_job("job-1");
    message.mutable_release()->set_reason("done");
    Say(message);
  }

  std::string folder_;
  FakeSession session_;
  RankHoldings holdings_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<RankAgent> agent_;
  AgentSessionCallbacks callbacks_;
};

TEST_F(RankAgentTest, TrainsAJobFromAssignmentToResult) {
  EXPECT_EQ(callbacks_.hello().job(), "");
  SayAssign(Assign(1, 10));
  const v1::EpochReady ready =
      session_.Await("ready", [](const auto& m) { return m.has_epoch_ready(); }).epoch_ready();
  EXPECT_EQ(ready.epoch(), 1u);
  EXPECT_EQ(ready.step(), 0);
  EXPECT_NE(ready.weights_digest(), 0u);
  const v1::Data data =
      session_.Await("started", [](const auto& m) { return m.has_training_started(); })
          .training_started()
          .data();
  EXPECT_EQ(data.gate_begin(), data.train_end());
  const v1::SnapshotTaken taken =
      session_
          .Await("snapshot",
                 [](const auto& m) {
                   return m.has_snapshot_taken() && m.snapshot_taken().step() == 8;
                 })
          .snapshot_taken();
  EXPECT_EQ(taken.data_position(), 8);
  EXPECT_EQ(taken.end(), data.parameters());
  EXPECT_EQ(taken.state_digests_size(), 2);
  EXPECT_TRUE(taken.has_moments());  // audits train on from it
  const v1::JobEnded ended =
      session_.Await("ended", [](const auto& m) { return m.has_job_ended(); }).job_ended();
  EXPECT_TRUE(ended.ok()) << ended.reason();
  EXPECT_EQ(ended.result().step(), 10);
  EXPECT_GT(ended.result().gate_loss(), 0);
  EXPECT_GT(ended.result().report_loss(), 0);
  const v1::Heartbeat last =
      session_.Await("last figures", [](const auto& m) { return m.has_heartbeat(); }).heartbeat();
  EXPECT_EQ(last.trained_steps(), 10) << "the job may be over before the next heartbeat";
  const v1::CheckpointWritten written =
      session_.Await("checkpoint", [](const auto& m) { return m.has_checkpoint_written(); })
          .checkpoint_written();
  EXPECT_TRUE(std::filesystem::exists(written.path() + "/model.safetensors"));
}

TEST_F(RankAgentTest, RefusesAJobThatReadsOutsideItsRoots) {
  v1::AssignWorker assign = Assign(1, 10);
  std::string spec = assign.spec_yaml();
  absl::StrReplaceAll({{"/text.txt", "/../leap_elsewhere.txt"}}, &spec);
  assign.set_spec_yaml(spec);
  SayAssign(assign);
  const v1::JobEnded ended =
      session_.Await("ended", [](const auto& m) { return m.has_job_ended(); }).job_ended();
  EXPECT_FALSE(ended.ok());
  EXPECT_THAT(ended.reason(), HasSubstr("spec.data.paths"));
  EXPECT_THAT(ended.reason(), HasSubstr("--path-root"));
}

TEST_F(RankAgentTest, RepeatedAssignmentIsAnsweredWithTheSameReady) {
  const v1::AssignWorker assign = Assign(1, 100000);
  SayAssign(assign);
  const auto is_ready = [](const auto& m) { return m.has_epoch_ready(); };
  const v1::AgentMessage first = session_.Await("ready", is_ready);
  const size_t before = session_.count();
  SayAssign(assign);
  const v1::AgentMessage again = session_.Await("ready again", is_ready, before);
  EXPECT_EQ(again.SerializeAsString(), first.SerializeAsString());
  EXPECT_GT(callbacks_.heartbeat()->epoch(), 0u);
}

TEST_F(RankAgentTest, SaysAgainWhatStandsAfterAReconnect) {
  SayAssign(Assign(1, 6));
  const auto is_end = [](const auto& m) { return m.has_job_ended(); };
  session_.Await("ended", is_end);
  const size_t before = session_.count();
  callbacks_.on_connected({});
  session_.Await("ended again", is_end, before);
  session_.Await(
      "checkpoint again", [](const auto& m) { return m.has_checkpoint_written(); }, before);
  const v1::Hello hello = callbacks_.hello();
  EXPECT_EQ(hello.job(), "job-1");
  EXPECT_EQ(hello.step(), 6);
}

TEST_F(RankAgentTest, CommitsALeapAndAnswersRepeats) {
  // Steps are fast here and a leap ends with its interval: it is long, and training stands still
  // while the leap is agreed on.
  SayAssign(Assign(1, 1000000, "job-1", 1000));
  const v1::SnapshotTaken taken =
      session_.Await("snapshot", [](const auto& m) { return m.has_snapshot_taken(); })
          .snapshot_taken();
  SayControl(v1::RunControl::PAUSE);
  constexpr uint64_t leap = 1;
  v1::CoordinatorMessage prepare;
  prepare.mutable_prepare()->set_job("job-1");
  prepare.mutable_prepare()->set_epoch(1);
  prepare.mutable_prepare()->set_leap(leap);
  prepare.mutable_prepare()->set_base_step(taken.step());
  Say(prepare);
  const v1::PrepareVote vote =
      session_.Await("vote", [](const auto& m) { return m.has_prepare_vote(); }).prepare_vote();
  ASSERT_TRUE(vote.ok()) << vote.reason();
  SayCommit(1, leap);
  SayControl(v1::RunControl::RESUME);
  const v1::LeapOutcome outcome =
      session_.Await("outcome", [](const auto& m) { return m.has_leap_outcome(); }).leap_outcome();
  EXPECT_TRUE(outcome.applied());
  EXPECT_EQ(outcome.epoch(), 1u);
  EXPECT_NE(outcome.weights_digest(), 0u);
  const size_t from = session_.count();
  SayCommit(1, leap);
  const v1::AgentMessage again = session_.Await(
      "outcome again",
      [](const auto& m) { return m.has_leap_outcome() && m.leap_outcome().leap() == leap; }, from);
  EXPECT_TRUE(again.leap_outcome().applied());
  EXPECT_EQ(again.leap_outcome().weights_digest(), outcome.weights_digest());
  EXPECT_EQ(callbacks_.hello().last_leap(), leap);
}

TEST_F(RankAgentTest, UnknownCommitIsAnsweredAsNotApplied) {
  SayAssign(Assign(1, 100000));
  session_.Await("ready", [](const auto& m) { return m.has_epoch_ready(); });
  SayCommit(1, 77);
  const v1::LeapOutcome outcome =
      session_.Await("outcome", [](const auto& m) { return m.has_leap_outcome(); }).leap_outcome();
  EXPECT_EQ(outcome.leap(), 77u);
  EXPECT_FALSE(outcome.applied());
}

// The others may have applied it at a boundary that this rank did not come to.
TEST_F(RankAgentTest, WhoHasLeftAnEpochDeniesNoneOfItsLeaps) {
  SayAssign(Assign(1, 100000));
  session_.Await("ready", [](const auto& m) { return m.has_epoch_ready(); });
  v1::CoordinatorMessage abort;
  abort.mutable_abort_epoch()->set_job("job-1");
  abort.mutable_abort_epoch()->set_epoch(1);
  Say(abort);
  SayCommit(1, 77);
  v1::AssignWorker next = Assign(2, 100000);
  next.add_members()->set_state("live");
  SayAssign(next);
  session_.Await("second ready",
                 [](const auto& m) { return m.has_epoch_ready() && m.epoch_ready().epoch() == 2; });
  SayCommit(1, 77);
  SayCommit(2, 78);
  const v1::LeapOutcome outcome =
      session_.Await("outcome", [](const auto& m) { return m.has_leap_outcome(); }).leap_outcome();
  EXPECT_EQ(outcome.leap(), 78u);
}

TEST_F(RankAgentTest, GoesOnInTheNextEpochAndIgnoresOlderOnes) {
  SayAssign(Assign(1, 100000));
  session_.Await("snapshot", [](const auto& m) { return m.has_snapshot_taken(); });
  v1::AssignWorker next = Assign(2, 100000);
  next.add_members()->set_state("live");
  SayAssign(next);
  SayAssign(Assign(1, 100000));
  const v1::EpochReady ready =
      session_
          .Await("second ready",
                 [](const auto& m) { return m.has_epoch_ready() && m.epoch_ready().epoch() == 2; })
          .epoch_ready();
  EXPECT_GE(ready.step(), 4);  // no step lost
  EXPECT_EQ(ready.recovered_from(), "");
}

TEST_F(RankAgentTest, ReleaseMakesItIdleAndReadyForAnotherJob) {
  SayAssign(Assign(1, 100000));
  session_.Await("ready", [](const auto& m) { return m.has_epoch_ready(); });
  SayRelease();
  const absl::Time deadline = RealClock().Now() + absl::Seconds(20);
  while (!callbacks_.heartbeat()->job().empty() && RealClock().Now() < deadline) {
    RealClock().SleepFor(absl::Milliseconds(5));
  }
  EXPECT_EQ(callbacks_.hello().job(), "");
  SayAssign(Assign(1, 6, "job-2"));
  const v1::JobEnded ended =
      session_.Await("ended", [](const auto& m) { return m.has_job_ended(); }).job_ended();
  EXPECT_EQ(ended.job(), "job-2");
  EXPECT_TRUE(ended.ok());
}

TEST_F(RankAgentTest, WhatItCannotTrainIsSaidWithItsCause) {
  v1::AssignWorker assign = Assign(1, 10);
  std::filesystem::remove(folder_ + "/text.txt");
  SayAssign(assign);
  const v1::JobEnded ended =
      session_.Await("ended", [](const auto& m) { return m.has_job_ended(); }).job_ended();
  EXPECT_FALSE(ended.ok());
  EXPECT_EQ(ended.cause(), "data");
  EXPECT_THAT(ended.reason(), HasSubstr("text.txt"));
}

TEST_F(RankAgentTest, DamagedFirstWeightsAreTheJobsFault) {
  v1::AssignWorker assign = Assign(1, 10);
  std::ofstream(folder_ + "/first.safetensors") << "damaged";
  std::string spec = assign.spec_yaml();
  absl::StrReplaceAll(
      {{"/config.json}", absl::StrCat("/config.json, init: ", folder_, "/first.safetensors}")}},
      &spec);
  assign.set_spec_yaml(spec);
  SayAssign(assign);
  const v1::JobEnded ended =
      session_.Await("ended", [](const auto& m) { return m.has_job_ended(); }).job_ended();
  EXPECT_FALSE(ended.ok());
  EXPECT_EQ(ended.cause(), "data");
  EXPECT_THAT(ended.reason(), HasSubstr("spec.model.init: "));
}

}  // namespace
}  // namespace leap
