#include "verifier/agent.h"

#include <thread>

#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "verifier/fake_cluster.h"

namespace leap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::Duration kSoon = absl::Seconds(20);  // a bound, not a wait

// Collects what the agent sends.
class FakeSession final : public AgentSession {
 public:
  bool Send(v1::AgentMessage message) override {
    MutexLock lock(&mutex_);
    if (!up_) return false;
    sent_.push_back(std::move(message));
    return true;
  }
  AgentSessionInfo info() const override {
    AgentSessionInfo info;
    MutexLock lock(&mutex_);
    info.connected = up_;
    return info;
  }
  void Stop(const std::string&, absl::Duration) override {}

  void Up(bool up) {
    MutexLock lock(&mutex_);
    up_ = up;
  }
  // Waits until `count` results were sent in all.
  std::vector<v1::TaskResult> Results(size_t count) {
    MutexLock lock(&mutex_);
    const auto enough = [&]()
                            ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return sent_.size() >= count; };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(Condition(&enough), kSoon));
    std::vector<v1::TaskResult> results;
    for (const v1::AgentMessage& message : sent_) results.push_back(message.task_result());
    return results;
  }

 private:
  mutable Mutex mutex_;
  bool up_ ABSL_GUARDED_BY(mutex_) = true;
  std::vector<v1::AgentMessage> sent_ ABSL_GUARDED_BY(mutex_);
};

class NoMetrics final : public Metrics {
 public:
  void Count(Metric, Labels, double) override {}
  void Set(Metric, Labels, double) override {}
  void Observe(Metric, Labels, double) override {}
  void Forget(absl::string_view, absl::string_view) override {}
  int port() const override { return 0; }
  std::string Text() const override { return ""; }
};

constexpr char kSpec[] =
    "apiVersion: leap/v1\nkind: Job\nmetadata: {name: t}\n"
    "spec: {data: {paths: [/t]}, train: {steps: 100}}\n";

struct AgentTest : ::testing::Test {
  AgentTest() {
    cluster.Set(50, v1::BUFFER_WEIGHTS, 2.0f);
    VerifierParts parts{.store = &store,
                        .metrics = &metrics,
                        .clock = &RealClock(),
                        .fetch = cluster.Fetcher(),
                        .make_scorer = [this](const JobSpec&, const std::string&) {
                          ++scorers_made;
                          return MakeFake();
                        }};
    agent = std::make_unique<VerifierAgent>(
        VerifierOptions{.name = "v0", .incarnation = 7, .data_address = "127.0.0.1:1"},
        std::move(parts));
    callbacks = agent->Callbacks();
    agent->Attach(&session);
  }
  ~AgentTest() override {
    agent->Detach();
    agent->Stop("test over");
  }
  absl::StatusOr<std::unique_ptr<Scorer>> MakeFake() const {
    if (!scorer_error.ok()) return scorer_error;
    return std::make_unique<FakeScorer>();
  }
  void Assign(const std::string& spec = kSpec) {
    v1::CoordinatorMessage message;
    message.mutable_assign_verifier()->set_job("job");
    message.mutable_assign_verifier()->set_epoch(3);
    message.mutable_assign_verifier()->set_spec_yaml(spec);
    callbacks.on_message(message);
  }
  void Ask(uint64_t id) {
    v1::CoordinatorMessage message;
    *message.mutable_task() = cluster.Task(v1::Task::BASELINE, {50});
    message.mutable_task()->set_task(id);
    callbacks.on_message(message);
  }

  FakeCluster cluster;
  SnapshotStore store;
  NoMetrics metrics;
  FakeSession session;
  absl::Status scorer_error;
  std::atomic<int> scorers_made = 0;
  std::unique_ptr<VerifierAgent> agent;
  AgentSessionCallbacks callbacks;
};

TEST_F(AgentTest, ScoresForTheJobItIsGiven) {
  Assign();
  Ask(1);
  Ask(2);
  const std::vector<v1::TaskResult> results = session.Results(2);
  EXPECT_TRUE(results[0].ok()) << results[0].error();
  EXPECT_THAT(results[1].gate_losses(), ElementsAre(2.0f, 3.0f));
  EXPECT_EQ(scorers_made, 1);
  EXPECT_GT(callbacks.heartbeat()->busy_seconds(), 0);
}

TEST_F(AgentTest, HelloAndHeartbeatSayWhatItHolds) {
  EXPECT_EQ(callbacks.hello().job(), "");
  EXPECT_EQ(callbacks.hello().role(), v1::ROLE_VERIFIER);
  Assign();
  EXPECT_EQ(callbacks.hello().job(), "job");  // at once, though the scoring thread may be behind
  EXPECT_EQ(callbacks.heartbeat()->epoch(), 3u);
}

TEST_F(AgentTest, ANewEpochOfTheSameJobKeepsModelAndText) {
  Assign();
  Assign();
  Ask(1);
  session.Results(1);
  EXPECT_EQ(scorers_made, 1);
}

TEST_F(AgentTest, AJobThatCannotBeOpenedAnswersEachTaskWithTheReason) {
  scorer_error = absl::NotFoundError("data.paths: /t matches nothing");
  Assign();
  Ask(1);
  const std::vector<v1::TaskResult> results = session.Results(1);
  EXPECT_FALSE(results[0].ok());
  EXPECT_THAT(results[0].error(), HasSubstr("/t matches nothing"));
}

TEST_F(AgentTest, ASpecItDoesNotUnderstandIsAnAnswerToo) {
  Assign("spec: {colour: red}");
  Ask(1);
  EXPECT_FALSE(session.Results(1)[0].ok());
}

TEST_F(AgentTest, AfterAReconnectItSaysItsResultsAgain) {
  Assign();
  session.Up(false);
  Ask(1);
  while (agent->Callbacks().heartbeat()->step() < 50) std::this_thread::yield();
  session.Up(true);
  callbacks.on_connected({});
  EXPECT_EQ(session.Results(1)[0].task(), 1u);
}

TEST_F(AgentTest, ReleaseMakesItIdleAndForgetsTheRing) {
  Assign();
  Ask(1);
  session.Results(1);
  v1::CoordinatorMessage message;
  message.mutable_release()->set_job("job");
  callbacks.on_message(message);
  while (!callbacks.hello().job().empty()) std::this_thread::yield();
  EXPECT_TRUE(store.List("job").empty());
}

TEST_F(AgentTest, StepsAsideAtOnceAndWithoutAnAnswer) {
  Assign();
  Ask(1);
  session.Results(1);
  agent->StepAside("takes rank 1 of epoch 2");
  EXPECT_EQ(callbacks.hello().job(), "");
  Ask(2);
  const std::vector<v1::TaskResult> results = session.Results(2);
  EXPECT_FALSE(results[1].ok()) << "the job is not held any more";
  Assign();  // and back
  Ask(3);
  EXPECT_TRUE(session.Results(3)[2].ok());
}

}  // namespace
}  // namespace leap
