#include "core/planner.h"

#include <algorithm>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// linear × {5, 10, 25}, quadratic × {10, 50}, outer-nesterov: six candidates; no exploration.
LeapSpec Spec() {
  LeapSpec spec;
  spec.predictors = {{.name = "linear", .horizons_steps = {5, 10, 25}},
                     {.name = "quadratic", .horizons_steps = {10, 50}},
                     {.name = "outer-nesterov"}};
  spec.regimes = {"transition", "stable"};
  spec.warmup_steps = 100;
  spec.exploration = 0;
  return spec;
}

PlanInputs Inputs() {
  return {.base_step = 200,
          .snapshots_held = 4,
          .regime = {.regime = Regime::kStable},
          .verifiers_free = 2};
}

Verdict Outcome(VerdictReason reason) {
  return {.accepted = reason == VerdictReason::kAccepted, .reason = reason};
}

TEST(PlannerTest, TriesEveryPredictorAtEveryHorizonInTheSpecsOrder) {
  const Plan plan = Planner(Spec(), 1).PlanFor(Inputs());
  EXPECT_THAT(plan.candidates,
              ElementsAre(CandidateKey{0, 5}, CandidateKey{0, 10}, CandidateKey{0, 25},
                          CandidateKey{1, 10}, CandidateKey{1, 50}, CandidateKey{2, 0}));
  EXPECT_EQ(plan.sentence, "6 of 6 candidates for 2 free verifiers, regime stable");
}

TEST(PlannerTest, MoreSparesWiderSearch) {
  LeapSpec spec = Spec();
  spec.predictors[0].horizons_steps = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};
  PlanInputs in = Inputs();
  const auto width = [&](int free) {
    in.verifiers_free = free;
    return Planner(spec, 1).PlanFor(in).candidates.size();
  };
  EXPECT_EQ(width(1), 4u);
  EXPECT_EQ(width(3), 12u);
  EXPECT_EQ(width(4), 16u);
  EXPECT_EQ(width(100), 16u);  // all there are, and max_candidates
  spec.max_candidates = 5;
  EXPECT_EQ(width(100), 5u);
}

TEST(PlannerTest, NoVerifierNoCandidateAndNothingIsToBlame) {
  PlanInputs in = Inputs();
  in.verifiers_free = 0;
  const Plan plan = Planner(Spec(), 1).PlanFor(in);
  EXPECT_THAT(plan.candidates, IsEmpty());
  EXPECT_EQ(plan.reason, VerdictReason::kAccepted);
}

TEST(PlannerTest, SaysWhyItDoesNotLeap) {
  const auto reason = [](const LeapSpec& spec, const PlanInputs& in, const char* words) {
    const Plan plan = Planner(spec, 1).PlanFor(in);
    EXPECT_THAT(plan.candidates, IsEmpty());
    EXPECT_THAT(plan.sentence, HasSubstr(words));
    return plan.reason;
  };
  PlanInputs early = Inputs(), chaotic = Inputs(), off = Inputs(), first = Inputs(), old = Inputs();
  early.base_step = 99;
  EXPECT_EQ(reason(Spec(), early, "before the end of warm-up, step 100"), VerdictReason::kWarmup);
  chaotic.regime.regime = Regime::kChaotic;
  EXPECT_EQ(reason(Spec(), chaotic, "regime is chaotic; this policy leaps in: transition, stable"),
            VerdictReason::kRegime);
  off.policy_off = true;
  EXPECT_EQ(reason(Spec(), off, "switched off"), VerdictReason::kPolicyOff);
  LeapSpec disabled = Spec();
  disabled.enabled = false;
  EXPECT_EQ(reason(disabled, Inputs(), "leaps are off"), VerdictReason::kPolicyOff);
  LeapSpec extrapolation = Spec();
  extrapolation.predictors.pop_back();
  first.snapshots_held = 1;
  EXPECT_EQ(reason(extrapolation, first, "every predictor"), VerdictReason::kWarmup);
  LeapSpec replace = Spec();
  replace.commit_rule = CommitRule::kReplace;
  old.expected_verdict_age_steps = 50;
  EXPECT_EQ(reason(replace, old, "no horizon is longer than the 50 steps"),
            VerdictReason::kHorizonTooShort);
}

TEST(PlannerTest, WithTooFewSnapshotsOnlyPredictorsThatNeedNoMore) {
  PlanInputs in = Inputs();
  in.snapshots_held = 1;
  EXPECT_THAT(Planner(Spec(), 1).PlanFor(in).candidates, ElementsAre(CandidateKey{2, 0}));
  in.snapshots_held = 2;
  EXPECT_THAT(Planner(Spec(), 1).PlanFor(in).candidates, SizeIs(4));
}

TEST(PlannerTest, ReplaceNeverTriesAHorizonThatTheVerdictOutlives) {  // protocol.md: K ≤ δ
  LeapSpec spec = Spec();
  spec.commit_rule = CommitRule::kReplace;
  PlanInputs in = Inputs();
  in.expected_verdict_age_steps = 10;
  EXPECT_THAT(Planner(spec, 1).PlanFor(in).candidates,
              ElementsAre(CandidateKey{0, 25}, CandidateKey{1, 50}));
  spec.commit_rule = CommitRule::kRebase;
  EXPECT_THAT(Planner(spec, 1).PlanFor(in).candidates, SizeIs(6));
}

TEST(PlannerTest, WhatWasAcceptedLatelyComesFirst) {
  Planner planner(Spec(), 1);
  planner.Record(Regime::kStable, {1, 50}, Outcome(VerdictReason::kAccepted));
  planner.Record(Regime::kStable, {0, 5}, Outcome(VerdictReason::kNotBetter));
  EXPECT_THAT(planner.PlanFor(Inputs()).candidates,
              ElementsAre(CandidateKey{1, 50}, CandidateKey{0, 10}, CandidateKey{0, 25},
                          CandidateKey{1, 10}, CandidateKey{2, 0}, CandidateKey{0, 5}));
}

TEST(PlannerTest, LearnsPerRegime) {
  Planner planner(Spec(), 1);
  planner.Record(Regime::kTransition, {1, 50}, Outcome(VerdictReason::kAccepted));
  EXPECT_EQ(planner.PlanFor(Inputs()).candidates.front(), (CandidateKey{0, 5}));
  PlanInputs in = Inputs();
  in.regime.regime = Regime::kTransition;
  EXPECT_EQ(planner.PlanFor(in).candidates.front(), (CandidateKey{1, 50}));
}

TEST(PlannerTest, ForgetsWhatIsLongPast) {
  Planner planner(Spec(), 1);
  for (int i = 0; i < 100; ++i) {
    planner.Record(Regime::kStable, {0, 5}, Outcome(VerdictReason::kNotBetter));
  }
  for (int i = 0; i < 10; ++i) {
    planner.Record(Regime::kStable, {0, 5}, Outcome(VerdictReason::kAccepted));
  }
  EXPECT_EQ(planner.PlanFor(Inputs()).candidates.front(), (CandidateKey{0, 5}));
}

TEST(PlannerTest, OnlyJudgementsOfTheLossCount) {
  for (const VerdictReason reason :
       {VerdictReason::kRegime, VerdictReason::kWarmup, VerdictReason::kHorizonTooShort,
        VerdictReason::kSuperseded, VerdictReason::kPolicyOff, VerdictReason::kNoHistory}) {
    Planner planner(Spec(), 1);
    planner.Record(Regime::kStable, {0, 5}, Outcome(reason));
    EXPECT_EQ(planner.PlanFor(Inputs()).candidates.front(), (CandidateKey{0, 5}));
  }
  Planner planner(Spec(), 1);
  planner.Record(Regime::kStable, {2, 0}, Outcome(VerdictReason::kDryRun));
  EXPECT_EQ(planner.PlanFor(Inputs()).candidates.front(), (CandidateKey{2, 0}));
}

TEST(PlannerTest, APlanReplays) {
  LeapSpec spec = Spec();
  spec.exploration = 0.5;
  std::set<std::vector<CandidateKey>> plans;
  for (int64_t step = 200; step < 1200; step += 50) {
    PlanInputs in = Inputs();
    in.base_step = step;
    const Plan plan = Planner(spec, 7).PlanFor(in);
    EXPECT_EQ(plan.candidates, Planner(spec, 7).PlanFor(in).candidates);
    plans.insert(plan.candidates);
  }
  EXPECT_GT(plans.size(), 5u);  // but not every time the same
}

TEST(PlannerTest, ExploresTheShareItIsAskedTo) {
  LeapSpec spec = Spec();
  spec.max_candidates = 1;
  spec.exploration = 0.25;
  int others = 0;
  for (int64_t step = 0; step < 4000; ++step) {
    PlanInputs in = Inputs();
    in.base_step = 200 + step;
    const Plan plan = Planner(spec, 3).PlanFor(in);
    ASSERT_THAT(plan.candidates, SizeIs(1));
    others += plan.candidates[0] != CandidateKey{0, 5} ? 1 : 0;
  }
  EXPECT_NEAR(others / 4000.0, 0.25 * 5 / 6, 0.03);  // one draw in six is the first anyway
}

TEST(PlannerTest, NoCandidateIsTriedTwiceAtASnapshot) {
  LeapSpec spec = Spec();
  for (const double exploration : {0.0, 0.3, 1.0}) {
    spec.exploration = exploration;
    for (uint64_t seed = 0; seed < 50; ++seed) {
      const Plan plan = Planner(spec, seed).PlanFor(Inputs());
      const std::set<CandidateKey> distinct(plan.candidates.begin(), plan.candidates.end());
      EXPECT_EQ(distinct.size(), 6u) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace leap
