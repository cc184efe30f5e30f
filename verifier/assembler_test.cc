#include "verifier/assembler.h"

#include "base/fake_clock.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "verifier/fake_cluster.h"

namespace leap {
namespace {

constexpr int kLinear = 0, kOuter = 1, kMomentum = 2;

JobSpec SpecOf() {
  JobSpec spec;
  spec.train.steps = 1000;
  spec.leap.interval_steps = 50;
  spec.leap.warmup_steps = 50;
  spec.leap.predictors = {{.name = "linear", .horizons_steps = {50}},
                          {.name = "outer-nesterov"},
                          {.name = "momentum", .horizons_steps = {5}}};
  return spec;
}

struct AssemblerTest : ::testing::Test {
  AssemblerTest() {
    assembler = *Assembler::Create("job", spec, SmallLayout(), &store, cluster.Fetcher(), 0);
    store.Reset("job", assembler->depth());
    for (const int64_t step : {50, 100, 150, 200, 250}) {
      cluster.Set(step, v1::BUFFER_WEIGHTS, static_cast<float>(step));
    }
  }
  v1::Task CandidateTask(int predictor, int64_t horizon, const std::vector<int64_t>& steps) {
    v1::Task task = cluster.Task(v1::Task::CANDIDATE, steps);
    task.set_predictor(predictor);
    task.set_horizon_steps(horizon);
    return task;
  }
  // The ranks' own S_t: (o, b) after the snapshots 50, 100, .. up to `step` with no leap.
  void SetState(int64_t step, float outer, float momentum) {
    cluster.Set(step, v1::BUFFER_STATE_0, outer);
    cluster.Set(step, v1::BUFFER_STATE_1, momentum);
  }

  const JobSpec spec = SpecOf();
  FakeClock clock;
  TaskControl control{clock, absl::InfiniteFuture()};
  FakeCluster cluster;
  SnapshotStore store;
  std::unique_ptr<Assembler> assembler;
};

TEST_F(AssemblerTest, RingIsAsDeepAsTheHungriestPredictorAndOneMore) {
  EXPECT_EQ(assembler->depth(), 3);
  JobSpec hungry = spec;
  hungry.leap.predictors.push_back({.name = "average", .params = {{"n", 4}}});
  EXPECT_EQ(
      (*Assembler::Create("job", hungry, SmallLayout(), &store, cluster.Fetcher(), 0))->depth(), 5);
}

TEST_F(AssemblerTest, LinearReadsTwoSnapshotsAndFetchesEachOnce) {
  ASSERT_OK_AND_ASSIGN(const Candidate candidate,
                       assembler->Build(CandidateTask(kLinear, 50, {100, 50}), control));
  EXPECT_EQ(candidate.weights[0], 150.0f);  // 100 + 1 * (100 - 50)
  EXPECT_EQ(candidate.weights[1], 300.0f);
  EXPECT_OK(assembler->Build(CandidateTask(kLinear, 25, {100, 50}), control));
  EXPECT_EQ(cluster.Fetches(100, v1::BUFFER_WEIGHTS), 1);
  EXPECT_EQ(cluster.Fetches(50, v1::BUFFER_WEIGHTS), 1);
}

TEST_F(AssemblerTest, ATaskWithTooFewSnapshotsIsAnError) {
  const auto candidate = assembler->Build(CandidateTask(kLinear, 50, {100}), control);
  EXPECT_EQ(candidate.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(AssemblerTest, AnUnknownPredictorIsAnError) {
  const auto candidate = assembler->Build(CandidateTask(17, 50, {100, 50}), control);
  EXPECT_EQ(candidate.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(AssemblerTest, CorruptWeightsAreRefused) {
  v1::Task task = CandidateTask(kLinear, 50, {100, 50});
  task.mutable_snapshots(0)->set_weights_digest(12345);
  EXPECT_EQ(assembler->Build(task, control).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(AssemblerTest, FirstStateAfterWarmUpIsComputedNotFetched) {
  SetState(50, 50, 0);
  ASSERT_OK_AND_ASSIGN(const std::vector<Floats> state,
                       assembler->State(CandidateTask(kOuter, 0, {50}), control));
  EXPECT_EQ((*state[0])[0], 50.0f);
  EXPECT_EQ((*state[1])[0], 0.0f);
  EXPECT_EQ(cluster.Fetches(50, v1::BUFFER_STATE_0), 0);
}

TEST_F(AssemblerTest, StateIsAdvancedWithoutALeap) {
  SetState(50, 50, 0);
  SetState(100, 50, 50);  // o = θ_50, b = 0.5 * 0 + (100 - 50)
  ASSERT_OK(assembler->State(CandidateTask(kOuter, 0, {50}), control));
  ASSERT_OK(assembler->State(CandidateTask(kOuter, 0, {100, 50}), control));
  EXPECT_EQ(cluster.Fetches(100, v1::BUFFER_STATE_0), 0);
}

TEST_F(AssemblerTest, StateIsAdvancedOverTheAppliedLeap) {
  SetState(50, 50, 0);
  SetState(100, 50, 50);
  ASSERT_OK(assembler->State(CandidateTask(kOuter, 0, {50}), control));
  // θ̂(100) = 100 + ((0.8 - 1) * 50 + 0.8 * 0.5 * 50) = 110: the anchor at 150, where d = 40, b
  // = 65.
  ASSERT_OK_AND_ASSIGN(const Candidate leap,
                       assembler->Build(CandidateTask(kOuter, 0, {100, 50}), control));
  const float anchor = leap.weights[0];
  EXPECT_NEAR(anchor, 110, 1e-4);
  const std::vector<float>& theta = cluster.Get(150, v1::BUFFER_WEIGHTS);
  std::vector<float> momentum(theta.size());
  for (size_t i = 0; i < theta.size(); ++i) {
    momentum[i] = 0.5f * cluster.Get(100, v1::BUFFER_STATE_1)[i] + (theta[i] - leap.weights[i]);
  }
  cluster.Set(150, v1::BUFFER_STATE_0, leap.weights);
  cluster.Set(150, v1::BUFFER_STATE_1, momentum);
  v1::Task task = CandidateTask(kOuter, 0, {150, 100});
  task.mutable_applied()->set_leap(1);
  task.mutable_applied()->set_base_step(100);
  task.mutable_applied()->set_predictor(kOuter);
  ASSERT_OK_AND_ASSIGN(const std::vector<Floats> state, assembler->State(task, control));
  EXPECT_EQ((*state[0])[0], anchor);
  EXPECT_EQ(cluster.Fetches(150, v1::BUFFER_STATE_0), 0);
}

TEST_F(AssemblerTest, ALateVerifierFetchesTheState) {
  SetState(200, 150, 75);
  ASSERT_OK_AND_ASSIGN(const std::vector<Floats> state,
                       assembler->State(CandidateTask(kOuter, 0, {200, 150}), control));
  EXPECT_EQ((*state[1])[0], 75.0f);
  EXPECT_EQ(cluster.Fetches(200, v1::BUFFER_STATE_0), 1);
  EXPECT_EQ(cluster.Fetches(200, v1::BUFFER_STATE_1), 1);
}

TEST_F(AssemblerTest, AStateThatDisagreesWithTheRanksIsNotTrusted) {
  SetState(50, 50, 0);
  ASSERT_OK(assembler->State(CandidateTask(kOuter, 0, {50}), control));
  SetState(100, 60, 40);  // the ranks leapt; the task does not say so
  ASSERT_OK_AND_ASSIGN(const std::vector<Floats> state,
                       assembler->State(CandidateTask(kOuter, 0, {100, 50}), control));
  EXPECT_EQ((*state[0])[0], 60.0f);
  EXPECT_EQ(cluster.Fetches(100, v1::BUFFER_STATE_0), 1);
}

TEST_F(AssemblerTest, MomentsAreFetchedOnDemandAndKeptForTheStepAlone) {
  for (const int64_t step : {100, 150}) {
    cluster.Set(step, v1::BUFFER_EXP_AVG, 0.01f);
    cluster.Set(step, v1::BUFFER_EXP_AVG_SQ, 0.0001f);
  }
  v1::Task task = CandidateTask(kMomentum, 5, {100});
  task.set_adam_step(100);
  ASSERT_OK_AND_ASSIGN(const Candidate candidate, assembler->Build(task, control));
  EXPECT_LT(candidate.weights[0], 100.0f);
  ASSERT_OK(assembler->Build(task, control));
  EXPECT_EQ(cluster.Fetches(100, v1::BUFFER_EXP_AVG), 1);
  ASSERT_OK(assembler->WithMoments(CandidateTask(kMomentum, 5, {150}), control));
  EXPECT_EQ(store.FindStep("job", 100)->exp_avg, nullptr);
}

TEST_F(AssemblerTest, MomentsThatWereNotTakenAreAnError) {
  const auto held = assembler->WithMoments(CandidateTask(kMomentum, 5, {100}), control);
  EXPECT_EQ(held.status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(AssemblerTest, StopsWhenCancelled) {
  control.Cancel("superseded");
  EXPECT_EQ(assembler->Build(CandidateTask(kLinear, 50, {100, 50}), control).status(),
            absl::CancelledError("superseded"));
}

}  // namespace
}  // namespace leap
