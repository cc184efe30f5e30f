#include "leapctl/summary.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

v1::Snapshot SnapshotAt(int64_t step, double loss, double similarity, const std::string& regime) {
  v1::Snapshot snapshot;
  snapshot.set_step(step);
  snapshot.set_scored(true);
  snapshot.set_gate_loss(loss);
  snapshot.set_report_loss(loss + 0.01);
  snapshot.set_similarity(similarity);
  snapshot.set_regime(regime);
  return snapshot;
}

v1::Candidate CandidateOf(const std::string& regime, bool accepted, const std::string& reason) {
  v1::Candidate candidate;
  candidate.set_regime(regime);
  candidate.set_predictor("linear");
  candidate.set_horizon_steps(25);
  candidate.set_accepted(accepted);
  candidate.set_reason(reason);
  return candidate;
}

v1::Job Ended(double report_loss) {
  v1::Job job;
  job.set_job("demo-1");
  job.set_name("demo");
  job.set_state(v1::Job::SUCCEEDED);
  job.set_spec_yaml(
      "apiVersion: leap/v1\nkind: Job\nmetadata: {name: demo}\n"
      "spec: {data: {paths: [/t]}, train: {steps: 300}, workers: {replicas: 2}}\n");
  job.mutable_progress()->set_step(300);
  job.mutable_progress()->set_steps(300);
  job.mutable_progress()->set_trained_steps(300);
  job.mutable_result()->set_report_loss(report_loss);
  return job;
}

struct SummaryTest : ::testing::Test {
  SummaryTest() {
    inputs.run.job = Ended(1.90);
    inputs.baseline.emplace();
    inputs.baseline->job = Ended(2.00);
    double similarity = kNaN;
    for (int64_t step = 50; step <= 300; step += 50) {
      const double loss = 3.0 - 0.003 * static_cast<double>(step);
      inputs.run.snapshots.push_back(
          SnapshotAt(step, loss, similarity, step == 50 ? "unknown" : "stable"));
      inputs.baseline->snapshots.push_back(SnapshotAt(step, loss, similarity, "stable"));
      similarity = 0.99;
    }
  }
  SummaryInputs inputs;
};

TEST_F(SummaryTest, APositiveSavingIsWorthSteps) {
  const Saving saving = SavingOf(inputs);
  EXPECT_EQ(saving.verdict, SavingVerdict::kPositive);
  EXPECT_NEAR(saving.difference, -0.1, 1e-9);
  ASSERT_TRUE(saving.worth_steps.has_value());
  EXPECT_NEAR(*saving.worth_steps, 0.1 / 0.003, 1e-6);
  EXPECT_THAT(RenderSummary(inputs), HasSubstr("The saving is POSITIVE: 0.1000 nats a token better "
                                               "than without leaps,\n  worth about 33 steps"));
}

TEST_F(SummaryTest, NilAndNegativeAreSaidInThoseWords) {
  inputs.run.job.mutable_result()->set_report_loss(2.001);
  EXPECT_THAT(RenderSummary(inputs), HasSubstr("The saving is NIL"));
  inputs.run.job.mutable_result()->set_report_loss(2.2);
  EXPECT_THAT(RenderSummary(inputs),
              AllOf(HasSubstr("The saving is NEGATIVE: 0.2000 nats a token worse"),
                    Not(HasSubstr("POSITIVE"))));
}

TEST_F(SummaryTest, ARunThatDidNotEndWellSavesNothingThatIsKnown) {
  inputs.baseline->job.set_state(v1::Job::CANCELLED);
  EXPECT_EQ(SavingOf(inputs).verdict, SavingVerdict::kUnknown);
  EXPECT_THAT(RenderSummary(inputs), HasSubstr("The saving is UNKNOWN"));
  inputs.baseline.reset();
  EXPECT_THAT(RenderSummary(inputs), HasSubstr("--baseline JOB"));
}

TEST_F(SummaryTest, RegimesThroughTime) {
  inputs.run.snapshots.back().set_regime_confirmed(true);
  inputs.run.snapshots[2].set_scored(false);
  const std::string text = RenderSummary(inputs);
  EXPECT_THAT(text, HasSubstr("      50           -  unknown          2.8500       2.8600\n"));
  EXPECT_THAT(text, HasSubstr("     150           -  not scored "));
  EXPECT_THAT(text, HasSubstr("     300    0.990000  stable*          2.1000       2.1100\n"));
}

TEST_F(SummaryTest, AJobThatGoesOnHasNoDuration) {
  inputs.run.job.set_state(v1::Job::RUNNING);
  EXPECT_THAT(RenderSummary(inputs), HasSubstr("demo (demo-1): RUNNING, step 300 of 300\n"));
}

TEST_F(SummaryTest, AcceptanceIsCountedByRegimePredictorAndHorizon) {
  inputs.run.candidates = {
      CandidateOf("stable", true, "accepted"), CandidateOf("stable", true, "superseded"),
      CandidateOf("stable", false, "not-better"), CandidateOf("chaotic", false, "regime")};
  const std::string text = RenderSummary(inputs);
  EXPECT_THAT(text, HasSubstr("stable       linear                25      3         2    67%  "
                              "1 not-better, 1 superseded\n"));
  EXPECT_THAT(text, HasSubstr("chaotic      linear                25      1         0     0%"));
}

TEST_F(SummaryTest, SaysHowManyLeapsTheEquivalentStepsLeaveOut) {
  v1::Leap leap;
  leap.set_state(v1::Leap::APPLIED);
  inputs.run.leaps.assign(3, leap);
  inputs.run.leaps[1].set_equivalent_known(true);
  inputs.run.job.mutable_leaps()->set_equivalent_known(true);
  inputs.run.job.mutable_leaps()->set_equivalent_steps(12.5);
  EXPECT_THAT(RenderSummary(inputs),
              HasSubstr("equivalent +12.5 steps without the 2 of which it is unknown\n"));
  inputs.run.leaps.resize(2);
  inputs.run.leaps.erase(inputs.run.leaps.begin());
  EXPECT_THAT(RenderSummary(inputs), HasSubstr("equivalent +12.5 steps\n"));
}

TEST_F(SummaryTest, LeapsShowWhatTheySavedAndWhatIsNotKnown) {
  EXPECT_THAT(RenderSummary(inputs), HasSubstr("no leap was attempted"));
  v1::Leap leap;
  leap.set_leap(1);
  leap.set_base_step(100);
  leap.set_boundary_step(107);
  leap.set_predictor("outer-nesterov");
  leap.set_state(v1::Leap::APPLIED);
  leap.set_pause_seconds(0.0042);
  leap.set_promised_difference(0.0123);
  inputs.run.leaps.push_back(leap);
  leap.set_leap(2);
  leap.set_state(v1::Leap::EXPIRED);
  inputs.run.leaps.push_back(leap);
  const std::string text = RenderSummary(inputs);
  EXPECT_THAT(text, HasSubstr("4.2 ms    +0.0    +0.0    unknown   +0.0123  not audited\n"));
  EXPECT_THAT(text, HasSubstr("EXPIRED             -       -       -          -   +0.0123"));
}

TEST_F(SummaryTest, ARunWithLeapsOffIsCalledSo) {
  inputs.run.job.set_spec_yaml(
      "apiVersion: leap/v1\nkind: Job\nmetadata: {name: demo}\n"
      "spec: {data: {paths: [/t]}, train: {steps: 300}, leap: {policy: 'off'}}\n");
  inputs.baseline.reset();
  EXPECT_THAT(RenderSummary(inputs), AllOf(HasSubstr("without leaps    1.9000 after 300"),
                                           Not(HasSubstr("  with leaps"))));
}

TEST_F(SummaryTest, LinesFitATerminal) {
  v1::Leap leap;
  leap.set_predictor("quadratic:newton");
  leap.set_state(v1::Leap::ROLLED_BACK);
  inputs.run.leaps.push_back(leap);
  const std::string text = RenderSummary(inputs);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    EXPECT_LE(end - begin, 120u) << text.substr(begin, end - begin);
    begin = end + 1;
  }
}

}  // namespace
}  // namespace leap
