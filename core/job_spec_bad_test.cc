// Bad job files and, word for word, what their author is told.
#include <iterator>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_matchers.h"
#include "core/job_spec.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

std::string File(absl::string_view text) { return std::string(text); }

// Puts `lines` under spec, and the shortest training section after it unless there is one.
// `line_of` the first: 6.
std::string Spec(absl::string_view lines) {
  const bool trains = absl::StrContains(lines, "train:");
  return absl::StrCat(
      "apiVersion: leap/v1\nkind: Job\nmetadata: {name: bad}\nspec:\n  data: {paths: "
      "[corpus.txt]}\n  ",
      lines, "\n", trains ? "" : "  train: {steps: 100}\n");
}

// The same for lines that begin with the data section, on line 5.
std::string SpecWithoutData(absl::string_view lines) {
  return absl::StrCat("apiVersion: leap/v1\nkind: Job\nmetadata: {name: bad}\nspec:\n  ", lines,
                      "\n  train: {steps: 100}\n");
}

struct BadJob {
  const char* name;
  std::string yaml;
  std::string expected;
};

const BadJob kBadJobs[] = {
    {"EmptyFile", File(""), "line 1: the file is empty; expected a job (see docs/job.md)"},
    {"OnlyAComment", File("# nothing yet\n"),
     "line 1: the file is empty; expected a job (see docs/job.md)"},
    {"AListIsNoJob", File("- apiVersion: leap/v1\n"),
     "line 1: expected a job: a mapping of apiVersion, kind, metadata, spec; saw a list"},
    {"TextIsNoJob", File("just some words\n"),
     "line 1: expected a job: a mapping of apiVersion, kind, metadata, spec; saw 'just "
     "some words'"},
    {"BrokenYaml",
     File("apiVersion: leap/v1\n"
          "kind: [Job\n"
          "metadata: x\n"),
     "line 3: not YAML: end of sequence flow not found"},
    {"TabsIndent",
     File("apiVersion: leap/v1\n"
          "metadata:\n"
          "\tname: x\n"),
     "line 3: not YAML: illegal map value; the line begins with a tab, YAML wants spaces"},
    {"NotUtf8",
     File("apiVersion: leap/v1\n"
          "kind: \xff\xfe\n"),
     "line 2: expected UTF-8 text, saw bytes that are none"},
    {"SecondDocument",
     File("apiVersion: leap/v1\n"
          "kind: Job\n"
          "metadata: {name: bad}\n"
          "spec:\n"
          "  data: {paths: [corpus.txt]}\n"
          "  train: {steps: 1}\n"
          "---\n"
          "kind: Job\n"),
     "line 8: a second document begins; expected one job in a file"},
    {"CustomTag",
     File("apiVersion: leap/v1\n"
          "kind: Job\n"
          "metadata: {name: bad}\n"
          "spec:\n"
          "  data: {paths: [corpus.txt]}\n"
          "  train: !python/object {steps: 1}\n"),
     "line 6: tag '!python/object' has no meaning here; take it out"},
    {"NestedTooDeep",
     File("apiVersion: leap/v1\n"
          "kind: Job\n"
          "metadata: {name: bad}\n"
          "spec:\n"
          "  data: {paths: [corpus.txt]}\n"
          "  train: [[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]\n"),
     "line 6: nested more than 16 levels deep"},
    {"MissingEverything", File("{}\n"),
     "line 1: apiVersion: missing; expected apiVersion: leap/v1\n"
     "line 1: kind: missing; expected kind: Job\n"
     "line 1: metadata.name: missing; expected text\n"
     "line 1: spec.data.paths: missing; expected a list of text\n"
     "line 1: spec.train.steps: missing; expected a whole number from 1 to 1000000000"},
    {"WrongApiVersion",
     File("apiVersion: leap/v2\n"
          "kind: Job\n"
          "metadata: {name: bad}\n"
          "spec: {data: {paths: [a]}, train: {steps: 1}}\n"),
     "line 1: apiVersion: expected leap/v1, saw 'leap/v2'"},
    {"WrongKind",
     File("apiVersion: leap/v1\n"
          "kind: job\n"
          "metadata: {name: bad}\n"
          "spec: {data: {paths: [a]}, train: {steps: 1}}\n"),
     "line 2: kind: expected Job, saw 'job'"},
    {"NoSteps",
     File("apiVersion: leap/v1\n"
          "kind: Job\n"
          "metadata: {name: bad}\n"
          "spec: {data: {paths: [a]}}\n"),
     "line 4: spec.train.steps: missing; expected a whole number from 1 to 1000000000"},
    {"NoPaths",
     File("apiVersion: leap/v1\n"
          "kind: Job\n"
          "metadata: {name: bad}\n"
          "spec: {train: {steps: 1}}\n"),
     "line 4: spec.data.paths: missing; expected a list of text"},
    {"EmptyName",
     File("apiVersion: leap/v1\n"
          "kind: Job\n"
          "metadata: {name: \"\"}\n"
          "spec: {data: {paths: [a]}, train: {steps: 1}}\n"),
     "line 3: metadata.name: expected 1 to 63 lower-case letters, digits and dashes, with "
     "a letter or digit at both ends, saw ''"},
    {"NameWithCapitals",
     File("apiVersion: leap/v1\n"
          "kind: Job\n"
          "metadata: {name: MyJob}\n"
          "spec: {data: {paths: [a]}, train: {steps: 1}}\n"),
     "line 3: metadata.name: expected 1 to 63 lower-case letters, digits and dashes, with "
     "a letter or digit at both ends, saw 'MyJob'"},
    {"NameIsANumber",
     File("apiVersion: leap/v1\n"
          "kind: Job\n"
          "metadata: {name: 7}\n"
          "spec: {data: {paths: [a]}, train: {steps: 1}}\n"),
     "line 3: metadata.name: expected text, saw 7; put it in quotes"},
    {"LabelIsAList",
     File("apiVersion: leap/v1\n"
          "kind: Job\n"
          "metadata: {name: bad, labels: {team: [a]}}\n"
          "spec: {data: {paths: [a]}, train: {steps: 1}}\n"),
     "line 3: metadata.labels.team: expected text, saw a list"},
    {"UnknownTopKey",
     File("apiVersion: leap/v1\n"
          "kind: Job\n"
          "metadata: {name: bad}\n"
          "spec:\n"
          "  data: {paths: [corpus.txt]}\n"
          "  train: {steps: 1}\n"
          "status: {}\n"),
     "line 7: status: unknown key 'status'; valid here: apiVersion, kind, metadata, spec"},
    {"UnknownKeyNearAnother", Spec("train: {steps: 100, sede: 7}"),
     "line 6: spec.train.sede: unknown key 'sede', did you mean 'seed'?"},
    {"UnknownKeyNearNothing", Spec("train: {steps: 100, quux: 7}"),
     "line 6: spec.train.quux: unknown key 'quux'; valid here: steps, batch_sequences, "
     "seed, lr, schedule, warmup_steps, decay_fraction, min_lr_fraction, beta1, beta2, "
     "epsilon, weight_decay, clip_norm, precision, device, threads"},
    {"KeyOfAnotherSection", Spec("lr: 0.1"),
     "line 6: spec.lr: unknown key 'lr'; it belongs under spec.train"},
    {"CamelCaseKey", Spec("workers: {minReplicas: 1}"),
     "line 6: spec.workers.minReplicas: unknown key 'minReplicas', did you mean "
     "'min_replicas'?"},
    {"DottedKey", Spec("leap.policy: paper"),
     "line 6: spec.leap.policy: unknown key 'leap.policy'; valid here: model, data, "
     "train, workers, verifiers, leap, regime, checkpoint, timeouts, failure"},
    {"MergeKey", Spec("leap: {<<: {policy: paper}}"),
     "line 6: spec.leap.<<: unknown key '<<'; valid here: policy, enabled, commit, "
     "interval_steps, warmup_steps, predictors, criterion, regimes, commit_rule, "
     "optimizer, advance_step, ring_depth, max_candidates, exploration, "
     "audit_every_leaps, audit_z, rollback_bound"},
    {"DuplicateKey",
     Spec("train:\n"
          "    steps: 100\n"
          "    lr: 0.1\n"
          "    lr: 0.2"),
     "line 9: key 'lr' stands here a second time, first on line 8; keep one of them"},
    {"DuplicateSection",
     Spec("leap: {policy: paper}\n"
          "  leap: {policy: off}"),
     "line 7: key 'leap' stands here a second time, first on line 6; keep one of them"},
    {"SectionIsText", Spec("leap: paper"),
     "line 6: spec.leap: expected a mapping of policy, enabled, commit, interval_steps, "
     "warmup_steps, predictors, criterion, regimes, commit_rule, optimizer, advance_step, "
     "ring_depth, max_candidates, exploration, audit_every_leaps, audit_z, "
     "rollback_bound, saw 'paper'"},
    {"PathsIsText", SpecWithoutData("data: {paths: corpus.txt}"),
     "line 5: spec.data.paths: expected a list of text, saw 'corpus.txt'; put it in "
     "brackets"},
    {"PathsIsEmpty", SpecWithoutData("data: {paths: []}"),
     "line 5: spec.data.paths: expected at least one file, folder or glob, saw an empty "
     "list"},
    {"OnePathIsEmpty", SpecWithoutData("data: {paths: [a, \"\"]}"),
     "line 5: spec.data.paths[1]: expected a file, folder or glob, saw an empty text"},
    {"StepsIsZero", Spec("train: {steps: 0}"),
     "line 6: spec.train.steps: expected a whole number from 1 to 1000000000, saw 0"},
    {"StepsIsAFraction", Spec("train: {steps: 1.5}"),
     "line 6: spec.train.steps: expected a whole number from 1 to 1000000000, saw 1.5"},
    {"StepsInQuotes", Spec("train: {steps: \"100\"}"),
     "line 6: spec.train.steps: expected a whole number from 1 to 1000000000, saw the "
     "text '100'; take the quotes off"},
    {"StepsBeyondInt64", Spec("train: {steps: 99999999999999999999}"),
     "line 6: spec.train.steps: expected a whole number from 1 to 1000000000, saw "
     "99999999999999999999"},
    {"StepsIsNothing", Spec("train: {steps: }"),
     "line 6: spec.train.steps: expected a whole number from 1 to 1000000000, saw nothing"},
    {"StepsInWords", Spec("train: {steps: many}"),
     "line 6: spec.train.steps: expected a whole number from 1 to 1000000000, saw 'many'"},
    {"NegativeSeed", Spec("train: {steps: 100, seed: -1}"),
     "line 6: spec.train.seed: expected a whole number from 0 to 18446744073709551615, "
     "saw -1"},
    {"LearningRateIsZero", Spec("train: {steps: 100, lr: 0}"),
     "line 6: spec.train.lr: expected a number above 0, at most 10, saw 0"},
    {"LearningRateIsNegative", Spec("train: {steps: 100, lr: -0.1}"),
     "line 6: spec.train.lr: expected a number above 0, at most 10, saw -0.1"},
    {"LearningRateIsNan", Spec("train: {steps: 100, lr: .nan}"),
     "line 6: spec.train.lr: expected a number above 0, at most 10, saw '.nan'"},
    {"LearningRateIsInfinite", Spec("train: {steps: 100, lr: .inf}"),
     "line 6: spec.train.lr: expected a number above 0, at most 10, saw '.inf'"},
    {"LearningRateOverflows", Spec("train: {steps: 100, lr: 1e999}"),
     "line 6: spec.train.lr: expected a number above 0, at most 10, saw 1e999"},
    {"LearningRateIsAList", Spec("train: {steps: 100, lr: [0.1]}"),
     "line 6: spec.train.lr: expected a number above 0, at most 10, saw a list"},
    {"BetaIsOne", Spec("train: {steps: 100, beta1: 1}"),
     "line 6: spec.train.beta1: expected a number from 0 to below 1, saw 1"},
    {"UnknownSchedule", Spec("train: {steps: 100, schedule: cosin}"),
     "line 6: spec.train.schedule: expected one of constant, cosine, wsd, saw 'cosin', "
     "did you mean 'cosine'?"},
    {"UnknownPrecision", Spec("train: {steps: 100, precision: fp8}"),
     "line 6: spec.train.precision: expected one of fp32, bf16, saw 'fp8'"},
    {"WarmupBeyondTheEnd", Spec("train: {steps: 100, warmup_steps: 101}"),
     "line 6: spec.train.warmup_steps: expected at most spec.train.steps (100), saw 101"},
    {"YesIsNoBoolean", Spec("leap: {commit: yes}"),
     "line 6: spec.leap.commit: expected true or false, saw 'yes'"},
    {"BooleanInQuotes", Spec("leap: {commit: \"false\"}"),
     "line 6: spec.leap.commit: expected true or false, saw 'false'; take the quotes off"},
    {"PresetAndConfig", Spec("model: {preset: gpt2-tiny, config: config.json}"),
     "line 6: spec.model: expected either preset or config, not both; take one of them out"},
    {"UnknownPreset", Spec("model: {preset: gpt2-tny}"),
     "line 6: spec.model.preset: expected one of gpt2-tiny, gpt2-small, saw 'gpt2-tny', "
     "did you mean 'gpt2-tiny'?"},
    {"BatchSmallerThanWorkers",
     Spec("train: {steps: 100, batch_sequences: 4}\n"
          "  workers: {replicas: 8}"),
     "line 6: spec.train.batch_sequences: expected at least one sequence for each main "
     "worker (spec.workers.replicas is 8), saw 4; the batch is global"},
    {"MoreMinimumThanWorkers", Spec("workers: {replicas: 2, min_replicas: 3}"),
     "line 6: spec.workers.min_replicas: expected at most replicas (2), saw 3"},
    {"MoreMinimumThanVerifiers", Spec("verifiers: {min_replicas: 9}"),
     "line 6: spec.verifiers.min_replicas: expected at most max_replicas (8), saw 9"},
    {"LadderFallsOnce", Spec("timeouts: {collective_seconds: 20, commit_seconds: 15}"),
     "line 6: spec.timeouts.commit_seconds: expected more than collective_seconds (20), "
     "saw 15; the ladder must rise: lease < collective < commit < epoch formation < job "
     "start"},
    {"LadderIsLevel", Spec("timeouts: {lease_seconds: 20}"),
     "line 6: spec.timeouts.collective_seconds: expected more than lease_seconds (20), "
     "saw 20; the ladder must rise: lease < collective < commit < epoch formation < job "
     "start"},
    {"LadderFallsTwice",
     Spec("timeouts:\n"
          "    lease_seconds: 30\n"
          "    commit_seconds: 10"),
     "line 6: spec.timeouts.collective_seconds: expected more than lease_seconds (30), "
     "saw 20; the ladder must rise: lease < collective < commit < epoch formation < job "
     "start\n"
     "line 8: spec.timeouts.commit_seconds: expected more than collective_seconds (20), "
     "saw 10; the ladder must rise: lease < collective < commit < epoch formation < job "
     "start"},
    {"UnknownPolicy", Spec("leap: {policy: papper}"),
     "line 6: spec.leap.policy: expected one of default, line-search, paper, off, saw "
     "'papper', did you mean 'paper'?"},
    {"PolicyOffButEnabled", Spec("leap: {policy: off, enabled: true}"),
     "line 6: spec.leap.enabled: expected false, saw true; policy off has no leaps, name "
     "another policy"},
    {"NoPredictors", Spec("leap: {predictors: []}"),
     "line 6: spec.leap.predictors: expected at least one predictor, saw none; for no "
     "leaps say policy: off"},
    {"PredictorsIsAMapping", Spec("leap: {predictors: {name: linear}}"),
     "line 6: spec.leap.predictors: expected a list of predictors, saw a mapping"},
    {"PredictorIsText", Spec("leap: {predictors: [linear]}"),
     "line 6: spec.leap.predictors[0]: expected a mapping such as {name: ...}, saw "
     "'linear'"},
    {"PredictorWithoutName", Spec("leap: {predictors: [{horizons_steps: [5]}]}"),
     "line 6: spec.leap.predictors[0].name: missing; expected text"},
    {"UnknownPredictor", Spec("leap: {predictors: [{name: liner, horizons_steps: [5]}]}"),
     "line 6: spec.leap.predictors[0].name: expected a predictor out of outer-nesterov, "
     "linear, quadratic, momentum, last-update, average, trend, saw 'liner', did you mean "
     "'linear'?"},
    {"UnknownKeyOfAPredictor", Spec("leap: {predictors: [{name: linear, horizon_steps: [5]}]}"),
     "line 6: spec.leap.predictors[0].horizon_steps: unknown key 'horizon_steps', did you "
     "mean 'horizons_steps'?\n"
     "line 6: spec.leap.predictors[0].horizons_steps: predictor linear needs a grid of K, "
     "such as [5, 10, 25]"},
    {"UnknownForm",
     Spec("leap: {predictors: [{name: quadratic, form: newtn, horizons_steps: [5]}]}"),
     "line 6: spec.leap.predictors[0].form: expected a form out of newton, paper, code, "
     "saw 'newtn', did you mean 'newton'?"},
    {"FormOfAFormlessPredictor",
     Spec("leap: {predictors: [{name: linear, form: paper, horizons_steps: [5]}]}"),
     "line 6: spec.leap.predictors[0].form: predictor linear has no forms; take it out"},
    {"UnknownParameter", Spec("leap: {predictors: [{name: outer-nesterov, params: {etta: 0.8}}]}"),
     "line 6: spec.leap.predictors[0].params.etta: expected a parameter out of eta, mu, "
     "saw 'etta', did you mean 'eta'?"},
    {"ParameterIsText", Spec("leap: {predictors: [{name: outer-nesterov, params: {eta: big}}]}"),
     "line 6: spec.leap.predictors[0].params.eta: expected a number, saw 'big'"},
    {"ParameterOutOfRange", Spec("leap: {predictors: [{name: outer-nesterov, params: {mu: 1.5}}]}"),
     "line 6: spec.leap.predictors[0]: parameter 'mu' of predictor 'outer-nesterov': "
     "expected a number from 0 to 0.999, saw 1.5"},
    {"ParameterOfAnotherForm",
     Spec("leap: {predictors: [{name: momentum, form: paper, horizons_steps: [5], params: "
          "{damping: 0.5}}]}"),
     "line 6: spec.leap.predictors[0]: parameter 'damping' of predictor 'momentum' "
     "belongs to form adam, not to 'paper'"},
    {"NoHorizons", Spec("leap: {predictors: [{name: linear}]}"),
     "line 6: spec.leap.predictors[0].horizons_steps: predictor linear needs a grid of K, "
     "such as [5, 10, 25]"},
    {"HorizonsWhereNoneAreTaken",
     Spec("leap: {predictors: [{name: outer-nesterov, horizons_steps: [5]}]}"),
     "line 6: spec.leap.predictors[0].horizons_steps: predictor outer-nesterov takes no "
     "horizon; take it out"},
    {"HorizonIsZero", Spec("leap: {predictors: [{name: linear, horizons_steps: [0]}]}"),
     "line 6: spec.leap.predictors[0]: horizon of predictor 'linear': expected 1 to "
     "1000000 steps, saw 0"},
    {"HorizonTwice", Spec("leap: {predictors: [{name: linear, horizons_steps: [5, 10, 5]}]}"),
     "line 6: spec.leap.predictors[0].horizons_steps[2]: 5 stands in the list a second "
     "time; take it out"},
    {"HorizonIsText", Spec("leap: {predictors: [{name: linear, horizons_steps: [5, far]}]}"),
     "line 6: spec.leap.predictors[0].horizons_steps[1]: expected a whole number from "
     "-100000 to 100000, saw 'far'"},
    {"PredictorTwice",
     Spec("leap:\n"
          "    predictors:\n"
          "      - {name: linear, horizons_steps: [5]}\n"
          "      - {name: linear, horizons_steps: [10]}"),
     "line 9: spec.leap.predictors[1]: predictor linear stands in the list a second time "
     "with the same parameters; put all horizons into one"},
    {"AverageRebased", Spec("leap: {predictors: [{name: average}]}"),
     "line 6: spec.leap.predictors[0]: the displacement of predictor average removes "
     "noise and carries no progress, so it is never rebased; take it out, or say commit: "
     "false"},
    {"BackwardTrendRebased", Spec("leap: {predictors: [{name: trend, horizons_steps: [-50]}]}"),
     "line 6: spec.leap.predictors[0]: the displacement of predictor trend at a horizon "
     "of zero or less removes noise and carries no progress, so it is never rebased; take "
     "it out, or say commit: false"},
    {"OuterNesterovReplaced", Spec("leap: {commit_rule: replace}"),
     "line 6: spec.leap.predictors[0]: predictor outer-nesterov has no horizon, so a "
     "commit by replace would only discard steps; say commit_rule: rebase"},
    {"RingTooShort",
     Spec("leap: {predictors: [{name: trend, horizons_steps: [5], params: {n: 8}}]}"),
     "line 6: spec.leap.ring_depth: expected at least 8, the snapshots that predictor "
     "trend reads, saw 4"},
    {"UnknownCriterion", Spec("leap: {criterion: {name: strickt}}"),
     "line 6: spec.leap.criterion.name: expected one of strict, adaptive, proximity, "
     "paired, guard, saw 'strickt', did you mean 'strict'?"},
    {"BoundIsZero", Spec("leap: {criterion: {bound: 0}}"),
     "line 6: spec.leap.criterion.bound: expected a number above 0, at most 1, saw 0"},
    {"UnknownRegime", Spec("leap: {regimes: [stable, calm]}"),
     "line 6: spec.leap.regimes[1]: expected one of unknown, chaotic, transition, stable, "
     "saw 'calm'"},
    {"RegimeTwice", Spec("leap: {regimes: [stable, stable]}"),
     "line 6: spec.leap.regimes[1]: 'stable' stands in the list a second time; take it out"},
    {"NoRegimes", Spec("leap: {regimes: []}"),
     "line 6: spec.leap.regimes: expected at least one regime, saw none; for no leaps say "
     "policy: off"},
    {"ThresholdsCrossed", Spec("regime: {tau_low: 0.9, tau_high: 0.8}"),
     "line 6: spec.regime.tau_low: expected less than tau_high (0.8), saw 0.9"},
    {"EmptyResume", Spec("checkpoint: {resume: \"\"}"),
     "line 6: spec.checkpoint.resume: expected auto, never or the path of a checkpoint, "
     "saw an empty text"},
    {"FailureWithoutAction", Spec("failure: [{role: worker, cause: lost}]"),
     "line 6: spec.failure[0].action: missing; expected one of replace, shrink, rollback, "
     "fail, ignore"},
    {"FailureOfAnotherRole", Spec("failure: [{role: verifier, cause: nan-loss, action: ignore}]"),
     "line 6: spec.failure[0].cause: expected a cause of role verifier out of lost, "
     "corrupt, saw 'nan-loss'"},
    {"FailureActionOfAnotherRole", Spec("failure: [{role: worker, cause: lost, action: rollback}]"),
     "line 6: spec.failure[0].action: expected an action for role worker out of replace, "
     "shrink, fail, saw 'rollback'"},
    {"FailureRuleNeverMatches",
     Spec("failure:\n"
          "    - {role: worker, cause: lost, action: fail}\n"
          "    - {role: worker, cause: lost, action: shrink}"),
     "line 8: spec.failure[1]: never matches: rule 0 is for the same role and cause; take "
     "one out"},
    {"ManyAtOnce",
     Spec("train: {steps: 0, lr: 0, sede: 1}\n"
          "  workers: {replicas: 0}"),
     "line 6: spec.train.steps: expected a whole number from 1 to 1000000000, saw 0\n"
     "line 6: spec.train.lr: expected a number above 0, at most 10, saw 0\n"
     "line 6: spec.train.sede: unknown key 'sede', did you mean 'seed'?\n"
     "line 7: spec.workers.replicas: expected a whole number from 1 to 4096, saw 0"},
};

class BadJobTest : public testing::TestWithParam<BadJob> {};

TEST_P(BadJobTest, IsRefusedInTheseWords) {
  const absl::StatusOr<JobSpec> spec = ParseJobSpec(GetParam().yaml);

  ASSERT_FALSE(spec.ok());
  EXPECT_EQ(spec.status().message(), GetParam().expected) << GetParam().yaml;
  EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(spec, HasReason(ErrorReason::kJobSpecInvalid));
}

TEST(BadJobTest, TheTableIsLong) { EXPECT_GE(std::size(kBadJobs), 90u); }

INSTANTIATE_TEST_SUITE_P(Table, BadJobTest, testing::ValuesIn(kBadJobs),
                         [](const auto& test) { return test.param.name; });

TEST(BadJobTest, FileTooLarge) {
  const std::string yaml = Spec(absl::StrCat("# ", std::string(256 << 10, 'x')));

  EXPECT_THAT(ParseJobSpec(yaml), StatusIs(absl::StatusCode::kInvalidArgument,
                                           "expected at most 256 KiB, saw 257 KiB"));
}

TEST(BadJobTest, AliasBomb) {
  std::string yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    absl::StrAppend(&yaml, "a", i, ": &a", i, " [");
    for (int k = 0; k < 10; ++k) absl::StrAppend(&yaml, k == 0 ? "" : ", ", "*a", i - 1);
    absl::StrAppend(&yaml, "]\n");
  }

  EXPECT_THAT(ParseJobSpec(yaml), StatusIs(absl::StatusCode::kInvalidArgument,
                                           "line 4: more than 20000 values, aliases expanded"));
}

TEST(BadJobTest, ManyFindingsAreCutAtTwenty) {
  std::string lines = "quux0: 1";
  for (int i = 1; i < 30; ++i) absl::StrAppend(&lines, "\n  quux", i, ": 1");

  const absl::StatusOr<JobSpec> spec = ParseJobSpec(Spec(lines));

  const std::vector<std::string> told = absl::StrSplit(spec.status().message(), '\n');
  ASSERT_EQ(told.size(), 21u);
  EXPECT_EQ(told.back(),
            "these are the first 20 findings; mend them to see whether there are more");
}

TEST(BadJobTest, FindingsNameTheFile) {
  EXPECT_THAT(
      ParseJobSpec(Spec("train: {steps: 0}"), "jobs/a.yaml"),
      StatusIs(
          absl::StatusCode::kInvalidArgument,
          "jobs/a.yaml:6: spec.train.steps: expected a whole number from 1 to 1000000000, saw 0"));
}

}  // namespace
}  // namespace leap
