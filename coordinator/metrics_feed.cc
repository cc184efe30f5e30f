#include "coordinator/metrics_feed.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "core/job_spec.h"

namespace leap {
namespace {

const char* const kRegimeNames[] = {"unknown", "chaotic", "transition", "stable"};

// "quadratic:newton" is counted as "quadratic".
std::string PredictorName(const std::string& predictor) {
  return std::vector<std::string>(absl::StrSplit(predictor, ':'))[0];
}

std::string Horizon(const std::string& text) {
  int64_t steps = 0;
  (void)absl::SimpleAtoi(text, &steps);  // "" and nonsense count as 0
  return HorizonLabel(steps);
}

// A series that first appears at 1 hides its first increase from whoever asks for rates.
void ExportCandidatesAtZero(const machine::JobRecord& job, Metrics* metrics) {
  const absl::StatusOr<JobSpec> spec = ParseJobSpec(job.spec_yaml);
  if (!spec.ok() || !spec->leap.enabled) return;
  const auto def = std::ranges::find(MetricTable(), Metric::kCandidatesTotal, &MetricDef::metric);
  for (const PredictorSpec& predictor : spec->leap.predictors) {
    std::vector<int64_t> horizons = predictor.horizons_steps;
    if (horizons.empty()) horizons.push_back(0);
    for (const int64_t horizon : horizons) {
      for (const char* regime : kRegimeNames) {
        for (const std::string& reason : def->labels.back().values) {
          metrics->Count(Metric::kCandidatesTotal,
                         {regime, predictor.name, HorizonLabel(horizon), reason}, 0);
        }
      }
    }
  }
}

}  // namespace

void MetricsFeed::Count(const machine::MetricSample& sample) {
  const auto label = [&](size_t i) {
    return i < sample.labels.size() ? sample.labels[i] : std::string("other");
  };
  const auto count = [&](leap::Metric metric, Metrics::Labels labels = {}) {
    metrics_->Count(metric, labels, sample.value);
  };
  const auto observe = [&](leap::Metric metric) { metrics_->Observe(metric, {}, sample.value); };
  switch (sample.metric) {
    using enum machine::Metric;
    case kCandidates:
      return count(Metric::kCandidatesTotal,
                   {label(0), PredictorName(label(1)), Horizon(label(2)), label(3)});
    case kLeaps:
      return count(Metric::kLeapsTotal, {label(0)});
    case kTrainedSteps:
      return count(Metric::kTrainedStepsTotal);
    case kVerdictAgeSteps:
      return observe(Metric::kVerdictAgeSteps);
    case kVerificationSeconds:
      return observe(Metric::kVerificationSeconds);
    case kFetchSeconds:
      return observe(Metric::kFetchSeconds);
    case kCommitSeconds:
      return observe(Metric::kCommitSeconds);
    case kPauseSeconds:
      return observe(Metric::kPauseSeconds);
    case kSnapshotSeconds:
      return observe(Metric::kSnapshotSeconds);
    case kTasks:
      return count(Metric::kTasksTotal, {label(0), label(1)});
    case kAudits:
      return count(Metric::kAuditsTotal, {label(0)});
    case kEpochs:
      return count(Metric::kEpochsTotal, {label(0)});
    case kRefused:
      return count(Metric::kRefusedTotal, {label(0)});
    case kDeviceSeconds:
      return count(Metric::kDeviceSecondsTotal, {label(0)});
    case kQuarantines:
      return count(Metric::kQuarantinesTotal, {label(0)});
    case kRecoverySeconds:
      return observe(Metric::kRecoverySeconds);
    case kPersistFailures:
      return;  // CountTransaction counts them
  }
}

void MetricsFeed::SetJob(const machine::JobView& job) {
  const machine::JobRecord& record = job.record;
  const std::string& id = record.job;
  if (machine::IsEnded(record.state)) {
    if (live_.erase(id) > 0) metrics_->Forget("job", id);
    return;
  }
  if (live_.insert(id).second) ExportCandidatesAtZero(record, metrics_);
  const machine::Progress& progress = record.progress;
  for (const char* regime : kRegimeNames) {
    metrics_->Set(Metric::kJobRegime, {id, regime}, progress.regime == regime ? 1 : 0);
  }
  metrics_->Set(Metric::kJobSimilarity, {id}, progress.similarity);
  metrics_->Set(Metric::kJobLoss, {id, "train"}, progress.train_loss);
  metrics_->Set(Metric::kJobLoss, {id, "gate"}, progress.gate_loss);
  metrics_->Set(Metric::kJobLoss, {id, "report"}, progress.report_loss);
  metrics_->Set(Metric::kJobTokensPerSecond, {id}, progress.tokens_per_second);
  metrics_->Set(Metric::kJobStep, {id}, static_cast<double>(progress.step));
  metrics_->Set(Metric::kJobEpoch, {id}, static_cast<double>(record.epoch));
}

void MetricsFeed::SetCluster(const std::vector<machine::JobView>& jobs,
                             const std::vector<machine::AgentView>& agents, size_t queued_events,
                             size_t sessions, int64_t ledger_bytes) {
  std::map<std::string, int> by_state;
  double booked = 0, net = 0, equivalent = 0;
  for (int state = 1; state <= 8; ++state) {
    by_state[machine::JobStateName(static_cast<machine::JobState>(state))] = 0;
  }
  for (const machine::JobView& job : jobs) {
    SetJob(job);
    ++by_state[machine::JobStateName(job.record.state)];
    const machine::LeapSummary& leaps = job.record.leaps;
    booked += leaps.booked_steps;
    net += leaps.net_steps;
    if (leaps.equivalent_known) equivalent += leaps.equivalent_steps;
  }
  for (const auto& [state, n] : by_state) metrics_->Set(Metric::kJobs, {state}, n);
  metrics_->Set(Metric::kSavedSteps, {"booked"}, booked);
  metrics_->Set(Metric::kSavedSteps, {"net"}, net);
  metrics_->Set(Metric::kSavedSteps, {"equivalent"}, equivalent);
  std::map<std::pair<std::string, std::string>, int> members;
  for (const char* role : {"worker", "verifier"}) {
    for (const char* state : {"idle", "assigned", "releasing", "lost", "quarantined"}) {
      members[{role, state}] = 0;
    }
  }
  for (const machine::AgentView& agent : agents) {
    ++members[{agent.role == machine::Role::kWorker ? "worker" : "verifier", agent.state}];
  }
  for (const auto& [key, n] : members) {
    metrics_->Set(Metric::kAgents, {key.first, key.second}, n);
  }
  metrics_->Set(Metric::kEventQueueLength, {}, static_cast<double>(queued_events));
  metrics_->Set(Metric::kSessions, {}, static_cast<double>(sessions));
  metrics_->Set(Metric::kLedgerBytes, {}, static_cast<double>(ledger_bytes));
}

void MetricsFeed::CountTransaction(bool ok, absl::Duration duration) {
  metrics_->Count(Metric::kLedgerTransactionsTotal, {ok ? "ok" : "failed"});
  metrics_->Observe(Metric::kLedgerSeconds, {}, absl::ToDoubleSeconds(duration));
}

void MetricsFeed::CountSessionMessage(absl::string_view direction) {
  metrics_->Count(Metric::kSessionMessagesTotal, {direction});
}

void MetricsFeed::CountRefusedSession(absl::string_view cause) {
  metrics_->Count(Metric::kSessionsRefusedTotal, {cause});
}

void MetricsFeed::CountDroppedEvent() { metrics_->Count(Metric::kEventsDroppedTotal); }

}  // namespace leap
