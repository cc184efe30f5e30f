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
  stop_at_write_ = stopped_until_ = 0;
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
    Tick();
    timeline_.After(100 * kMillisecond, [self] { self(self); });
  };
  timeline_.After(random_.In(1, 100) * kMillisecond, [tick] { tick(tick); });
}

void World::CrashCoordinator() {
  if (cluster_ == nullptr) return;
  Trace("coordinator: crash");
  cluster_.reset();
  backlog_.clear();
  interrupted_.reset();
  ++result_.restarts;
  for (Agent& agent : agents_) {
    const auto found = sessions_.find(agent.session);
    if (found == sessions_.end()) continue;
    const Micros silence = std::max<Micros>(agent.partitioned_until - timeline_.now(), 0);
    AgentSeesClose(agent.session, silence + random_.In(1, 10) * kMillisecond);
  }
  sessions_.clear();
  asked_.clear();
  asked_again_.clear();
  timeline_.After(random_.In(20, 1800) * kMillisecond, [this] { StartCoordinator(); });
}

bool World::CoordinatorListens() const {
  return cluster_ != nullptr && timeline_.now() >= stopped_until_ && backlog_.empty();
}

Micros World::Listened(Micros begin, Micros end) const {
  Micros listened = end - begin;
  for (const auto& [from, until] : stops_) {
    listened -= std::max<Micros>(std::min(until, end) - std::max(from, begin), 0);
  }
  return listened;
}

void World::Handle(machine::Event event) {
  if (cluster_ == nullptr) return;
  if (!CoordinatorListens()) return backlog_.push_back(std::move(event));
  Step(event);
}

void World::Step(const machine::Event& event) {
  if (cluster_ == nullptr || !oracle_.violation().empty()) return;
  ++result_.events;
  const auto* const said = std::get_if<machine::AgentSaid>(&event);
  if (said != nullptr && std::holds_alternative<machine::Hello>(said->message)) {
    Agent& agent = AgentNamed(said->agent);
    if (agent.session == said->session) agent.greeted = timeline_.now();
  }
  Perform(cluster_->Step(event, timeline_.time()));
}

void World::Tick() {
  if (timeline_.now() >= stopped_until_) Step(machine::Tick{});
}

void World::StopCoordinator(Micros length) {
  if (cluster_ == nullptr) return;
  Trace("coordinator: stands still for %d ms", static_cast<int>(length / kMillisecond));
  const Micros begin = std::max(stopped_until_, timeline_.now());
  stopped_until_ = std::max(begin, timeline_.now() + length);
  stops_.emplace_back(begin, stopped_until_);
  timeline_.After(length, [this] { ResumeCoordinator(); });
}

// As Runner::Loop does it: what it was about to do, one event, then the tick that is long due.
void World::ResumeCoordinator() {
  if (timeline_.now() < stopped_until_) return;
  if (auto rest = std::exchange(interrupted_, std::nullopt); rest.has_value()) {
    PerformRest(rest->first, rest->second);
  }
  HearBacklog();
  Tick();
}

void World::HearBacklog() {
  if (backlog_.empty() || timeline_.now() < stopped_until_) return;
  const machine::Event event = std::move(backlog_.front());
  backlog_.pop_front();
  Step(event);
  timeline_.After(random_.In(0, kMillisecond), [this] { HearBacklog(); });
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
    if (const Micros length = std::exchange(stop_at_write_, 0); length > 0) {
      interrupted_ = {std::move(actions), written};
      return StopCoordinator(length);
    }
  }
  PerformRest(actions, written);
}

void World::PerformRest(const Actions& actions, bool written) {
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
  Step(Persisted{.ticket = actions.ticket, .ok = written, .error = written ? "" : "disk full"});
}

void World::CancelAtApply(const std::string& job) {
  JobPlan& plan = *std::ranges::find(jobs_, job, &JobPlan::job);
  if (!std::exchange(plan.cancel_at_apply, false)) return;
  timeline_.After(random_.In(0, 2 * kMillisecond),
                  [this, job] { Handle(machine::CancelJob{.job = job, .reason = "enough"}); });
}

void World::SubmitAgain(int job) {
  machine::CreateJob request = jobs_[job].request;
  request.correlation = next_correlation_++;
  request.job += "-again" + std::to_string(++again_);  // the skin makes a fresh one for each call
  asked_again_[request.correlation] = job;
  Handle(std::move(request));
}

void World::CheckReply(const machine::Reply& reply) {
  oracle_.OnReply(reply);
  if (const auto again = asked_again_.find(reply.correlation); again != asked_again_.end()) {
    const std::string& job = jobs_[again->second].job;
    if (!reply.status.ok() || reply.job != job) {
      oracle_.Violate("%s was submitted twice with one request id, and the answer is %s",
                      job.c_str(), reply.job.c_str());
    }
    asked_again_.erase(again);
  }
  const auto asked = asked_.find(reply.correlation);
  if (asked == asked_.end()) return;
  if (reply.status.ok()) jobs_[asked->second].created = true;
  asked_.erase(asked);
}

}  // namespace leap::sim
