// What a person asks for: the typed job file, and its one validator.
//
// The YAML text is the form in which a job travels (leapctl -> coordinator -> agents); every
// program turns it into this struct with the same `ParseJobSpec`, so there is one validator and no
// second schema. All fields but `data.paths` and `train.steps` have a default that works. Pure:
// text in, values or a list of errors out; it opens no file (paths are checked where the files
// are).
//
// Units stand last in names: `_steps` are optimizer steps, `_seconds` are seconds, `_tokens`
// tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace leap {

// spec.model — a preset or the path of a Hugging Face style config.json (read by the engine).
struct ModelSpec {
  std::string preset = "gpt2-tiny";  // gpt2-tiny | gpt2-small; empty if `config` is given
  std::string config;                // path of a config.json; empty if `preset` is given
  std::string init;  // path of a .safetensors with first weights; empty: random from train.seed
};

// spec.data — UTF-8 text; bytes are the tokens (0..255, 256 = end of text). The corpus is cut into
// three disjoint regions; gate decides about leaps, report is only ever reported.
struct DataSpec {
  std::vector<std::string> paths;  // files, folders (recursively, text files), globs
  std::string
      cache_dir;  // memory-mapped token file, keyed by content; empty: a folder under the state dir
  int64_t sequence_length_tokens = 128;
  int64_t gate_sequences = 64;     // fixed held-out windows that decide
  int64_t report_sequences = 128;  // fixed held-out windows that are only reported
};

enum class LrSchedule { kConstant, kCosine, kWsd };

// spec.train
struct TrainSpec {
  int64_t steps = 0;  // optimizer steps; required
  int64_t batch_sequences =
      16;  // GLOBAL batch, in sequences, over all main workers; each rank's share differs
           // by at most one, so any world size trains on the same samples
  uint64_t seed = 42;
  double lr = 1e-3;
  LrSchedule schedule = LrSchedule::kWsd;
  int64_t warmup_steps = 20;
  double decay_fraction = 0.2;   // WSD: share of the steps at the end that decay linearly
  double min_lr_fraction = 0.0;  // cosine and WSD end at lr * this
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.1;       // on matrices only
  double clip_norm = 1.0;          // 0: no clipping
  std::string precision = "fp32";  // fp32 | bf16 (autocast)
  std::string device = "cpu";      // cpu | cuda
  int64_t threads = 1;             // intra-op threads of each worker and verifier on a CPU
};

// spec.workers / spec.verifiers
struct WorkersSpec {
  int64_t replicas = 1;      // main workers: the world size the job starts with (gang start)
  int64_t min_replicas = 1;  // go on with as few after a loss for which no replacement is found
};
struct VerifiersSpec {
  int64_t min_replicas = 0;  // wait for so many before the job starts
  int64_t max_replicas = 8;  // use no more than this
};

// One predictor of a policy with its parameters. `horizons_steps` is the grid of K; predictors with
// no horizon (outer-nesterov, average) have an empty grid and are tried once (K = 0).
struct PredictorSpec {
  std::string name;  // a registered predictor, core/predictor.h
  std::vector<int64_t> horizons_steps;
  std::vector<std::pair<std::string, double>>
      params;        // eta, mu, damping, ... sorted by name; unknown ones are errors
  std::string form;  // quadratic: newton|paper|code; momentum: adam|paper; else empty
};

enum class CommitRule { kRebase, kReplace };
enum class OptimizerRule { kKeep, kDecay, kReset };

// spec.leap.criterion
struct CriterionSpec {
  std::string name = "guard";  // strict | adaptive | proximity | paired | guard
  double bound = 0.05;         // guard, proximity: share of L_t
  double z = 2.0;       // paired: standard errors, before the correction for candidates tried
  int64_t window = 10;  // adaptive: rolling window of baseline losses
};

// spec.leap — a policy preset (`default`, `line-search`, `paper`, `off`) and what is changed in it.
struct LeapSpec {
  std::string policy = "default";
  bool enabled = true;  // false for policy: off
  bool commit = true;   // false: every candidate is verified, none is committed (dry speculation)
  int64_t interval_steps = 50;  // Δ: a snapshot every so many optimizer steps
  int64_t warmup_steps = 50;    // no leap whose base step is before this one
  std::vector<PredictorSpec> predictors;
  CriterionSpec criterion;
  std::vector<std::string>
      regimes;  // in which leaps may be tried: any of unknown chaotic transition stable
  CommitRule commit_rule = CommitRule::kRebase;
  OptimizerRule optimizer = OptimizerRule::kKeep;
  bool advance_step =
      false;  // step counter (and schedule) advance by K at a commit: the paper's accounting
  int64_t ring_depth = 4;       // snapshots kept by each rank
  int64_t max_candidates = 16;  // per snapshot, a bound on speculation
  double exploration = 0.1;     // share of candidates chosen at random (seeded)
  // Retained-gain audit.
  int64_t audit_every_leaps = 8;  // 0: never
  double audit_z = 2.0;           // significance at which a policy is switched off
  double rollback_bound = 0.0;    // undo a leap whose retained gain is below -bound * L_t; 0: never
};

// spec.regime
struct RegimeSpec {
  std::string thresholds = "adaptive";  // fixed | percentile | adaptive
  double tau_high = 0.99948918;         // fixed: the paper's (GPT-2, mean of five seeds)
  double tau_low = 0.9962696;
  int64_t window = 20;       // adaptive: rolling window of similarities
  double hysteresis = 0.05;  // adaptive: in quantile units
  int64_t probes = 32;       // probe sequences of the fingerprint
};

// spec.checkpoint
struct CheckpointSpec {
  std::string dir;            // empty: a folder under the worker's state dir
  int64_t every_steps = 500;  // 0: only at the end
  int64_t keep = 2;
  std::string resume = "auto";  // auto | never | path of a checkpoint
};

// spec.timeouts — a strictly rising ladder: heartbeat lease < collective < commit < epoch formation
// < job start.
struct TimeoutsSpec {
  double lease_seconds = 5;
  double collective_seconds = 20;
  double commit_seconds = 30;
  double epoch_formation_seconds = 60;
  double job_start_seconds = 600;
};

// spec.failure — role x cause -> action, with a grace time and a budget that survives restarts (see
// issue "Survive").
struct FailureRule {
  std::string role;          // worker | verifier | training
  std::string cause;         // lost | nan-loss | loss-spike | corrupt
  std::string action;        // replace | shrink | rollback | fail | ignore
  double grace_seconds = 0;  // wait so long for the same cause to heal
  int64_t budget = 10;       // how often in the job's life; then the job fails
};

struct JobSpec {
  std::string name;                                         // metadata.name: [a-z0-9-], 1..63
  std::vector<std::pair<std::string, std::string>> labels;  // metadata.labels
  ModelSpec model;
  DataSpec data;
  TrainSpec train;
  WorkersSpec workers;
  VerifiersSpec verifiers;
  LeapSpec leap;
  RegimeSpec regime;
  CheckpointSpec checkpoint;
  TimeoutsSpec timeouts;
  std::vector<FailureRule> failure;  // in order, first match wins; defaults appended
};

// One finding of the validator. `line` is 1-based, 0 if the finding has no place.
struct SpecError {
  int line = 0;
  std::string path;     // "spec.train.lr"
  std::string message;  // what was expected, what was seen, what to do; nearest valid name for an
                        // unknown key
};

// Parses and validates `yaml`. On failure: InvalidArgument, reason JOB_SPEC_INVALID, with ALL
// findings (up to 20), one a line as "line 7: spec.train.lr: expected a number above 0, saw -1".
// `file` prefixes the lines if not empty.
absl::StatusOr<JobSpec> ParseJobSpec(absl::string_view yaml, absl::string_view file = "");

// The same findings as values (empty: valid), and the spec as far as it could be read.
std::vector<SpecError> CheckJobSpec(absl::string_view yaml, JobSpec* spec);

// The resolved job (defaults and policy preset filled in) as YAML that ParseJobSpec reads back to
// an equal spec.
std::string JobSpecToYaml(const JobSpec& spec);

// JSON Schema (draft 2020-12) for editors, made from the same table of fields the parser walks.
std::string JobSpecJsonSchema();

// The reference page docs/job.md, made from the same table; a test keeps the committed page equal
// to it.
std::string JobSpecReferenceMarkdown();

}  // namespace leap
