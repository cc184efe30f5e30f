// The training thread of a rank's agent: one assignment after the other, from joining an epoch to
// its end.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "core/schedule.h"
#include "engine/path_roots.h"
#include "rank/agent.h"

namespace leap {
namespace {

constexpr absl::Duration kIdle = absl::Milliseconds(500);

}  // namespace

void RankAgent::Train() {
  while (true) {
    std::optional<v1::AssignWorker> assign;
    std::shared_ptr<Interrupt> interrupt;
    bool drop = false;
    {
      MutexLock lock(&mutex_);
      const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_ || drop_wanted_ || wanted_.has_value();
      };
      mutex_.AwaitWithTimeout(Condition(&something), kIdle);
      if (stopping_) break;
      drop = std::exchange(drop_wanted_, false);
      assign = std::exchange(wanted_, std::nullopt);
      if (assign) interrupt = interrupt_ = std::make_shared<Interrupt>();
    }
    if (drop) DropJob();
    if (assign) RunEpoch(*assign, std::move(interrupt));
  }
  DropJob();
}

void RankAgent::DropJob() {
  holdings_->SetRing("", 0, nullptr);
  std::shared_ptr<Trainer> trainer;
  MutexLock lock(&mutex_);
  trainer.swap(trainer_);
  trainer_job_.clear();
  running_.reset();
  live_ = false;
  paused_ = false;
  beat_.Clear();
  if (!wanted_) current_.reset();
}

absl::Status RankAgent::EnsureTrainer(const v1::AssignWorker& assign) {
  LEAP_ASSIGN_OR_RETURN(JobSpec spec, ParseJobSpec(assign.spec_yaml()));
  LEAP_RETURN_IF_ERROR(CheckPathsOnDisk(spec, options_.path_roots));
  // By the job's id, not its name: another job of the same name must not resume this one's.
  if (spec.checkpoint.dir.empty()) {
    spec.checkpoint.dir = absl::StrCat(options_.state_dir, "/checkpoints/", assign.job());
  }
  {
    MutexLock lock(&mutex_);
    if (trainer_ != nullptr && trainer_job_ == assign.job()) return absl::OkStatus();
    trainer_ = nullptr;  // the old job's memory first
    live_ = false;
  }
  LEAP_ASSIGN_OR_RETURN(std::shared_ptr<Trainer> trainer,
                        Trainer::Create(spec, options_.state_dir, MakeCallbacks()));
  MutexLock lock(&mutex_);
  trainer->SetPaused(paused_);
  trainer_ = std::move(trainer);
  trainer_job_ = assign.job();
  return absl::OkStatus();
}

TrainerCallbacks RankAgent::MakeCallbacks() {
  return {
      .on_snapshot = [this](const RingSnapshot& snapshot,
                            FlatRange shard) { ReportSnapshot(snapshot, shard); },
      .on_vote = [this](const PrepareRequest& request,
                        const absl::StatusOr<uint64_t>& digest) { ReportVote(request, digest); },
      .on_leap = [this](const LeapReport& report) { ReportLeap(report); },
      .on_checkpoint =
          [this](int64_t step, const absl::StatusOr<std::string>& path, double seconds) {
            metrics_->Observe(Metric::kWorkerCheckpointSeconds, {}, seconds);
            if (path.ok()) {
              LogInfo("checkpoint-written", {{"step", step}, {"path", *path}});
            } else {
              LogError("checkpoint-failed", {{"step", step}, {"status", path.status()}});
            }
            v1::AgentMessage message;
            v1::CheckpointWritten* written = message.mutable_checkpoint_written();
            {
              MutexLock lock(&mutex_);
              const auto& epoch = running_ ? running_ : current_;
              if (!epoch) return;
              written->set_job(epoch->job());
              written->set_epoch(epoch->epoch());
            }
            written->set_step(step);
            written->set_seconds(seconds);
            if (!path.ok()) {
              written->set_error(std::string(path.status().message()));
              return (void)Send(std::move(message));  // what was written before it still stands
            }
            written->set_path(*path);
            SendStanding("checkpoint", std::move(message));
          }};
}

EpochOptions RankAgent::MakeEpoch(const v1::AssignWorker& assign, const JobSpec& spec) const {
  EpochOptions options;
  options.group = {.store_address = assign.store_address(),
                   .prefix = absl::StrCat(assign.job(), "/", assign.epoch()),
                   .rank = assign.rank(),
                   .world_size = assign.world_size(),
                   .bind_host = options_.bind_host,
                   .timeout = absl::Seconds(spec.timeouts.collective_seconds),
                   .join_timeout = absl::Seconds(spec.timeouts.epoch_formation_seconds)};
  options.job = assign.job();
  options.epoch = assign.epoch();
  options.from_checkpoint = assign.from_checkpoint();
  options.checkpoint_path = assign.checkpoint_path();
  options.undo_leap = assign.undo_leap();
  MutexLock lock(&mutex_);
  bool listed_live = true;
  for (const v1::Member& member : assign.members()) {
    if (member.rank() == assign.rank()) listed_live = member.state() == "live";
  }
  options.live = live_ && listed_live;
  return options;
}

void RankAgent::RunEpoch(const v1::AssignWorker& assign, std::shared_ptr<Interrupt> interrupt) {
  const absl::Time start = clock_->Now();
  LogInfo("epoch-assigned", {{"job", assign.job()},
                             {"epoch", assign.epoch()},
                             {"rank", assign.rank()},
                             {"world_size", assign.world_size()}});
  const absl::Status opened = EnsureTrainer(assign);
  if (!opened.ok()) return ReportEnd(assign, opened);
  std::shared_ptr<Trainer> trainer;
  {
    MutexLock lock(&mutex_);
    trainer = trainer_;
  }
  trainer->Leave();  // the old ring's last reports still bear the old epoch
  {
    MutexLock lock(&mutex_);
    running_ = assign;
  }
  const absl::StatusOr<JobSpec> spec = ParseJobSpec(assign.spec_yaml());
  const absl::StatusOr<JoinReport> joined =
      trainer->Join(MakeEpoch(assign, *spec), std::move(interrupt));
  absl::Status status = joined.status();
  if (joined.ok()) {
    holdings_->SetRing(assign.job(), assign.epoch(), trainer->ring());
    ReportReady(assign, *joined, absl::ToDoubleSeconds(clock_->Now() - start));
    status = TrainSteps(assign);
    if (status.ok()) return FinishJob(assign);
  }
  {
    MutexLock lock(&mutex_);
    left_epoch_ = assign.epoch();
  }
  holdings_->SetRing("", 0, nullptr);
  trainer->Leave();
  ReportEnd(assign, status);
}

absl::Status RankAgent::TrainSteps(const v1::AssignWorker& assign) {
  std::shared_ptr<Trainer> trainer;
  {
    MutexLock lock(&mutex_);
    trainer = trainer_;
  }
  LEAP_ASSIGN_OR_RETURN(const JobSpec spec, ParseJobSpec(assign.spec_yaml()));
  const double tokens = static_cast<double>(spec.train.batch_sequences) *
                        static_cast<double>(spec.data.sequence_length_tokens);
  absl::Time last = clock_->Now();
  while (true) {
    LEAP_ASSIGN_OR_RETURN(const StepReport step, trainer->Step());
    const TrainPosition position = trainer->position();
    const absl::Time now = clock_->Now();
    const double seconds = std::max(absl::ToDoubleSeconds(now - last), 1e-9);
    last = now;
    {
      MutexLock lock(&mutex_);
      // A slowly moving mean: heartbeats are rarer than steps.
      const double mean =
          beat_.step_seconds() == 0 ? seconds : 0.9 * beat_.step_seconds() + 0.1 * seconds;
      beat_.set_step(position.step);
      beat_.set_trained_steps(position.data_position);
      beat_.set_train_loss(step.loss);
      beat_.set_step_seconds(mean);
      beat_.set_tokens_per_second(tokens / mean);
      beat_.set_lr(LearningRate(spec.train, position.step));
      beat_.set_busy_seconds(beat_.busy_seconds() + seconds);
    }
    metrics_->Observe(Metric::kWorkerStepSeconds, {}, seconds);
    metrics_->Count(Metric::kWorkerTrainedStepsTotal);
    metrics_->Set(Metric::kWorkerTokensPerSecond, {}, tokens / seconds);
    metrics_->Set(Metric::kWorkerTrainLoss, {}, step.loss);
    metrics_->Set(Metric::kWorkerStep, {}, static_cast<double>(position.step));
    if (step.done) return absl::OkStatus();
  }
}

void RankAgent::FinishJob(const v1::AssignWorker& assign) {
  std::shared_ptr<Trainer> trainer;
  {
    MutexLock lock(&mutex_);
    trainer = trainer_;
  }
  const absl::StatusOr<FinalReport> report = trainer->Finish();
  if (!report.ok()) return ReportEnd(assign, report.status());
  v1::AgentMessage message;
  v1::JobEnded* ended = message.mutable_job_ended();
  ended->set_job(assign.job());
  ended->set_epoch(assign.epoch());
  ended->set_rank(assign.rank());
  ended->set_ok(true);
  ended->set_last_leap(trainer->position().last_leap);
  v1::Result* result = ended->mutable_result();
  result->set_step(report->step);
  result->set_train_loss(report->train_loss);
  result->set_gate_loss(report->gate_loss);
  result->set_report_loss(report->report_loss);
  result->set_weights_digest(report->weights_digest);
  {
    MutexLock lock(&mutex_);
    result->set_training_seconds(beat_.busy_seconds());
  }
  v1::AgentMessage figures;  // of the last steps: the job may be over before the next heartbeat
  *figures.mutable_heartbeat() = MakeHeartbeat();
  Send(std::move(figures));
  SendStanding("ended", std::move(message));
  LogInfo("training-done", {{"job", assign.job()},
                            {"epoch", assign.epoch()},
                            {"step", report->step},
                            {"weights_digest", Hex64(report->weights_digest)}});
}

}  // namespace leap
