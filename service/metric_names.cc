#include "service/metric_names.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "service/auth.h"

namespace leap {
namespace {

using Words = std::vector<std::string>;

const Words kRegimes = {"unknown", "chaotic", "transition", "stable"};
// The registered predictors (core/predictors/registry.cc; a test keeps the two equal).
const Words kPredictors = {"linear", "quadratic",      "momentum",    "average",
                           "trend",  "outer-nesterov", "last-update", "other"};
const Words kHorizons = {"0", "1", "5", "10", "25", "50", "75", "100", "200", "500", "1000"};
// VerdictReasonName of core/acceptance.h.
const Words kReasons = {"accepted",         "not-better",
                        "outside-band",     "not-significant",
                        "worse-than-bound", "not-finite",
                        "no-history",       "regime",
                        "warmup",           "horizon-too-short",
                        "superseded",       "dry-run",
                        "policy-off",       "other"};
const Words kTaskKinds = {"baseline", "candidate", "audit"};
const Words kRoles = {"worker", "verifier"};

// Seconds from a millisecond to ten minutes, and from ten microseconds to ten seconds.
const std::vector<double> kLong = {0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1,
                                   2.5,   5,    10,   30,  60,   120, 600};
const std::vector<double> kShort = {1e-5,  1e-4, 2.5e-4, 5e-4, 0.001, 0.0025, 0.005, 0.01,
                                    0.025, 0.05, 0.1,    0.25, 0.5,   1,      10};
const std::vector<double> kSteps = {0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000};

MetricLabel Regime() { return {"regime", kRegimes}; }
MetricLabel Job() { return {.name = "job", .open = true}; }
MetricLabel Method() {
  Words methods;
  for (const MethodAccess& access : MethodAccessTable())
    methods.emplace_back(access.method.substr(1));
  methods.emplace_back("other");  // health, reflection, and what nobody knows
  return {"method", methods};
}
MetricLabel Code() {
  return {"code",
          {"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
           "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
           "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
           "UNAUTHENTICATED"}};
}

std::vector<MetricDef> LeapMetrics() {
  using enum MetricType;
  return {
      {Metric::kCandidatesTotal,
       "leap_candidates_total",
       kCounter,
       "Verified candidates by what became of them; reason accepted means that it passed.",
       kInCoordinator,
       {Regime(), {"predictor", kPredictors}, {"horizon_steps", kHorizons}, {"reason", kReasons}},
       {},
       false},
      {Metric::kLeapsTotal,
       "leap_leaps_total",
       kCounter,
       "Leaps by outcome.",
       kInCoordinator,
       {{"outcome", {"applied", "aborted", "expired", "rolled-back"}}}},
      {Metric::kSavedSteps,
       "leap_saved_steps",
       kGauge,
       "Steps saved by leaps of the jobs known now, counted three ways (docs/formulas.md); may be "
       "negative.",
       kInCoordinator,
       {{"count", {"booked", "net", "equivalent"}}}},
      {Metric::kTrainedStepsTotal,
       "leap_trained_steps_total",
       kCounter,
       "Optimizer steps trained, over all jobs.",
       kInCoordinator,
       {}},
  };
}

std::vector<MetricDef> VerificationMetrics() {
  using enum MetricType;
  return {
      {Metric::kVerdictAgeSteps,
       "leap_verdict_age_steps",
       kHistogram,
       "Steps trained between a snapshot and the verdict on its candidates.",
       kInCoordinator,
       {},
       kSteps},
      {Metric::kVerificationSeconds,
       "leap_verification_duration_seconds",
       kHistogram,
       "Time a verifier took for a task.",
       kInCoordinator,
       {},
       kLong},
      {Metric::kFetchSeconds,
       "leap_fetch_duration_seconds",
       kHistogram,
       "Part of that time spent fetching snapshots.",
       kInCoordinator,
       {},
       kLong},
      {Metric::kCommitSeconds,
       "leap_commit_duration_seconds",
       kHistogram,
       "Time from PREPARE until every rank had applied the leap; training goes on meanwhile.",
       kInCoordinator,
       {},
       kLong},
      {Metric::kPauseSeconds,
       "leap_commit_pause_seconds",
       kHistogram,
       "Time that training stood still to apply a leap, the longest of the ranks.",
       kInCoordinator,
       {},
       kShort},
      {Metric::kSnapshotSeconds,
       "leap_snapshot_duration_seconds",
       kHistogram,
       "Time the training thread spent on a snapshot, by rank.",
       kInCoordinator,
       {},
       kShort},
      {Metric::kTasksTotal,
       "leap_tasks_total",
       kCounter,
       "Tasks of verifiers by kind and outcome.",
       kInCoordinator,
       {{"kind", kTaskKinds},
        {"outcome", {"ok", "failed", "refused", "lost", "late", "superseded", "other"}}}},
      {Metric::kAuditsTotal,
       "leap_audits_total",
       kCounter,
       "Retained-gain audits by verdict.",
       kInCoordinator,
       {{"verdict", {"too-few", "helps", "not-significant", "harms"}}}},
  };
}

std::vector<MetricDef> JobMetrics() {
  using enum MetricType;
  return {
      {Metric::kJobRegime,
       "leap_regime",
       kGauge,
       "Regime of a live job, one-hot.",
       kInCoordinator,
       {Job(), Regime()}},
      {Metric::kJobSimilarity,
       "leap_similarity",
       kGauge,
       "Similarity of the newest two fingerprints of a live job.",
       kInCoordinator,
       {Job()}},
      {Metric::kJobLoss,
       "leap_loss",
       kGauge,
       "Newest mean loss of a live job in nats a token: of the training batch, the gate set, the "
       "report set.",
       kInCoordinator,
       {Job(), {"set", {"train", "gate", "report"}}}},
      {Metric::kJobTokensPerSecond,
       "leap_tokens_per_second",
       kGauge,
       "Training speed of a live job.",
       kInCoordinator,
       {Job()}},
      {Metric::kJobStep,
       "leap_step",
       kGauge,
       "Optimizer step of a live job.",
       kInCoordinator,
       {Job()}},
      {Metric::kJobEpoch,
       "leap_epoch",
       kGauge,
       "Epoch of a live job's main group.",
       kInCoordinator,
       {Job()}},
  };
}

std::vector<MetricDef> ClusterMetrics() {
  using enum MetricType;
  return {
      {Metric::kJobs,
       "leap_jobs",
       kGauge,
       "Jobs known by state.",
       kInCoordinator,
       {{"state",
         {"QUEUED", "STARTING", "RUNNING", "PAUSED", "RECOVERING", "SUCCEEDED", "FAILED",
          "CANCELLED"}}}},
      {Metric::kAgents,
       "leap_agents",
       kGauge,
       "Agents known by role and state.",
       kInCoordinator,
       {{"role", kRoles},
        {"state", {"idle", "assigned", "releasing", "lost", "quarantined", "other"}}}},
      {Metric::kDeviceSecondsTotal,
       "leap_device_seconds_total",
       kCounter,
       "Device-seconds spent on jobs, by role.",
       kInCoordinator,
       {{"role", kRoles}}},
  };
}

std::vector<MetricDef> FailureMetrics() {
  using enum MetricType;
  return {
      {Metric::kEpochsTotal,
       "leap_epochs_total",
       kCounter,
       "Epochs formed, by what made one necessary.",
       kInCoordinator,
       {{"cause",
         {"start", "worker-lost", "goodbye", "collective-failed", "corrupt", "formation-failed",
          "rollback", "grown", "restart", "other"}}}},
      {Metric::kRecoverySeconds,
       "leap_recovery_duration_seconds",
       kHistogram,
       "Time from the loss of a main worker to the next epoch.",
       kInCoordinator,
       {},
       kLong},
      {Metric::kQuarantinesTotal,
       "leap_quarantines_total",
       kCounter,
       "Agents put into quarantine, by cause.",
       kInCoordinator,
       {{"cause", {"nan", "digest", "length", "range", "errors", "corrupt", "other"}}}},
      {Metric::kRefusedTotal,
       "leap_refused_messages_total",
       kCounter,
       "Messages of an old epoch, process, step or leap, by kind: answered, not counted.",
       kInCoordinator,
       {{"kind",
         {"hello", "heartbeat", "epoch-ready", "collective-failed", "snapshot-taken", "task-result",
          "prepare-vote", "leap-outcome", "checkpoint-written", "job-ended", "goodbye",
          "training-started", "other"}}}},
  };
}

std::vector<MetricDef> CoordinatorMetrics() {
  using enum MetricType;
  return {
      {Metric::kSessions, "leap_sessions", kGauge, "Open sessions of agents.", kInCoordinator, {}},
      {Metric::kSessionMessagesTotal,
       "leap_session_messages_total",
       kCounter,
       "Messages on agents' sessions.",
       kInCoordinator,
       {{"direction", {"in", "out"}}}},
      {Metric::kSessionsRefusedTotal,
       "leap_sessions_refused_total",
       kCounter,
       "Sessions ended by the coordinator, by cause.",
       kInCoordinator,
       {{"cause", {"unauthenticated", "protocol", "limit", "slow", "duplicate", "other"}}}},
      {Metric::kEventQueueLength,
       "leap_event_queue_length",
       kGauge,
       "Events that wait for the coordinator's machine.",
       kInCoordinator,
       {}},
      {Metric::kEventsDroppedTotal,
       "leap_events_dropped_total",
       kCounter,
       "Events refused because the queue was full.",
       kInCoordinator,
       {}},
      {Metric::kLedgerTransactionsTotal,
       "leap_ledger_transactions_total",
       kCounter,
       "Transactions of the ledger.",
       kInCoordinator,
       {{"result", {"ok", "failed"}}}},
      {Metric::kLedgerSeconds,
       "leap_ledger_transaction_duration_seconds",
       kHistogram,
       "Time to make a transaction durable.",
       kInCoordinator,
       {},
       kShort},
      {Metric::kLedgerBytes,
       "leap_ledger_bytes",
       kGauge,
       "Size of the ledger's files.",
       kInCoordinator,
       {}},
      {Metric::kMachineStepSeconds,
       "leap_machine_step_duration_seconds",
       kHistogram,
       "Time the coordinator's machine took for an event.",
       kInCoordinator,
       {},
       kShort},
  };
}

std::vector<MetricDef> WorkerMetrics() {
  using enum MetricType;
  constexpr uint8_t kRankRooms = kInWorker | kInVerifier;  // a verifier may stand in
  return {
      {Metric::kWorkerStepSeconds,
       "leap_worker_step_duration_seconds",
       kHistogram,
       "Time of an optimizer step.",
       kRankRooms,
       {},
       kLong},
      {Metric::kWorkerTrainedStepsTotal,
       "leap_worker_trained_steps_total",
       kCounter,
       "Optimizer steps trained by this process.",
       kRankRooms,
       {}},
      {Metric::kWorkerTokensPerSecond,
       "leap_worker_tokens_per_second",
       kGauge,
       "Training speed of the whole group.",
       kRankRooms,
       {}},
      {Metric::kWorkerTrainLoss,
       "leap_worker_train_loss",
       kGauge,
       "Newest training loss, nats a token.",
       kRankRooms,
       {}},
      {Metric::kWorkerStep, "leap_worker_step", kGauge, "Optimizer step.", kRankRooms, {}},
      {Metric::kWorkerEpoch,
       "leap_worker_epoch",
       kGauge,
       "Epoch that this rank is in; 0: none.",
       kRankRooms,
       {}},
      {Metric::kWorkerSnapshotSeconds,
       "leap_worker_snapshot_duration_seconds",
       kHistogram,
       "Time the training thread spent on a snapshot.",
       kRankRooms,
       {},
       kShort},
      {Metric::kWorkerPauseSeconds,
       "leap_worker_commit_pause_seconds",
       kHistogram,
       "Time that training stood still to apply a leap.",
       kRankRooms,
       {},
       kShort},
      {Metric::kWorkerCheckpointSeconds,
       "leap_worker_checkpoint_duration_seconds",
       kHistogram,
       "Time to write a checkpoint, beside training.",
       kRankRooms,
       {},
       kLong},
  };
}

std::vector<MetricDef> VerifierMetrics() {
  using enum MetricType;
  return {
      {Metric::kVerifierTasksTotal,
       "leap_verifier_tasks_total",
       kCounter,
       "Tasks done here.",
       kInVerifier,
       {{"kind", kTaskKinds}, {"outcome", {"ok", "failed", "cancelled"}}}},
      {Metric::kVerifierTaskSeconds,
       "leap_verifier_task_duration_seconds",
       kHistogram,
       "Time for a task.",
       kInVerifier,
       {{"kind", kTaskKinds}},
       kLong},
      {Metric::kVerifierFetchSeconds,
       "leap_verifier_fetch_duration_seconds",
       kHistogram,
       "Time spent fetching snapshots for a task.",
       kInVerifier,
       {},
       kLong},
      {Metric::kVerifierFetchedBytesTotal,
       "leap_verifier_fetched_bytes_total",
       kCounter,
       "Bytes of snapshots fetched.",
       kInVerifier,
       {}},
      {Metric::kVerifierCorruptChunksTotal,
       "leap_verifier_corrupt_chunks_total",
       kCounter,
       "Chunks of snapshots that arrived corrupt and were fetched again.",
       kInVerifier,
       {}},
      {Metric::kVerifierQueueLength,
       "leap_verifier_queue_length",
       kGauge,
       "Tasks that wait or run here.",
       kInVerifier,
       {}},
  };
}

std::vector<MetricDef> SessionMetrics() {
  using enum MetricType;
  constexpr uint8_t kAgentRooms = kInWorker | kInVerifier;
  return {
      {Metric::kCoordinatorConnected,
       "leap_coordinator_connected",
       kGauge,
       "1 while the session with the coordinator is open.",
       kAgentRooms,
       {}},
      {Metric::kReconnectsTotal,
       "leap_reconnects_total",
       kCounter,
       "Sessions with the coordinator that broke.",
       kAgentRooms,
       {}},
      {Metric::kServedBytesTotal,
       "leap_served_bytes_total",
       kCounter,
       "Bytes of snapshots served to others.",
       kAgentRooms,
       {}},
      {Metric::kServedStreamsTotal,
       "leap_served_streams_total",
       kCounter,
       "Snapshot streams served to others.",
       kAgentRooms,
       {{"result", {"complete", "broken"}}}},
  };
}

std::vector<MetricDef> CommonMetrics() {
  using enum MetricType;
  return {
      {Metric::kRequestsTotal,
       "leap_requests_total",
       kCounter,
       "Calls answered, by method and status code.",
       kInAll,
       {Method(), Code()},
       {},
       false},
      {Metric::kLabelErrorsTotal,
       "leap_label_errors_total",
       kCounter,
       "Samples dropped because their labels are not in the table: a bug of Leap.",
       kInAll,
       {}},
      {Metric::kBuildInfo,
       "leap_build_info",
       kGauge,
       "1, with the release as a label.",
       kInAll,
       {{.name = "version", .open = true}}},
  };
}

std::vector<MetricDef> MakeTable() {
  std::vector<MetricDef> table;
  for (auto make :
       {LeapMetrics, VerificationMetrics, JobMetrics, ClusterMetrics, FailureMetrics,
        CoordinatorMetrics, WorkerMetrics, VerifierMetrics, SessionMetrics, CommonMetrics}) {
    const std::vector<MetricDef> part = make();
    table.insert(table.end(), part.begin(), part.end());
  }
  return table;
}

absl::string_view TypeName(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return "counter";
    case MetricType::kGauge:
      return "gauge";
    case MetricType::kHistogram:
      return "histogram";
  }
  return "";
}

std::string LabelsMarkdown(const MetricDef& def) {
  if (def.labels.empty()) return "none";
  return absl::StrJoin(def.labels, "<br>", [](std::string* out, const MetricLabel& label) {
    absl::StrAppend(out, "`", label.name, "`: ");
    if (label.open) {
      absl::StrAppend(out, "any, at most ", kMaxJobLabels);
    } else {
      absl::StrAppend(out, absl::StrJoin(label.values, ", "));
    }
  });
}

}  // namespace

std::span<const MetricDef> MetricTable() {
  static const auto* const table = new std::vector<MetricDef>(MakeTable());
  return *table;
}

std::string MetricsMarkdown() {
  std::string page =
      "# Metrics\n\n"
      "Made from the table in `service/metric_names.cc` by `service_test`; do not edit. Every "
      "binary serves its own at\n"
      "`--metrics-listen` under `/metrics`. Labels take only the words listed; a counter with few "
      "combinations exists\n"
      "at zero from the start; the candidates of a job's predictors from when the job is live.\n";
  const std::pair<MetricRoom, absl::string_view> rooms[] = {{kInCoordinator, "leap-coordinator"},
                                                            {kInWorker, "leap-worker"},
                                                            {kInVerifier, "leap-verifier"}};
  for (const auto& [room, name] : rooms) {
    absl::StrAppend(&page, "\n## ", name,
                    "\n\n| name | type | labels | meaning |\n| --- | --- | --- | --- |\n");
    for (const MetricDef& def : MetricTable()) {
      if ((def.rooms & room) == 0) continue;
      absl::StrAppend(&page, "| `", def.name, "` | ", TypeName(def.type), " | ",
                      LabelsMarkdown(def), " | ", def.help, " |\n");
    }
  }
  return page;
}

std::string HorizonLabel(int64_t horizon_steps) {
  std::string label = kHorizons.front();
  for (const std::string& bound : kHorizons) {
    if (std::stoll(bound) <= horizon_steps) label = bound;
  }
  return label;
}

}  // namespace leap
