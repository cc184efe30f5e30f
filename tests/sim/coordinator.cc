// The runner of the real machine (action.h has its duties), and its death at the worst moments.
#include <algorithm>
#include <utility>

#include "tests/sim/world.h"

namespace leap::sim {

using machine::Actions;
using machine::Persisted;

void World::StartCoordinator() {
  if (cluster_ != nullptr) return;
  ++coordinator_start_;
  crash_at_write_ = 0;
  machine::ClusterOptions options{
      .incarnation = coordinator_start_,
      .seed = options_.seed,
      .heartbeat_seconds = 0.25,
      .lease_seconds = 1,
      .reconnect_grace = absl::Milliseconds(300),
      .grow_after = absl::Milliseconds(700),
      .formation_retry_min = absl::Milliseconds(50),
      .formation_retry_max = absl::Seconds(1),
      .persist_retry = absl::Milliseconds(300),
      .wind_down = absl::Seconds(2),
      .task_deadline = absl::Milliseconds(Mix(options_.seed, 77) % 2 ? 500 : 3000),
      .audit_deadline = absl::Seconds(5),
      .spike = {.window = 8, .fewest = 4, .in_row = kSpikeReports},
      .mutation = options_.mutation};
  cluster_ = std::make_unique<machine::Cluster>(options);
  Trace("coordinator: start %d", static_cast<int>(coordinator_start_));
  Handle(machine::Restored{disk_.Load()});
  const auto tick = [this, start = coordinator_start_](auto&& self) -> void {
    if (cluster_ == nullptr || coordinator_start_ != start) return;
    Handle(machine::Tick{});
    timeline_.After(100 * kMillisecond, [self] { self(self); });
  };
  timeline_.After(random_.In(1, 100) * kMillisecond, [tick] { tick(tick); });
}

void World::CrashCoordinator() {
  if (cluster_ == nullptr) return;
  Trace("coordinator: crash");
  cluster_.reset();
  ++result_.restarts;
  for (Agent& agent : agents_) {
    const auto found = sessions_.find(agent.session);
    if (found == sessions_.end()) continue;
    const Micros silence = std::max<Micros>(agent.partitioned_until - timeline_.now(), 0);
    AgentSeesClose(agent.session, silence + random_.In(1, 10) * kMillisecond);
  }
  sessions_.clear();
  asked_.clear();
  timeline_.After(random_.In(20, 1800) * kMillisecond, [this] { StartCoordinator(); });
}

void World::Handle(machine::Event event) {
  if (cluster_ == nullptr || !oracle_.violation().empty()) return;
  ++result_.events;
  Perform(cluster_->Step(event, timeline_.time()));
}

void World::Perform(Actions actions) {
  bool written = true;
  if (actions.ticket != 0) {
    if (crash_at_write_ == 1) return CrashCoordinator();
    written = !disk_.failing;
    if (written) {
      disk_.Write(actions.records);
      oracle_.OnDurable(actions.records);
    }
    if (crash_at_write_ == 2) return CrashCoordinator();
  }
  for (const machine::LogLine& line : actions.log) {
    Trace("  %s %s e%d s%d: %s", line.job.c_str(), line.event.c_str(), static_cast<int>(line.epoch),
          static_cast<int>(line.step), line.sentence.c_str());
  }
  static constexpr const char* kKinds[] = {
      "Welcome", "AssignWorker", "AssignVerifier", "AbortEpoch", "Release", "RunControl",
      "Task",    "CancelTask",   "Prepare",        "Decide",     "Stale"};
  for (const machine::Send& send : actions.sends) {
    Trace("    -> %s: %s", send.agent.c_str(), kKinds[send.message.index()]);
    oracle_.OnSend(send);
    SendDown(send);
  }
  for (const machine::CloseSession& close : actions.closes) CloseByCoordinator(close.session);
  for (const machine::Reply& reply : actions.replies) CheckReply(reply);
  if (actions.ticket == 0) return;
  if (crash_at_write_ == 3) return CrashCoordinator();
  Handle(Persisted{.ticket = actions.ticket, .ok = written, .error = written ? "" : "disk full"});
}

void World::CancelAtApply(const std::string& job) {
  JobPlan& plan = *std::ranges::find(jobs_, job, &JobPlan::job);
  if (!std::exchange(plan.cancel_at_apply, false)) return;
  timeline_.After(random_.In(0, 2 * kMillisecond),
                  [this, job] { Handle(machine::CancelJob{.job = job, .reason = "enough"}); });
}

void World::CheckReply(const machine::Reply& reply) {
  oracle_.OnReply(reply);
  const auto asked = asked_.find(reply.correlation);
  if (asked == asked_.end()) return;
  if (reply.status.ok()) jobs_[asked->second].created = true;
  asked_.erase(asked);
}

}  // namespace leap::sim
