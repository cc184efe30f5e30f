#include "core/job_spec_table.h"

#include <array>

namespace leap {
namespace {

template <class Object, auto... members>
auto* Member(void* object) {
  return &(*static_cast<Object*>(object).*....*members);
}
template <class Object, auto... members>
FieldRef MemberRef(void* object) {
  return Member<Object, members...>(object);
}
// kAccess<JobSpec, &JobSpec::train, &TrainSpec::lr>: how to reach a field.
template <class Object, auto... members>
constexpr Access kAccess = {decltype(Member<Object, members...>(nullptr)){nullptr},
                            &MemberRef<Object, members...>};

template <auto... members>
constexpr Access InJob = kAccess<JobSpec, members...>;
template <auto member>
constexpr Access InModel = InJob<&JobSpec::model, member>;
template <auto member>
constexpr Access InData = InJob<&JobSpec::data, member>;
template <auto member>
constexpr Access InTrain = InJob<&JobSpec::train, member>;
template <auto member>
constexpr Access InWorkers = InJob<&JobSpec::workers, member>;
template <auto member>
constexpr Access InVerifiers = InJob<&JobSpec::verifiers, member>;
template <auto member>
constexpr Access InLeap = InJob<&JobSpec::leap, member>;
template <auto member>
constexpr Access InCriterion = InJob<&JobSpec::leap, &LeapSpec::criterion, member>;
template <auto member>
constexpr Access InRegime = InJob<&JobSpec::regime, member>;
template <auto member>
constexpr Access InCheckpoint = InJob<&JobSpec::checkpoint, member>;
template <auto member>
constexpr Access InTimeouts = InJob<&JobSpec::timeouts, member>;
template <auto member>
constexpr Access InPredictor = kAccess<PredictorSpec, member>;
template <auto member>
constexpr Access InFailure = kAccess<FailureRule, member>;

constexpr Bounds Between(double min, double max) { return {.min = min, .max = max}; }
constexpr Bounds AboveUpTo(double min, double max) {
  return {.min = min, .max = max, .above_min = true};
}
constexpr Bounds FromBelow(double min, double max) {
  return {.min = min, .max = max, .below_max = true};
}

constexpr double kSteps = 1e9;    // a bound on counts of steps
constexpr double kSeconds = 1e6;  // a bound on times: 11 days

const std::vector<Field>& JobTable() {
  static const auto* const table = new std::vector<Field>{
      {"metadata.name",
       InJob<&JobSpec::name>,
       {},
       {},
       "Name of the job: lower-case letters, digits and dashes, 1 to 63 of them, a letter or digit "
       "at both ends.",
       true},
      {"metadata.labels",
       InJob<&JobSpec::labels>,
       {},
       {},
       "Free text pairs for people and tools; Leap does not read them."},

      {"spec.model.preset",
       InModel<&ModelSpec::preset>,
       {},
       {"gpt2-tiny", "gpt2-small"},
       "A built-in shape: gpt2-tiny (1-2 M parameters, for a CPU) or gpt2-small (124 M). Left out "
       "if config is given."},
      {"spec.model.config",
       InModel<&ModelSpec::config>,
       {},
       {},
       "Path of a Hugging Face style config.json (GPT-2), instead of preset."},
      {"spec.model.init",
       InModel<&ModelSpec::init>,
       {},
       {},
       "Path of a .safetensors file with the first weights. Left out: random ones from "
       "train.seed."},

      {"spec.data.paths",
       InData<&DataSpec::paths>,
       {},
       {},
       "UTF-8 text to train on: files, folders (every text file below them), globs. Bytes are the "
       "tokens.",
       true},
      {"spec.data.cache_dir",
       InData<&DataSpec::cache_dir>,
       {},
       {},
       "Folder of the memory-mapped token file, keyed by content. Left out: a folder under the "
       "agent's state folder."},
      {"spec.data.sequence_length_tokens",
       InData<&DataSpec::sequence_length_tokens>,
       Between(8, 65536),
       {},
       "Tokens in one training sequence, and in one held-out window."},
      {"spec.data.gate_sequences",
       InData<&DataSpec::gate_sequences>,
       Between(2, 65536),
       {},
       "Held-out windows that decide about leaps. Never trained on, never reported."},
      {"spec.data.report_sequences",
       InData<&DataSpec::report_sequences>,
       Between(1, 65536),
       {},
       "Held-out windows that are only reported. Never trained on, never decide."},

      {"spec.train.steps",
       InTrain<&TrainSpec::steps>,
       Between(1, kSteps),
       {},
       "Optimizer steps to train.",
       true},
      {"spec.train.batch_sequences",
       InTrain<&TrainSpec::batch_sequences>,
       Between(1, 1e6),
       {},
       "Global batch: sequences per step over all main workers together, whatever their number."},
      {"spec.train.seed",
       InTrain<&TrainSpec::seed>,
       Between(0, 18446744073709551615.0),
       {},
       "Seed of weights, order of the data, probes and exploration."},
      {"spec.train.lr",
       InTrain<&TrainSpec::lr>,
       AboveUpTo(0, 10),
       {},
       "Peak learning rate of AdamW."},
      {"spec.train.schedule",
       InTrain<&TrainSpec::schedule>,
       {},
       {"constant", "cosine", "wsd"},
       "Learning rate after warm-up: constant, cosine, or wsd (warm-up, stable, decay)."},
      {"spec.train.warmup_steps",
       InTrain<&TrainSpec::warmup_steps>,
       Between(0, kSteps),
       {},
       "Steps of linear warm-up. Left out in a job of fewer steps: train.steps."},
      {"spec.train.decay_fraction",
       InTrain<&TrainSpec::decay_fraction>,
       Between(0, 1),
       {},
       "wsd: share of the steps, at the end, over which the rate falls linearly."},
      {"spec.train.min_lr_fraction",
       InTrain<&TrainSpec::min_lr_fraction>,
       Between(0, 1),
       {},
       "cosine, wsd: the rate ends at lr times this."},
      {"spec.train.beta1",
       InTrain<&TrainSpec::beta1>,
       FromBelow(0, 1),
       {},
       "AdamW: decay of the mean of gradients."},
      {"spec.train.beta2",
       InTrain<&TrainSpec::beta2>,
       FromBelow(0, 1),
       {},
       "AdamW: decay of the mean of squared gradients."},
      {"spec.train.epsilon",
       InTrain<&TrainSpec::epsilon>,
       AboveUpTo(0, 1),
       {},
       "AdamW: added to the root of the second moment."},
      {"spec.train.weight_decay",
       InTrain<&TrainSpec::weight_decay>,
       Between(0, 10),
       {},
       "AdamW: decoupled weight decay, on matrices only."},
      {"spec.train.clip_norm",
       InTrain<&TrainSpec::clip_norm>,
       Between(0, 1e6),
       {},
       "Gradients are scaled down to this norm. 0: no clipping."},
      {"spec.train.precision",
       InTrain<&TrainSpec::precision>,
       {},
       {"fp32", "bf16"},
       "fp32, or bf16 autocast (weights and optimizer stay fp32)."},
      {"spec.train.device",
       InTrain<&TrainSpec::device>,
       {},
       {"cpu", "cuda"},
       "Where workers and verifiers compute."},
      {"spec.train.threads",
       InTrain<&TrainSpec::threads>,
       Between(1, 1024),
       {},
       "Threads within an operation, of each worker and verifier on a CPU."},

      {"spec.workers.replicas",
       InWorkers<&WorkersSpec::replicas>,
       Between(1, 4096),
       {},
       "Main workers. The job starts when so many are free (gang start)."},
      {"spec.workers.min_replicas",
       InWorkers<&WorkersSpec::min_replicas>,
       Between(1, 4096),
       {},
       "Go on with as few after a loss for which no replacement is found; workers that come "
       "later are let in."},
      {"spec.verifiers.min_replicas",
       InVerifiers<&VerifiersSpec::min_replicas>,
       Between(0, 4096),
       {},
       "Wait for so many verifiers before the job starts. 0: start without."},
      {"spec.verifiers.max_replicas",
       InVerifiers<&VerifiersSpec::max_replicas>,
       Between(0, 4096),
       {},
       "Use no more than so many. 0: no speculation, held-out losses at the end only."},

      {"spec.leap.policy",
       InLeap<&LeapSpec::policy>,
       {},
       {"default", "line-search", "paper", "off"},
       "The preset that gives the other fields of this section their defaults; see Policies "
       "below."},
      {"spec.leap.enabled",
       InLeap<&LeapSpec::enabled>,
       {},
       {},
       "false: training as if Leap were not there; no snapshots, held-out losses at the end only."},
      {"spec.leap.commit",
       InLeap<&LeapSpec::commit>,
       {},
       {},
       "false: candidates are verified and written to the ledger, none is committed."},
      {"spec.leap.interval_steps",
       InLeap<&LeapSpec::interval_steps>,
       Between(1, 1e6),
       {},
       "Steps between snapshots (Delta)."},
      {"spec.leap.warmup_steps",
       InLeap<&LeapSpec::warmup_steps>,
       Between(0, kSteps),
       {},
       "No leap whose base step is before this one."},
      {"spec.leap.predictors",
       InLeap<&LeapSpec::predictors>,
       {},
       {},
       "What predicts weights; see Predictors below. A list given here replaces the preset's."},
      {"spec.leap.criterion.name",
       InCriterion<&CriterionSpec::name>,
       {},
       {"strict", "adaptive", "proximity", "paired", "guard"},
       "When a candidate passes: strict (lower mean loss), adaptive (within one deviation of "
       "recent losses), proximity "
       "(within bound, either side), paired (lower by z standard errors of the per-sequence "
       "differences), guard "
       "(finite, and not worse than bound)."},
      {"spec.leap.criterion.bound",
       InCriterion<&CriterionSpec::bound>,
       AboveUpTo(0, 1),
       {},
       "guard, proximity: share of the baseline loss."},
      {"spec.leap.criterion.z",
       InCriterion<&CriterionSpec::z>,
       Between(0, 10),
       {},
       "paired: standard errors, before the correction for the number of candidates tried."},
      {"spec.leap.criterion.window",
       InCriterion<&CriterionSpec::window>,
       Between(2, 10000),
       {},
       "adaptive: how many recent baseline losses give the deviation."},
      {"spec.leap.regimes",
       InLeap<&LeapSpec::regimes>,
       {},
       {"unknown", "chaotic", "transition", "stable"},
       "Regimes in which leaps may be tried."},
      {"spec.leap.commit_rule",
       InLeap<&LeapSpec::commit_rule>,
       {},
       {"rebase", "replace"},
       "rebase: the displacement is added to the live weights. replace: the weights become the "
       "candidate, steps trained "
       "meanwhile are discarded."},
      {"spec.leap.optimizer",
       InLeap<&LeapSpec::optimizer>,
       {},
       {"keep", "decay", "reset"},
       "Adam's moments at a commit: keep, decay by beta^K, or reset together with the "
       "bias-correction counter."},
      {"spec.leap.advance_step",
       InLeap<&LeapSpec::advance_step>,
       {},
       {},
       "true: step counter and learning-rate schedule advance by K at a commit (the paper's "
       "accounting)."},
      {"spec.leap.ring_depth",
       InLeap<&LeapSpec::ring_depth>,
       Between(2, 64),
       {},
       "Snapshots that each rank keeps."},
      {"spec.leap.max_candidates",
       InLeap<&LeapSpec::max_candidates>,
       Between(1, 1024),
       {},
       "Bound on the candidates tried at one snapshot. As many are tried at most as four for each "
       "verifier that is free then, one of them (if there are more) being at the baseline."},
      {"spec.leap.exploration",
       InLeap<&LeapSpec::exploration>,
       Between(0, 1),
       {},
       "Share of the candidates chosen at random (seeded), not by past success."},
      {"spec.leap.audit_every_leaps",
       InLeap<&LeapSpec::audit_every_leaps>,
       Between(0, 1e6),
       {},
       "Once in so many leaps a verifier goes on without it, to measure what was retained. 0: "
       "never."},
      {"spec.leap.audit_z",
       InLeap<&LeapSpec::audit_z>,
       Between(0, 10),
       {},
       "Standard errors below zero at which audits switch the policy off."},
      {"spec.leap.rollback_bound",
       InLeap<&LeapSpec::rollback_bound>,
       Between(0, 1),
       {},
       "Undo a leap whose retained gain is below minus this share of the baseline loss; ranks keep "
       "weights and moments of before the newest ring_depth leaps for it, three shards each. 0: "
       "never, the default, because one audit is one noisy number."},

      {"spec.regime.thresholds",
       InRegime<&RegimeSpec::thresholds>,
       {},
       {"fixed", "percentile", "adaptive"},
       "fixed: tau_low and tau_high. percentile: 30th and 70th of the run so far. adaptive: "
       "rolling, with hysteresis."},
      {"spec.regime.tau_low",
       InRegime<&RegimeSpec::tau_low>,
       Between(-1, 1),
       {},
       "fixed: similarity below which the regime is chaotic. The default is the paper's, for "
       "GPT-2."},
      {"spec.regime.tau_high",
       InRegime<&RegimeSpec::tau_high>,
       Between(-1, 1),
       {},
       "fixed: similarity above which the regime is stable. The default is the paper's, for "
       "GPT-2."},
      {"spec.regime.window",
       InRegime<&RegimeSpec::window>,
       Between(3, 10000),
       {},
       "adaptive: how many recent similarities give the quantiles."},
      {"spec.regime.hysteresis",
       InRegime<&RegimeSpec::hysteresis>,
       FromBelow(0, 0.2),
       {},
       "adaptive: how far beyond a threshold the regime changes, in quantile units."},
      {"spec.regime.probes",
       InRegime<&RegimeSpec::probes>,
       Between(1, 4096),
       {},
       "Probe sequences of the fingerprint."},

      {"spec.checkpoint.dir",
       InCheckpoint<&CheckpointSpec::dir>,
       {},
       {},
       "Folder of the checkpoints. Left out: a folder under the worker's state folder."},
      {"spec.checkpoint.every_steps",
       InCheckpoint<&CheckpointSpec::every_steps>,
       Between(0, kSteps),
       {},
       "Steps between checkpoints. 0: only at the end."},
      {"spec.checkpoint.keep",
       InCheckpoint<&CheckpointSpec::keep>,
       Between(1, 1000),
       {},
       "How many of the newest are kept."},
      {"spec.checkpoint.resume",
       InCheckpoint<&CheckpointSpec::resume>,
       {},
       {},
       "auto (from the newest complete one, if any), never, or the path of a checkpoint."},

      {"spec.timeouts.lease_seconds",
       InTimeouts<&TimeoutsSpec::lease_seconds>,
       AboveUpTo(0, kSeconds),
       {},
       "A worker that was not heard of for so long is lost."},
      {"spec.timeouts.collective_seconds",
       InTimeouts<&TimeoutsSpec::collective_seconds>,
       AboveUpTo(0, kSeconds),
       {},
       "A collective that takes so long has failed."},
      {"spec.timeouts.commit_seconds",
       InTimeouts<&TimeoutsSpec::commit_seconds>,
       AboveUpTo(0, kSeconds),
       {},
       "A leap not voted on by all ranks after so long is aborted."},
      {"spec.timeouts.epoch_formation_seconds",
       InTimeouts<&TimeoutsSpec::epoch_formation_seconds>,
       AboveUpTo(0, kSeconds),
       {},
       "An epoch not formed after so long is tried again with others."},
      {"spec.timeouts.job_start_seconds",
       InTimeouts<&TimeoutsSpec::job_start_seconds>,
       AboveUpTo(0, kSeconds),
       {},
       "A job that has not taken its first step so long after its gang was found has failed."},

      {"spec.failure",
       InJob<&JobSpec::failure>,
       {},
       {},
       "What happens when something fails; see Failure rules below. The first rule that matches "
       "wins."},
  };
  return *table;
}

const std::vector<Field>& PredictorTable() {
  static const auto* const table = new std::vector<Field>{
      {"name", InPredictor<&PredictorSpec::name>, {}, {}, "Which predictor.", true},
      {"form",
       InPredictor<&PredictorSpec::form>,
       {},
       {},
       "Which form of it, where there are several. Left out: the first."},
      {"horizons_steps",
       InPredictor<&PredictorSpec::horizons_steps>,
       Between(-100000, 100000),
       {},
       "The grid of K: how many steps ahead it predicts. Only for predictors that take one."},
      {"params", InPredictor<&PredictorSpec::params>, {}, {}, "Its parameters by name."},
  };
  return *table;
}

const std::vector<Field>& FailureTable() {
  static const auto* const table = new std::vector<Field>{
      {"role",
       InFailure<&FailureRule::role>,
       {},
       {"worker", "verifier", "training"},
       "What fails: a main worker, a verifier, or training itself.",
       true},
      {"cause",
       InFailure<&FailureRule::cause>,
       {},
       {"lost", "corrupt", "nan-loss", "loss-spike"},
       "How: lost and corrupt (worker, verifier), nan-loss and loss-spike (training).",
       true},
      {"action",
       InFailure<&FailureRule::action>,
       {},
       {"replace", "shrink", "rollback", "fail", "ignore"},
       "What to do: replace (or, without a replacement, shrink down to min_replicas), shrink, fail "
       "for a worker; ignore or "
       "fail for a verifier; rollback, fail or ignore for training.",
       true},
      {"grace_seconds",
       InFailure<&FailureRule::grace_seconds>,
       Between(0, kSeconds),
       {},
       "Wait so long for the same cause to heal."},
      {"budget",
       InFailure<&FailureRule::budget>,
       Between(0, 1e9),
       {},
       "How often in the life of the job, restarts included; then the job fails. 0: no limit."},
  };
  return *table;
}

}  // namespace

std::span<const Field> JobFields() { return JobTable(); }
std::span<const Field> PredictorFields() { return PredictorTable(); }
std::span<const Field> FailureFields() { return FailureTable(); }

std::span<const Section> JobSections() {
  static constexpr std::array<Section, 12> kSections = {{
      {"metadata", "What people call the job."},
      {"spec", "What to do."},
      {"spec.model", "The network: a GPT-2-shaped decoder."},
      {"spec.data",
       "The text, cut into three disjoint regions: one trains, the gate region decides about "
       "leaps, the report region is "
       "only ever reported."},
      {"spec.train", "Steps, optimizer and learning rate, and what computes."},
      {"spec.workers", "Main workers: the ranks that train."},
      {"spec.verifiers", "Spare machines that speculate beside training."},
      {"spec.leap", "When, how and by what right weights may jump."},
      {"spec.leap.criterion", "When a candidate passes."},
      {"spec.regime", "How the similarity of consecutive fingerprints becomes a regime."},
      {"spec.checkpoint", "Weights, optimizer, data position and leap state on disk."},
      {"spec.timeouts", "A ladder: each rung strictly longer than the one above it."},
  }};
  return kSections;
}

}  // namespace leap
