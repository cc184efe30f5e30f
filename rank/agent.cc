#include "rank/agent.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace leap {

RankAgent::RankAgent(const RankOptions& options, RankHoldings* holdings, Metrics* metrics,
                     Clock* clock)
    : options_(options), holdings_(holdings), metrics_(metrics), clock_(clock) {
  thread_ = std::thread([this] { Train(); });
}

RankAgent::~RankAgent() { Stop("shutting down"); }

void RankAgent::Stop(const std::string& reason) {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    if (interrupt_ != nullptr) interrupt_->Raise(reason);
  }
  if (thread_.joinable()) thread_.join();
}

void RankAgent::Attach(AgentSession* session) {
  {
    MutexLock lock(&mutex_);
    session_ = session;
  }
  if (session->info().connected) OnConnected();
}

void RankAgent::Detach() {
  MutexLock lock(&mutex_);
  session_ = nullptr;
}

bool RankAgent::idle() const {
  MutexLock lock(&mutex_);
  return !current_.has_value();
}

AgentSessionCallbacks RankAgent::Callbacks() {
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

v1::Hello RankAgent::MakeHello() const {
  v1::Hello hello;
  hello.set_agent(options_.name);
  hello.set_incarnation(options_.incarnation);
  hello.set_role(options_.role);
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

v1::Heartbeat RankAgent::MakeHeartbeat() const {
  MutexLock lock(&mutex_);
  v1::Heartbeat beat = beat_;
  beat.set_job(current_ ? current_->job() : "");
  beat.set_epoch(current_ ? current_->epoch() : 0);
  return beat;
}

void RankAgent::OnConnected() {
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

void RankAgent::OnMessage(const v1::CoordinatorMessage& message) {
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

void RankAgent::OnAssign(const v1::AssignWorker& assign) {
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
      if (!same_job) aborted_epoch_ = left_epoch_ = 0;
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

void RankAgent::OnAbort(const v1::AbortEpoch& abort) {
  MutexLock lock(&mutex_);
  if (!current_ || current_->job() != abort.job() || current_->epoch() > abort.epoch()) return;
  aborted_epoch_ = std::max(aborted_epoch_, abort.epoch());
  wanted_.reset();
  standing_.erase("ready");
  standing_.erase("failed");
  if (interrupt_ != nullptr) interrupt_->Raise(abort.reason());
}

void RankAgent::OnRelease(const v1::Release& release) {
  MutexLock lock(&mutex_);
  if (!current_ || current_->job() != release.job()) return;
  LogInfo("released", {{"job", release.job()}, {"reason", release.reason()}});
  wanted_.reset();
  drop_wanted_ = true;
  standing_.clear();
  outcomes_.clear();
  if (interrupt_ != nullptr) interrupt_->Raise(release.reason());
}

void RankAgent::OnPrepare(const v1::Prepare& prepare) {
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

void RankAgent::OnDecide(const v1::Decide& decide) {
  std::shared_ptr<Trainer> trainer;
  std::optional<v1::LeapOutcome> known;
  {
    MutexLock lock(&mutex_);
    if (!current_ || current_->job() != decide.job()) return;
    // Whoever has left the epoch cannot know what became of the leap in it: others may have come as
    // far as the boundary. The state that the next epoch begins with says so.
    const bool left = decide.epoch() <= std::max(aborted_epoch_, left_epoch_);
    if (left || decide.epoch() != current_->epoch()) return;
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

void RankAgent::OnRunControl(const v1::RunControl& control) {
  MutexLock lock(&mutex_);
  if (!current_ || current_->job() != control.job()) return;
  if (control.command() == v1::RunControl::PAUSE) paused_ = true;
  if (control.command() == v1::RunControl::RESUME) paused_ = false;
  if (trainer_ == nullptr) return;
  trainer_->SetPaused(paused_);
  if (control.command() == v1::RunControl::CHECKPOINT) trainer_->RequestCheckpoint();
}

}  // namespace leap
