#include "worker/agent.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "core/schedule.h"

namespace leap {
namespace {

constexpr size_t kOutcomesKept = 16;
constexpr absl::Duration kIdle = absl::Milliseconds(500);

std::string CauseOf(const absl::Status& status) {
  if (absl::IsOutOfRange(status)) return "nan-loss";
  if (absl::IsNotFound(status) || absl::IsInvalidArgument(status)) return "data";
  return "internal";
}

}  // namespace

WorkerAgent::WorkerAgent(const WorkerOptions& options, RankHoldings* holdings, Metrics* metrics,
                         Clock* clock)
    : options_(options), holdings_(holdings), metrics_(metrics), clock_(clock) {
  thread_ = std::thread([this] { Train(); });
}

WorkerAgent::~WorkerAgent() { Stop("shutting down"); }

void WorkerAgent::Stop(const std::string& reason) {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    if (interrupt_ != nullptr) interrupt_->Raise(reason);
  }
  if (thread_.joinable()) thread_.join();
}

void WorkerAgent::Attach(AgentSession* session) {
  {
    MutexLock lock(&mutex_);
    session_ = session;
  }
  if (session->info().connected) OnConnected();
}

void WorkerAgent::Detach() {
  MutexLock lock(&mutex_);
  session_ = nullptr;
}

AgentSessionCallbacks WorkerAgent::Callbacks() {
  return {.hello = [this] { return MakeHello(); },
          .heartbeat = [this] { return std::optional<v1::Heartbeat>(MakeHeartbeat()); },
          .on_message = [this](const v1::CoordinatorMessage& message) { OnMessage(message); },
          .on_connected = [this](const v1::Welcome&) { OnConnected(); },
          .on_disconnected =
              [this](const absl::Status& status) {
                metrics_->Set(Metric::kCoordinatorConnected, {}, 0);
                metrics_->Count(Metric::kReconnectsTotal);
                LogWarning("coordinator-away",
                           {{"status", status}, {"effect", "training goes on, leaps pause"}});
              }};
}

// ---- session's threads ----

v1::Hello WorkerAgent::MakeHello() const {
  v1::Hello hello;
  hello.set_agent(options_.name);
  hello.set_incarnation(options_.incarnation);
  hello.set_role(v1::ROLE_WORKER);
  hello.set_data_address(options_.data_address);
  hello.set_store_address(options_.store_address);
  hello.set_version(options_.version);
  std::shared_ptr<Trainer> trainer;
  {
    MutexLock lock(&mutex_);
    if (!current_) return hello;
    hello.set_job(current_->job());
    hello.set_epoch(current_->epoch());
    trainer = trainer_;
  }
  if (trainer == nullptr) return hello;
  const TrainPosition position = trainer->position();
  hello.set_step(position.step);
  hello.set_leaps_applied(position.leaps_applied);
  hello.set_last_leap(position.last_leap);
  hello.set_held_leap(trainer->held_leap());
  return hello;
}

v1::Heartbeat WorkerAgent::MakeHeartbeat() const {
  MutexLock lock(&mutex_);
  v1::Heartbeat beat = beat_;
  beat.set_job(current_ ? current_->job() : "");
  beat.set_epoch(current_ ? current_->epoch() : 0);
  return beat;
}

void WorkerAgent::OnConnected() {
  LogInfo("coordinator-connected");
  metrics_->Set(Metric::kCoordinatorConnected, {}, 1);
  std::vector<v1::AgentMessage> again;
  {
    MutexLock lock(&mutex_);
    for (const auto& [key, message] : standing_) again.push_back(message);
    for (const auto& [leap, outcome] : outcomes_) {
      *again.emplace_back().mutable_leap_outcome() = outcome;
    }
  }
  for (v1::AgentMessage& message : again) Send(std::move(message));
}

void WorkerAgent::OnMessage(const v1::CoordinatorMessage& message) {
  switch (message.kind_case()) {
    case v1::CoordinatorMessage::kAssignWorker:
      return OnAssign(message.assign_worker());
    case v1::CoordinatorMessage::kAbortEpoch:
      return OnAbort(message.abort_epoch());
    case v1::CoordinatorMessage::kRelease:
      return OnRelease(message.release());
    case v1::CoordinatorMessage::kPrepare:
      return OnPrepare(message.prepare());
    case v1::CoordinatorMessage::kDecide:
      return OnDecide(message.decide());
    case v1::CoordinatorMessage::kRunControl:
      return OnRunControl(message.run_control());
    case v1::CoordinatorMessage::kStale:
      return LogWarning("stale", {{"job", message.stale().job()},
                                  {"epoch", message.stale().epoch()},
                                  {"what", message.stale().what()}});
    default:
      return;  // meant for verifiers
  }
}

void WorkerAgent::OnAssign(const v1::AssignWorker& assign) {
  std::optional<v1::AgentMessage> ready;
  {
    MutexLock lock(&mutex_);
    const bool same_job = current_ && current_->job() == assign.job();
    if (same_job && assign.epoch() < current_->epoch()) return;
    if (same_job && assign.epoch() == current_->epoch() && aborted_epoch_ < assign.epoch()) {
      const auto found = standing_.find("ready");
      if (found != standing_.end()) ready = found->second;
      if (!ready) return;  // being joined
    } else {
      if (!same_job) aborted_epoch_ = 0;
      wanted_ = current_ = assign;
      drop_wanted_ = false;
      standing_.erase("ready");
      standing_.erase("failed");
      standing_.erase("ended");
      if (interrupt_ != nullptr) interrupt_->Raise(absl::StrCat("epoch ", assign.epoch()));
    }
  }
  if (ready) Send(*std::move(ready));
}

void WorkerAgent::OnAbort(const v1::AbortEpoch& abort) {
  MutexLock lock(&mutex_);
  if (!current_ || current_->job() != abort.job() || current_->epoch() > abort.epoch()) return;
  aborted_epoch_ = std::max(aborted_epoch_, abort.epoch());
  wanted_.reset();
  standing_.erase("ready");
  standing_.erase("failed");
  if (interrupt_ != nullptr) interrupt_->Raise(abort.reason());
}

void WorkerAgent::OnRelease(const v1::Release& release) {
  MutexLock lock(&mutex_);
  if (!current_ || current_->job() != release.job()) return;
  LogInfo("released", {{"job", release.job()}, {"reason", release.reason()}});
  wanted_.reset();
  drop_wanted_ = true;
  standing_.clear();
  outcomes_.clear();
  if (interrupt_ != nullptr) interrupt_->Raise(release.reason());
}

void WorkerAgent::OnPrepare(const v1::Prepare& prepare) {
  PrepareRequest request{.leap = prepare.leap(),
                         .base_step = prepare.base_step(),
                         .predictor = prepare.predictor(),
                         .horizon_steps = prepare.horizon_steps(),
                         .scales = {prepare.scales().begin(), prepare.scales().end()}};
  std::shared_ptr<Trainer> trainer;
  {
    MutexLock lock(&mutex_);
    if (!current_ || current_->job() != prepare.job() || current_->epoch() != prepare.epoch()) {
      return;
    }
    trainer = trainer_;
  }
  if (trainer != nullptr) return trainer->Prepare(std::move(request));
  ReportVote(request, absl::UnavailableError("this rank has not joined the epoch yet"));
}

void WorkerAgent::OnDecide(const v1::Decide& decide) {
  std::shared_ptr<Trainer> trainer;
  std::optional<v1::LeapOutcome> known;
  {
    MutexLock lock(&mutex_);
    if (!current_ || current_->job() != decide.job()) return;
    trainer = trainer_;
    const auto found = outcomes_.find(decide.leap());
    if (found != outcomes_.end()) known = found->second;
  }
  if (known) {
    v1::AgentMessage message;
    *message.mutable_leap_outcome() = *std::move(known);
    Send(std::move(message));
    return;
  }
  const bool staged = trainer != nullptr && trainer->Decide(decide.leap(), decide.commit());
  if (staged || !decide.commit() || trainer == nullptr) return;
  const TrainPosition position = trainer->position();
  if (position.last_leap == decide.leap()) return;  // applied just now; its report is on the way
  ReportLeap({.leap = decide.leap(), .boundary_step = position.step, .step = position.step});
}

void WorkerAgent::OnRunControl(const v1::RunControl& control) {
  MutexLock lock(&mutex_);
  if (!current_ || current_->job() != control.job()) return;
  if (control.command() == v1::RunControl::PAUSE) paused_ = true;
  if (control.command() == v1::RunControl::RESUME) paused_ = false;
  if (trainer_ == nullptr) return;
  trainer_->SetPaused(paused_);
  if (control.command() == v1::RunControl::CHECKPOINT) trainer_->RequestCheckpoint();
}

bool WorkerAgent::Send(v1::AgentMessage message) {
  MutexLock lock(&mutex_);
  return session_ != nullptr && session_->Send(std::move(message));
}

void WorkerAgent::SendStanding(const std::string& key, v1::AgentMessage message) {
  {
    MutexLock lock(&mutex_);
    standing_[key] = message;
  }
  Send(std::move(message));
}

// ---- training thread ----

void WorkerAgent::Train() {
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

void WorkerAgent::DropJob() {
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

absl::Status WorkerAgent::EnsureTrainer(const v1::AssignWorker& assign) {
  LEAP_ASSIGN_OR_RETURN(JobSpec spec, ParseJobSpec(assign.spec_yaml()));
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

TrainerCallbacks WorkerAgent::MakeCallbacks() {
  return {
      .on_snapshot = [this](const RingSnapshot& snapshot,
                            FlatRange shard) { ReportSnapshot(snapshot, shard); },
      .on_vote = [this](const PrepareRequest& request,
                        const absl::StatusOr<uint64_t>& digest) { ReportVote(request, digest); },
      .on_leap = [this](const LeapReport& report) { ReportLeap(report); },
      .on_checkpoint =
          [this](int64_t step, const absl::StatusOr<std::string>& path, double seconds) {
            metrics_->Observe(Metric::kWorkerCheckpointSeconds, {}, seconds);
            if (!path.ok()) {
              LogError("checkpoint-failed", {{"step", step}, {"status", path.status()}});
              return;
            }
            LogInfo("checkpoint-written", {{"step", step}, {"path", *path}});
            v1::AgentMessage message;
            v1::CheckpointWritten* written = message.mutable_checkpoint_written();
            {
              MutexLock lock(&mutex_);
              if (!current_) return;
              written->set_job(current_->job());
              written->set_epoch(current_->epoch());
            }
            written->set_step(step);
            written->set_path(*path);
            written->set_seconds(seconds);
            SendStanding("checkpoint", std::move(message));
          }};
}

EpochOptions WorkerAgent::MakeEpoch(const v1::AssignWorker& assign, const JobSpec& spec) const {
  EpochOptions options;
  options.group = {.store_address = assign.store_address(),
                   .prefix = absl::StrCat(assign.job(), "/", assign.epoch()),
                   .rank = assign.rank(),
                   .world_size = assign.world_size(),
                   .bind_host = options_.bind_host,
                   .timeout = absl::Seconds(spec.timeouts.collective_seconds),
                   .join_timeout = absl::Seconds(spec.timeouts.epoch_formation_seconds)};
  options.epoch = assign.epoch();
  options.from_checkpoint = assign.from_checkpoint();
  options.checkpoint_path = assign.checkpoint_path();
  MutexLock lock(&mutex_);
  bool listed_live = true;
  for (const v1::Member& member : assign.members()) {
    if (member.rank() == assign.rank()) listed_live = member.state() == "live";
  }
  options.live = live_ && listed_live;
  return options;
}

void WorkerAgent::RunEpoch(const v1::AssignWorker& assign, std::shared_ptr<Interrupt> interrupt) {
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
  holdings_->SetRing("", 0, nullptr);
  trainer->Leave();
  ReportEnd(assign, status);
}

void WorkerAgent::ReportReady(const v1::AssignWorker& assign, const JoinReport& report,
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
  std::shared_ptr<Trainer> trainer;
  {
    MutexLock lock(&mutex_);
    live_ = true;
    trainer = trainer_;
  }
  metrics_->Set(Metric::kWorkerEpoch, {}, static_cast<double>(assign.epoch()));
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

absl::Status WorkerAgent::TrainSteps(const v1::AssignWorker& assign) {
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

void WorkerAgent::FinishJob(const v1::AssignWorker& assign) {
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
  SendStanding("ended", std::move(message));
  LogInfo("training-done", {{"job", assign.job()}, {"step", report->step}});
}

// Aborted: somebody wanted it. Unavailable: the group broke. The rest ends the job, or is for its
// failure rules.
void WorkerAgent::ReportEnd(const v1::AssignWorker& assign, const absl::Status& status) {
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

// ---- callbacks of the trainer ----

template <class Message>
bool WorkerAgent::Label(Message* message) const {
  MutexLock lock(&mutex_);
  const auto& epoch = running_ ? running_ : current_;
  if (!epoch) return false;
  message->set_job(epoch->job());
  message->set_epoch(epoch->epoch());
  message->set_rank(epoch->rank());
  return true;
}

void WorkerAgent::ReportSnapshot(const RingSnapshot& snapshot, FlatRange shard) {
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
  taken->set_applied_leap(snapshot.applied_leap);
  taken->set_has_moments(!snapshot.exp_avg.empty());
  taken->set_snapshot_seconds(snapshot.copy_seconds);
  Send(std::move(message));
}

void WorkerAgent::ReportVote(const PrepareRequest& request,
                             const absl::StatusOr<uint64_t>& digest) {
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

void WorkerAgent::ReportLeap(const LeapReport& report) {
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
          {{"leap", report.leap},
           {"boundary_step", report.boundary_step},
           {"pause_seconds", report.pause_seconds}});
  Send(std::move(message));
}

}  // namespace leap
