#include "core/job_spec.h"

#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "base/test_paths.h"
#include "core/predictor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

// The smallest job, with `lines` under spec.
std::string Job(absl::string_view lines = "") {
  const bool trains = absl::StrContains(lines, "train:");
  return absl::StrCat(
      "apiVersion: leap/v1\nkind: Job\nmetadata: {name: good}\nspec:\n  data: {paths: "
      "[corpus.txt]}\n",
      lines.empty() ? "" : "  ", lines, "\n", trains ? "" : "  train: {steps: 1000}\n");
}

std::string Example(absl::string_view name) {
  std::ifstream file(SourcePath(absl::StrCat("examples/", name, ".yaml")));
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(JobSpecTest, TheSmallestJobHasTheDefaultsOfTheStructsAndOfTheDefaultPolicy) {
  ASSERT_OK_AND_ASSIGN(const JobSpec spec, ParseJobSpec(Job()));

  EXPECT_EQ(spec.name, "good");
  EXPECT_THAT(spec.data.paths, ElementsAre("corpus.txt"));
  EXPECT_EQ(spec.train.steps, 1000);
  EXPECT_EQ(spec.train.lr, TrainSpec{}.lr);
  EXPECT_EQ(spec.train.schedule, LrSchedule::kWsd);
  EXPECT_EQ(spec.leap.policy, "default");
  EXPECT_EQ(spec.leap.interval_steps, 50);
  ASSERT_THAT(spec.leap.predictors, SizeIs(1));
  EXPECT_EQ(spec.leap.predictors[0].name, "outer-nesterov");
  EXPECT_THAT(spec.leap.predictors[0].params, ElementsAre(Pair("eta", 0.8), Pair("mu", 0.5)));
  EXPECT_EQ(spec.leap.criterion.name, "guard");
  EXPECT_EQ(spec.leap.criterion.bound, 0.05);
  EXPECT_THAT(spec.leap.regimes, ElementsAre("unknown", "chaotic", "transition", "stable"));
  EXPECT_EQ(spec.leap.commit_rule, CommitRule::kRebase);
  EXPECT_EQ(spec.leap.optimizer, OptimizerRule::kKeep);
  EXPECT_FALSE(spec.leap.advance_step);
  EXPECT_EQ(spec.regime.thresholds, "adaptive");
}

TEST(JobSpecTest, LineSearchSearchesAlongTheLastDisplacement) {
  ASSERT_OK_AND_ASSIGN(const JobSpec spec, ParseJobSpec(Job("leap: {policy: line-search}")));

  EXPECT_EQ(spec.leap.interval_steps, 10);
  ASSERT_THAT(spec.leap.predictors, SizeIs(1));
  EXPECT_EQ(spec.leap.predictors[0].name, "linear");
  EXPECT_THAT(spec.leap.predictors[0].horizons_steps, ElementsAre(5, 10, 20, 40, 80, 160));
  EXPECT_EQ(spec.leap.criterion.name, "paired");
  EXPECT_THAT(spec.leap.regimes, ElementsAre("transition", "stable"));
  EXPECT_EQ(spec.leap.commit_rule, CommitRule::kRebase);
}

TEST(JobSpecTest, PaperIsThePaper) {
  ASSERT_OK_AND_ASSIGN(const JobSpec spec, ParseJobSpec(Job("leap: {policy: paper}")));

  ASSERT_THAT(spec.leap.predictors, SizeIs(3));
  for (const PredictorSpec& predictor : spec.leap.predictors) {
    EXPECT_THAT(predictor.horizons_steps, ElementsAre(5, 10, 25, 50, 75, 100));
    EXPECT_EQ(predictor.form, predictor.name == "linear" ? "" : "paper");
  }
  EXPECT_EQ(spec.leap.criterion.name, "strict");
  EXPECT_THAT(spec.leap.regimes, ElementsAre("transition", "stable"));
  EXPECT_EQ(spec.leap.commit_rule, CommitRule::kReplace);
  EXPECT_EQ(spec.leap.optimizer, OptimizerRule::kReset);
  EXPECT_TRUE(spec.leap.advance_step);
  EXPECT_EQ(spec.regime.thresholds, "fixed");
}

TEST(JobSpecTest, OffHasNoLeaps) {
  ASSERT_OK_AND_ASSIGN(const JobSpec spec, ParseJobSpec(Job("leap: {policy: off}")));

  EXPECT_FALSE(spec.leap.enabled);
  EXPECT_THAT(spec.leap.predictors, IsEmpty());
  EXPECT_EQ(spec.leap.interval_steps, 50);
}

TEST(JobSpecTest, WhatTheFileSaysIsWrittenOverThePresetWhateverTheOrder) {
  ASSERT_OK_AND_ASSIGN(const JobSpec spec,
                       ParseJobSpec(Job("regime: {thresholds: adaptive}\n"
                                        "  leap:\n"
                                        "    interval_steps: 20\n"
                                        "    predictors: [{name: momentum, horizons_steps: [5]}]\n"
                                        "    policy: paper")));

  EXPECT_EQ(spec.leap.interval_steps, 20);
  EXPECT_EQ(spec.regime.thresholds, "adaptive");
  ASSERT_THAT(spec.leap.predictors, SizeIs(1));
  EXPECT_EQ(spec.leap.predictors[0].form, "adam") << "the first form is filled in";
  EXPECT_EQ(spec.leap.criterion.name, "strict") << "the rest is the preset's";
}

TEST(JobSpecTest, WarmupShrinksWithAShortJob) {
  ASSERT_OK_AND_ASSIGN(const JobSpec spec, ParseJobSpec(Job("train: {steps: 5}")));

  EXPECT_EQ(spec.train.warmup_steps, 5);
}

TEST(JobSpecTest, AConfigReplacesThePreset) {
  ASSERT_OK_AND_ASSIGN(const JobSpec spec, ParseJobSpec(Job("model: {config: config.json}")));

  EXPECT_EQ(spec.model.preset, "");
  EXPECT_EQ(spec.model.config, "config.json");
}

TEST(JobSpecTest, FailureRulesOfTheFileComeBeforeTheDefaults) {
  ASSERT_OK_AND_ASSIGN(
      const JobSpec spec,
      ParseJobSpec(
          Job("failure: [{role: worker, cause: lost, action: shrink, grace_seconds: 2.5}]")));

  ASSERT_THAT(spec.failure, SizeIs(6));
  EXPECT_EQ(spec.failure[0].action, "shrink");
  EXPECT_EQ(spec.failure[0].grace_seconds, 2.5);
  EXPECT_EQ(spec.failure[0].budget, 10);
  for (size_t i = 1; i < spec.failure.size(); ++i) {
    EXPECT_FALSE(spec.failure[i].role == "worker" && spec.failure[i].cause == "lost");
  }
}

TEST(JobSpecTest, AveragesMayBeVerifiedIfNothingIsCommitted) {
  EXPECT_OK(
      ParseJobSpec(Job("leap: {commit: false, predictors: [{name: average}, {name: trend, "
                       "horizons_steps: [-25]}]}")));
}

TEST(JobSpecTest, EmptySectionsAreDefaults) {
  EXPECT_OK(ParseJobSpec(Job("leap:\n  regime: ~\n  workers: {}")));
}

TEST(JobSpecTest, AnchorsSaveTyping) {
  ASSERT_OK_AND_ASSIGN(const JobSpec spec,
                       ParseJobSpec(Job("leap:\n"
                                        "    predictors:\n"
                                        "      - {name: linear, horizons_steps: &grid [5, 10]}\n"
                                        "      - {name: quadratic, horizons_steps: *grid}")));

  EXPECT_THAT(spec.leap.predictors[1].horizons_steps, ElementsAre(5, 10));
}

TEST(JobSpecTest, TextsThatLookLikeOtherThingsSurvivePrinting) {
  ASSERT_OK_AND_ASSIGN(
      const JobSpec spec,
      ParseJobSpec(Job("train: {steps: 7, seed: 18446744073709551615, lr: 5e-5, epsilon: 1.0e-10}\n"
                       "  checkpoint: {dir: \"a \\\"b\\\" \\\\ \\t # ü\"}\n"
                       "  model: {init: \"123\"}")));

  ASSERT_OK_AND_ASSIGN(const JobSpec again, ParseJobSpec(JobSpecToYaml(spec)));

  EXPECT_EQ(again.train.seed, 18446744073709551615u);
  EXPECT_EQ(again.train.lr, 5e-5);
  EXPECT_EQ(again.train.epsilon, 1e-10);
  EXPECT_EQ(again.checkpoint.dir, "a \"b\" \\ \t # ü");
  EXPECT_EQ(again.model.init, "123");
}

class ExampleTest : public testing::TestWithParam<const char*> {};

TEST_P(ExampleTest, ParsesAndPrintsAsAJobThatPrintsTheSame) {
  ASSERT_OK_AND_ASSIGN(const JobSpec spec, ParseJobSpec(Example(GetParam()), GetParam()));
  const std::string printed = JobSpecToYaml(spec);

  ASSERT_OK_AND_ASSIGN(const JobSpec again, ParseJobSpec(printed));

  EXPECT_EQ(JobSpecToYaml(again), printed);
  EXPECT_EQ(spec.name, GetParam());
}

TEST_P(ExampleTest, ItsPredictorsCanBeMade) {
  ASSERT_OK_AND_ASSIGN(const JobSpec spec, ParseJobSpec(Example(GetParam())));

  for (const PredictorSpec& predictor : spec.leap.predictors) {
    EXPECT_OK(MakePredictor(predictor, spec.leap.interval_steps));
  }
}

INSTANTIATE_TEST_SUITE_P(Examples, ExampleTest,
                         testing::Values("demo", "line-search", "minimal", "paper"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(JobSpecTest, CheckGivesFindingsAsValuesAndTheSpecAsFarAsItCouldBeRead) {
  JobSpec spec;
  const std::vector<SpecError> findings =
      CheckJobSpec(Job("train: {steps: 10, lr: no, beta1: 0.5}"), &spec);

  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_EQ(findings[0].line, 6);
  EXPECT_EQ(findings[0].path, "spec.train.lr");
  EXPECT_THAT(findings[0].message, HasSubstr("saw 'no'"));
  EXPECT_EQ(spec.train.beta1, 0.5);
}

}  // namespace
}  // namespace leap
