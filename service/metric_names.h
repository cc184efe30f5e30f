// Every metric of every binary: the enum here, the one table (name, type, help, labels with bounded
// values, binaries) in metric_names.cc. docs/metrics.md is made from the table, and dashboards and
// alerts are tested against it.
//
// Adding one: a line in the enum and, at the same place, a row in the table. Names: prefix leap_,
// unit last, counters end in _total. Labels are words of a closed list; ids go to logs. The one
// exception is `job`, a per-job gauge label bounded by kMaxJobLabels and removed when the job ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace leap {

// In brackets: the labels, in the order in which Metrics takes their values.
enum class Metric {
  // Coordinator: leaps.
  kCandidatesTotal,  // [regime, predictor, horizon_steps, reason]
  kLeapsTotal,
  kSavedSteps,
  kTrainedStepsTotal,
  kVerdictAgeSteps,
  kVerificationSeconds,
  kFetchSeconds,
  kCommitSeconds,
  kPauseSeconds,
  kSnapshotSeconds,
  kTasksTotal,   // [kind, outcome]
  kAuditsTotal,  // [verdict]
  // Coordinator: jobs, one series per live job.
  kJobRegime,
  kJobSimilarity,
  kJobLoss,
  kJobTokensPerSecond,  // [job]
  kJobStep,
  kJobEpoch,
  // Coordinator: the cluster.
  kJobs,
  kAgents,
  kDeviceSecondsTotal,  // [role]
  kEpochsTotal,         // [cause]
  kRecoverySeconds,
  kQuarantinesTotal,  // [cause]
  kRefusedTotal,      // [kind]
  kSessions,
  kSessionMessagesTotal,  // [direction]
  kSessionsRefusedTotal,  // [cause]
  kEventQueueLength,
  kEventsDroppedTotal,
  kLedgerTransactionsTotal,  // [result]
  kLedgerSeconds,
  kLedgerBytes,
  kMachineStepSeconds,
  // Worker.
  kWorkerStepSeconds,
  kWorkerTrainedStepsTotal,
  kWorkerTokensPerSecond,
  kWorkerTrainLoss,
  kWorkerStep,
  kWorkerEpoch,
  kWorkerSnapshotSeconds,
  kWorkerPauseSeconds,
  kWorkerCheckpointSeconds,
  // Verifier.
  kVerifierTasksTotal,
  kVerifierTaskSeconds,  // [kind]
  kVerifierFetchSeconds,
  kVerifierFetchedBytesTotal,
  kVerifierCorruptChunksTotal,
  kVerifierQueueLength,
  // Workers and verifiers.
  kCoordinatorConnected,
  kReconnectsTotal,
  kServedBytesTotal,
  kServedStreamsTotal,  // [result]
  // Every binary.
  kRequestsTotal,  // [method, code]
  kLabelErrorsTotal,
  kBuildInfo,
  kMetricCount,  // not a metric: how many there are
};

enum class MetricType { kCounter, kGauge, kHistogram };

// Which binary exports a metric; bits.
enum MetricRoom : uint8_t { kInCoordinator = 1, kInWorker = 2, kInVerifier = 4, kInAll = 7 };

inline constexpr size_t kMaxJobLabels = 100;

struct MetricLabel {
  std::string name;
  std::vector<std::string>
      values;  // the closed list; a value outside it is counted as "other" if that is in the list
  bool open = false;  // `job`, `version`: any value, kMaxJobLabels at most
};

struct MetricDef {
  Metric metric;
  std::string name;
  MetricType type;
  std::string help;  // a sentence
  uint8_t rooms;     // bits of MetricRoom
  std::vector<MetricLabel> labels;
  std::vector<double> buckets;  // histograms
  bool at_zero = true;          // all combinations exist from the start
};

// The table, indexed by Metric.
std::span<const MetricDef> MetricTable();

// docs/metrics.md; a test keeps the committed page equal to it.
std::string MetricsMarkdown();

// The value of label `horizon_steps` for K: the largest listed bound that is not above it ("0",
// "5", ... "1000").
std::string HorizonLabel(int64_t horizon_steps);

}  // namespace leap
