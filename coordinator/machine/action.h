// What the cluster machine wants done after one event. Duties of the runner, in this order:
//   1. If ticket != 0: write `records` in ONE durable transaction (an fsync), all or nothing.
//   2. Perform `sends`, `closes` and `replies` in their order, whatever became of the write: none
//   of them rests on the
//      durability of this batch. A session that is gone: drop what was for it.
//   3. Publish `changed`, write `log`, count `counts`.
//   4. If ticket != 0: hand Persisted{ticket, ok, error} to the machine as its very next event.
//   What rests on the
//      records (AssignWorker on the epoch, COMMIT on the leap, the reply on the job) comes out of
//      that step.
// The machine never waits: when a write fails it takes the decision back, says so in the job's
// state_reason, and training goes on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/machine/message.h"
#include "coordinator/machine/record.h"

namespace leap::machine {

struct Send {
  std::string agent;
  uint64_t session = 0;
  CoordinatorMessage message;
};

// End the stream with this status (after what was sent on it before).
struct CloseSession {
  uint64_t session = 0;
  absl::Status status;
};

// Answer to CreateJob, CancelJob, PauseJob, ResumeJob. If OK: `job` is the job to show
// (Cluster::FindJob).
struct Reply {
  uint64_t correlation = 0;
  absl::Status status;
  std::string job;
};

enum class Severity { kDebug, kInfo, kWarning, kError };

// One line per transition: what an operator would tell a colleague.
struct LogLine {
  Severity severity = Severity::kInfo;
  std::string event;  // "epoch-formed"; the same word as EventRecord::kind
  std::string job;    // empty: of the cluster
  uint64_t epoch = 0;
  int64_t step = 0;
  std::string sentence;
};

// What is counted (counter) or observed (histogram); in brackets the labels, in order, as in
// service/metric_names.h. Gauges of a job or an agent are read off the views (view.h) when
// `changed` names it.
enum class Metric {
  kCandidates,           // counter [regime, predictor, horizon_steps (a plain number), reason]
  kLeaps,                // counter [outcome]: "applied" | "aborted" | "expired" | "rolled-back"
  kTrainedSteps,         // counter
  kVerdictAgeSteps,      // histogram
  kVerificationSeconds,  // histogram
  kFetchSeconds,         // histogram
  kCommitSeconds,        // histogram; from Prepare to the last outcome
  kPauseSeconds,         // histogram
  kSnapshotSeconds,      // histogram
  kTasks,                // counter [kind, outcome]: "baseline" | "candidate" | "audit";
                         // "ok" | "failed" | "refused" | "lost" | "late" | "superseded"
  kAudits,               // counter [verdict]: AuditVerdictName
  kEpochs,   // counter [cause]: "start" | "worker-lost" | "goodbye" | "collective-failed" |
             // "corrupt" | "formation-failed" | "rollback" | "grown" | "restart"
  kRefused,  // counter [what]: kind of a stale or refused message ("prepare-vote", "hello", ...)
  kDeviceSeconds,    // counter [role]: "worker" | "verifier"
  kQuarantines,      // counter [cause]: "nan" | "digest" | "length" | "range" |
                     // "errors" | "corrupt"
  kRecoverySeconds,  // histogram; from the loss to the epoch formed
  kPersistFailures,  // counter
};

struct MetricSample {
  Metric metric;
  std::vector<std::string> labels;
  double value = 1;
};

struct Actions {
  uint64_t ticket = 0;  // 0: records is empty
  std::vector<Record> records;
  std::vector<Send> sends;
  std::vector<CloseSession> closes;
  std::vector<Reply> replies;
  std::vector<std::string> changed;  // jobs whose view changed
  std::vector<LogLine> log;
  std::vector<MetricSample> counts;
};

}  // namespace leap::machine
