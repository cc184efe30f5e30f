// What workers and verifiers have in common: sessions, heartbeats, being given a job and losing it.
#include "tests/sim/process.h"

#include <algorithm>
#include <variant>

#include "tests/sim/world.h"

namespace leap::sim {

namespace wire = machine;

void Process::Later(Micros delay, std::function<void(Process&)> action) {
  World& world = world_;
  const std::string name = agent_.name;
  const uint64_t incarnation = incarnation_;
  world.timeline().After(delay, [&world, name, incarnation, action = std::move(action)]() mutable {
    Process* const process = world.FindProcess(name, incarnation);
    if (process == nullptr) return;
    const Micros stopped = process->stopped_until - world.timeline().now();
    if (stopped > 0) return process->Later(stopped, std::move(action));
    action(*process);
  });
}

void Process::Send(wire::AgentMessage message) { world_.SendUp(agent_, std::move(message)); }

void Process::Start() {
  world_.Connect(agent_);
  const auto beat = [](auto&& self, Process& process) -> void {
    process.Heartbeat();
    process.Later(250 * kMillisecond, [self](Process& next) { self(self, next); });
  };
  Later(world_.random().In(1, 250) * kMillisecond,
        [beat](Process& process) { beat(beat, process); });
}

void Process::Heartbeat() {
  const bool news = rank_ == 0 && state && state->step != reported_step_;
  if (news) reported_loss_ = world_.ReportLoss(job_);
  if (news) reported_step_ = state->step;
  if (rank_ == 0 && reported_loss_ > 3) world_.SpikeSaid(job_, epoch_);
  Send(wire::Heartbeat{.job = job_,
                       .epoch = epoch_,
                       .step = state ? state->step : 0,
                       .trained_steps = state ? state->position : 0,
                       .train_loss = reported_loss_,
                       .busy_seconds = static_cast<double>(world_.timeline().now()) * 1e-6});
}

void Process::OnConnected() {
  Send(wire::Hello{.agent = agent_.name,
                   .incarnation = incarnation_,
                   .role = agent_.role,
                   .data_address = agent_.name + ":data",
                   .store_address = agent_.role == wire::Role::kWorker || agent_.can_stand_in
                                        ? agent_.name + ":store"
                                        : "",
                   .job = job_,
                   .epoch = epoch_,
                   .step = state ? state->step : 0,
                   .leaps_applied = state ? static_cast<int64_t>(state->leaps.size()) : 0,
                   .last_leap = state ? state->last_leap() : 0,
                   .held_leap = held_leap});
  // What may have been lost and still stands (coordinator/machine/message.h, rule 2).
  if (mode == Mode::kAborted || mode == Mode::kStopped) {
    world_.oracle().OnCollectiveFailed(job_, epoch_);
  }
  if (mode == Mode::kAborted)
    Send(wire::CollectiveFailed{.job = job_, .epoch = epoch_, .message = "aborted"});
  if (mode == Mode::kStopped && failed_) Send(*failed_);
  if (job_ended_) Send(*job_ended_);
  if (checkpoint_ && mode == Mode::kTraining) Send(*checkpoint_);
  if (result_) Send(*result_);
}

void Process::OnDisconnected() {
  Later(world_.random().In(20, 250) * kMillisecond, [this](Process&) { world_.Connect(agent_); });
}

void Process::On(const wire::CoordinatorMessage& message) {
  std::visit([this](const auto& kind) { On(kind); }, message);
}

void Process::On(const wire::AssignVerifier& message) {
  if (mode != Mode::kVerifying || job_ != message.job) LeaveJob();
  mode = Mode::kVerifying;
  job_ = message.job;
  epoch_ = std::max(epoch_, message.epoch);
}

void Process::On(const wire::AbortEpoch& message) {
  const bool mine = job_ == message.job && message.epoch >= epoch_;
  if (!mine || (mode != Mode::kJoining && mode != Mode::kTraining && mode != Mode::kStopped))
    return;
  LeaveEpoch();
  mode = Mode::kAborted;
}

void Process::On(const wire::Release& message) {
  if (job_ != message.job) return;
  LeaveJob();
  Heartbeat();
}

void Process::LeaveJob() {
  LeaveEpoch();
  mode = Mode::kIdle;
  job_.clear();
  epoch_ = 0;
  rank_ = -1;
  state.reset();
  ring.clear();
  corrupt = reports_nan = paused = false;
  formed_epoch = 0;
  ready_.reset();
  kept_.clear();
  outcomes_.clear();  // of leaps of that job
  checkpoint_.reset();
  task_.reset();
  result_.reset();
}

}  // namespace leap::sim
