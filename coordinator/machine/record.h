// The ledger, row by row, as plain values. Every row is an upsert: the key in its comment, the
// newest value wins. All records of one batch are written in one durable transaction (action.h).
//
// Rows are facts or decisions. A fact (snapshot, candidate, event, agent) that could not be written
// is written again later, as it is. A decision (job, epoch, leap, budget) that could not be written
// was not taken: the machine writes the row that still holds instead. What the machines need to go
// on after a restart is in `Ledger`.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/machine/message.h"
#include "core/job_spec.h"

namespace leap::machine {

// Numbers as in job.proto.
enum class JobState {
  kUnspecified = 0,
  kQueued = 1,
  kStarting = 2,
  kRunning = 3,
  kPaused = 4,
  kRecovering = 5,
  kSucceeded = 6,
  kFailed = 7,
  kCancelled = 8,
};
const char* JobStateName(JobState state);  // "QUEUED", ...
inline bool IsEnded(JobState state) {
  return state == JobState::kSucceeded || state == JobState::kFailed ||
         state == JobState::kCancelled;
}

// Numbers as in job.proto.
enum class LeapState {
  kUnspecified = 0,
  kPreparing = 1,
  kCommitted = 2,
  kApplied = 3,
  kAborted = 4,
  kExpired = 5,
  kRolledBack = 6,
  kRollingBack = 7,
};
const char* LeapStateName(LeapState state);  // "PREPARING", ...

struct Progress {
  int64_t step = 0;
  int64_t steps = 0;
  double train_loss = kUnknown;
  double tokens_per_second = 0;
  double step_seconds = 0;
  std::string regime;
  bool regime_confirmed = false;
  double similarity = kUnknown;
  double gate_loss = kUnknown;
  double report_loss = kUnknown;
  double lr = 0;
  int64_t trained_steps = 0;
};

struct LeapSummary {
  int64_t candidates = 0;
  int64_t accepted = 0;  // passed the criterion, committed or not
  int64_t rejected = 0;
  int64_t committed = 0;
  int64_t aborted = 0;
  double booked_steps = 0;
  double net_steps = 0;
  double equivalent_steps = 0;
  bool equivalent_known = false;
  int verifiers = 0;
  int verifiers_busy = 0;
  std::string audit;
  bool policy_off = false;
  double worker_device_seconds = 0;
  double verifier_device_seconds = 0;
  int64_t verdict_age_steps = 0;
  int64_t rolled_back = 0;
};

// Key: job. `spec` is not stored: whoever loads the row fills it with ParseJobSpec(spec_yaml).
struct JobRecord {
  std::string job;
  std::string name;
  std::string request_id;  // empty: none given
  std::string submitter;
  std::string spec_yaml;  // resolved
  JobSpec spec;
  int64_t queue_number = 0;  // order of creation
  JobState state = JobState::kUnspecified;
  std::string state_reason;
  absl::Time state_time = absl::InfinitePast();  // InfinitePast in any time of a row: not yet
  absl::Time create_time = absl::InfinitePast();
  absl::Time start_time = absl::InfinitePast();
  absl::Time end_time = absl::InfinitePast();
  bool paused = false;  // a person asked for it; survives restarts and recoveries
  uint64_t epoch = 0;
  uint64_t task_ids_reserved = 0;  // task ids below this may have been used
  Progress progress;
  LeapSummary leaps;
  bool has_data = false;
  Data data;
  bool has_result = false;
  Result result;
  std::string checkpoint_path;  // newest complete one; empty: none known
  int64_t checkpoint_step = 0;
  std::string policy_off_reason;  // why leaps.policy_off
};

enum class EpochState { kForming = 1, kFormed = 2, kEnded = 3 };

// Key: job, epoch. A row is durable before any rank is told of the epoch.
struct EpochRecord {
  std::string job;
  uint64_t epoch = 0;
  EpochState state = EpochState::kForming;
  std::string reason;           // why this epoch, or why it ended
  std::vector<Member> members;  // main group in order of rank; Member.state: "live" | "joining"
  bool from_checkpoint = false;
  uint64_t undo_leap = 0;       // it begins before this leap, if its ranks kept that state; 0: none
  int64_t step = 0;             // at which it was formed
  int64_t leaps_applied = 0;    // at that step
  uint64_t weights_digest = 0;  // at that step
  absl::Time create_time = absl::InfinitePast();
  absl::Time formed_time = absl::InfinitePast();
};

struct SnapshotShard {
  int rank = 0;
  int64_t begin = 0;
  int64_t end = 0;
  std::string data_address;
};

// Key: job, epoch, step. Written when all shards were reported, again when its baseline is known.
struct SnapshotRecord {
  std::string job;
  uint64_t epoch = 0;
  int64_t step = 0;
  int64_t data_position = 0;
  int64_t adam_step = 0;
  uint64_t weights_digest = 0;
  std::vector<uint64_t> state_digests;
  bool has_moments = false;
  uint64_t applied_leap = 0;
  std::vector<SnapshotShard> shards;
  bool scored = false;
  double gate_loss = kUnknown;
  double report_loss = kUnknown;
  double similarity = kUnknown;
  std::string regime;
  bool regime_confirmed = false;
  bool discarded = false;  // the run went back to before this step
  absl::Time create_time = absl::InfinitePast();
};

// Key: job, epoch, base_step, predictor_index, horizon_steps.
struct CandidateRecord {
  std::string job;
  uint64_t epoch = 0;
  int64_t base_step = 0;
  int predictor_index = 0;  // into spec.leap.predictors
  std::string predictor;    // name[:form]
  int64_t horizon_steps = 0;
  std::string regime;
  double loss = kUnknown;
  double baseline_loss = kUnknown;
  double difference = kUnknown;
  double standard_error = kUnknown;
  bool accepted = false;  // passed the criterion; whether it was committed stands in `reason`
  std::string reason;     // VerdictReasonName
  std::string sentence;
  uint64_t digest = 0;
  int64_t verdict_age_steps = 0;
  double verification_seconds = 0;
  std::string verifier;
  absl::Time create_time = absl::InfinitePast();
};

// Key: job, leap. PREPARING is durable before Prepare is sent, COMMITTED before Decide,
// ROLLING_BACK before the epoch that undoes the leap is made.
struct LeapRecord {
  std::string job;
  uint64_t leap = 0;
  uint64_t epoch = 0;
  int64_t base_step = 0;
  uint64_t base_digest = 0;
  int predictor_index = 0;
  std::string predictor;
  int64_t horizon_steps = 0;
  std::vector<double> scales;
  LeapState state = LeapState::kPreparing;
  std::string reason;
  int64_t boundary_step = 0;  // 0: not applied, or not known
  int64_t step_after = 0;
  uint64_t candidate_digest = 0;
  uint64_t weights_digest = 0;
  double pause_seconds = 0;
  double booked_steps = 0;
  double net_steps = 0;
  double equivalent_steps = 0;
  bool equivalent_known = false;
  double promised_difference = 0;
  double retained_gain = 0;
  bool retained_known = false;
  std::string commit_rule;  // "rebase" | "replace"
  std::string verifier;
  absl::Time create_time = absl::InfinitePast();
};

// Key: job, sequence.
struct EventRecord {
  std::string job;
  int64_t sequence = 0;
  absl::Time create_time = absl::InfinitePast();
  std::string kind;  // "queued", "epoch-formed", "worker-lost", ...
  std::string sentence;
  uint64_t epoch = 0;
  int64_t step = 0;
};

// Key: job, role, cause. How much of a failure rule's budget is used.
struct BudgetRecord {
  std::string job;
  std::string role;
  std::string cause;
  int64_t used = 0;
};

// Key: agent. Only agents in quarantine have a row; a restarted process (another incarnation)
// starts clean.
struct AgentRecord {
  std::string agent;
  uint64_t incarnation = 0;
  std::string quarantine_reason;
  absl::Time create_time = absl::InfinitePast();
};

using Record = std::variant<JobRecord, EpochRecord, SnapshotRecord, CandidateRecord, LeapRecord,
                            EventRecord, BudgetRecord, AgentRecord>;

// What a restart needs. All jobs that have not ended and as many ended ones as are to be shown; and
// of those that have not ended: the newest epoch, all leaps, all budgets, the newest 256 snapshots,
// 256 candidates and 1000 events (more does no harm). Rows of one kind in the order of their keys;
// candidates in the order in which they were written.
struct Ledger {
  std::vector<JobRecord> jobs;
  std::vector<EpochRecord> epochs;
  std::vector<SnapshotRecord> snapshots;
  std::vector<CandidateRecord> candidates;
  std::vector<LeapRecord> leaps;
  std::vector<EventRecord> events;
  std::vector<BudgetRecord> budgets;
  std::vector<AgentRecord> agents;
};

}  // namespace leap::machine
