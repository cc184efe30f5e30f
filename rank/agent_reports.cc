// What a rank's agent reports to the coordinator, from the training thread and the ring's.
#include <utility>

#include "base/ids.h"
#include "base/log.h"
#include "rank/agent.h"

namespace leap {
namespace {

constexpr size_t kOutcomesKept = 16;

std::string CauseOf(const absl::Status& status) {
  if (absl::IsOutOfRange(status)) return "nan-loss";
  if (absl::IsNotFound(status) || absl::IsInvalidArgument(status) || absl::IsDataLoss(status)) {
    return "data";
  }
  return "internal";
}

}  // namespace

bool RankAgent::Send(v1::AgentMessage message) {
  MutexLock lock(&mutex_);
  return session_ != nullptr && session_->Send(std::move(message));
}

void RankAgent::SendStanding(const std::string& key, v1::AgentMessage message) {
  {
    MutexLock lock(&mutex_);
    standing_[key] = message;
  }
  Send(std::move(message));
}

void RankAgent::ReportReady(const v1::AssignWorker& assign, const JoinReport& report,
                            double seconds) {
  v1::AgentMessage message;
  v1::EpochReady* ready = message.mutable_epoch_ready();
  ready->set_job(assign.job());
  ready->set_epoch(assign.epoch());
  ready->set_rank(assign.rank());
  ready->set_step(report.position.step);
  ready->set_leaps_applied(report.position.leaps_applied);
  ready->set_weights_digest(report.weights_digest);
  ready->set_recovered_from(report.recovered_from);
  ready->set_last_leap(report.position.last_leap);
  ready->set_recovery_seconds(seconds);
  ready->set_undo_problem(report.undo_problem);
  std::shared_ptr<Trainer> trainer;
  {
    MutexLock lock(&mutex_);
    live_ = true;
    trainer = trainer_;
  }
  metrics_->Set(Metric::kWorkerEpoch, {}, static_cast<double>(assign.epoch()));
  LogInfo("epoch-joined", {{"job", assign.job()},
                           {"epoch", assign.epoch()},
                           {"step", report.position.step},
                           {"weights_digest", Hex64(report.weights_digest)},
                           {"recovered_from", report.recovered_from},
                           {"seconds", seconds}});
  SendStanding("ready", std::move(message));
  if (assign.rank() != 0) return;
  v1::AgentMessage started;
  started.mutable_training_started()->set_job(assign.job());
  started.mutable_training_started()->set_epoch(assign.epoch());
  v1::Data* data = started.mutable_training_started()->mutable_data();
  const DataRegions& regions = trainer->regions();
  data->set_tokens(trainer->corpus_tokens());
  data->set_train_begin(regions.train_begin);
  data->set_train_end(regions.train_end);
  data->set_gate_begin(regions.gate_begin);
  data->set_gate_end(regions.gate_end);
  data->set_report_begin(regions.report_begin);
  data->set_report_end(regions.report_end);
  data->set_parameters(trainer->parameters());
  data->set_content_digest(trainer->corpus_digest());
  Send(std::move(started));
}

// Aborted: somebody wanted it. Unavailable: the group broke. The rest ends the job, or is for its
// failure rules.
void RankAgent::ReportEnd(const v1::AssignWorker& assign, const absl::Status& status) {
  if (absl::IsAborted(status)) {
    LogInfo("epoch-left", {{"epoch", assign.epoch()}, {"reason", std::string(status.message())}});
    return;
  }
  LogWarning("epoch-failed", {{"epoch", assign.epoch()}, {"status", status}});
  v1::AgentMessage message;
  if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) {
    v1::CollectiveFailed* failed = message.mutable_collective_failed();
    failed->set_job(assign.job());
    failed->set_epoch(assign.epoch());
    {
      MutexLock lock(&mutex_);
      failed->set_step(beat_.step());
    }
    failed->set_message(std::string(status.message()));
    return SendStanding("failed", std::move(message));
  }
  v1::JobEnded* ended = message.mutable_job_ended();
  ended->set_job(assign.job());
  ended->set_epoch(assign.epoch());
  ended->set_rank(assign.rank());
  ended->set_ok(false);
  ended->set_reason(std::string(status.message()));
  ended->set_cause(CauseOf(status));
  SendStanding("ended", std::move(message));
}

template <class Message>
bool RankAgent::Label(Message* message) const {
  MutexLock lock(&mutex_);
  const auto& epoch = running_ ? running_ : current_;
  if (!epoch) return false;
  message->set_job(epoch->job());
  message->set_epoch(epoch->epoch());
  message->set_rank(epoch->rank());
  return true;
}

void RankAgent::ReportSnapshot(const RingSnapshot& snapshot, FlatRange shard) {
  metrics_->Observe(Metric::kWorkerSnapshotSeconds, {}, snapshot.copy_seconds);
  v1::AgentMessage message;
  v1::SnapshotTaken* taken = message.mutable_snapshot_taken();
  if (!Label(taken)) return;
  taken->set_step(snapshot.position.step);
  taken->set_data_position(snapshot.position.data_position);
  taken->set_adam_step(snapshot.position.adam_step);
  taken->set_begin(shard.begin);
  taken->set_end(shard.end);
  taken->set_weights_digest(snapshot.weights_digest);
  for (const uint64_t digest : snapshot.state_digests) taken->add_state_digests(digest);
  for (const ShardDigest& other : snapshot.others) {
    v1::ShardDigest* told = taken->add_others();
    told->set_rank(other.rank);
    told->set_digest(other.digest);
  }
  taken->set_applied_leap(snapshot.applied_leap);
  taken->set_has_moments(!snapshot.exp_avg.empty());
  taken->set_snapshot_seconds(snapshot.copy_seconds);
  Send(std::move(message));
}

void RankAgent::ReportVote(const PrepareRequest& request, const absl::StatusOr<uint64_t>& digest) {
  v1::AgentMessage message;
  v1::PrepareVote* vote = message.mutable_prepare_vote();
  if (!Label(vote)) return;
  vote->set_leap(request.leap);
  vote->set_ok(digest.ok());
  if (digest.ok()) {
    vote->set_shard_digest(*digest);
  } else {
    vote->set_reason(std::string(digest.status().message()));
  }
  Send(std::move(message));
}

void RankAgent::ReportLeap(const LeapReport& report) {
  v1::AgentMessage message;
  v1::LeapOutcome* outcome = message.mutable_leap_outcome();
  if (!Label(outcome)) return;
  outcome->set_leap(report.leap);
  outcome->set_applied(report.applied);
  outcome->set_boundary_step(report.boundary_step);
  outcome->set_step(report.step);
  outcome->set_pause_seconds(report.pause_seconds);
  outcome->set_shard_digest(report.shard_digest);
  outcome->set_weights_digest(report.weights_digest);
  {
    MutexLock lock(&mutex_);
    outcomes_[report.leap] = *outcome;
    if (outcomes_.size() > kOutcomesKept) outcomes_.erase(outcomes_.begin());
  }
  if (report.applied) metrics_->Observe(Metric::kWorkerPauseSeconds, {}, report.pause_seconds);
  LogInfo(report.applied ? "leap-applied" : "leap-expired",
          {{"job", outcome->job()},
           {"leap", report.leap},
           {"boundary_step", report.boundary_step},
           {"pause_seconds", report.pause_seconds},
           {"weights_digest", Hex64(report.weights_digest)}});
  Send(std::move(message));
}

}  // namespace leap
