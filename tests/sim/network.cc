// Sessions: one ordered stream each way, with delay, that breaks; what was on its way is then lost,
// or comes late.
#include <algorithm>

#include "tests/sim/world.h"

namespace leap::sim {

using machine::AgentSaid;
using machine::SessionClosed;

Micros World::DelayOf(const Agent& agent) {
  Micros delay = random_.In(200, 3 * kMillisecond);
  if (agent.slow_until > timeline_.now())
    delay += random_.In(20 * kMillisecond, 300 * kMillisecond);
  if (agent.partitioned_until > timeline_.now()) delay += agent.partitioned_until - timeline_.now();
  return delay;
}

void World::Connect(Agent& agent) {
  if (agent.process == nullptr || agent.session != 0) return;
  const bool reachable = cluster_ != nullptr && agent.partitioned_until <= timeline_.now();
  if (!reachable) {
    agent.process->Later(random_.In(50, 250) * kMillisecond,
                         [this](Process& process) { Connect(process.agent()); });
    return;
  }
  const uint64_t id = next_session_++;
  sessions_[id] = {.id = id, .agent = agent.name, .incarnation = agent.process->incarnation()};
  agent.session = id;
  agent.greeted = -1;
  agent.process->OnConnected();
}

void World::SendUp(Agent& agent, machine::AgentMessage message) {
  const auto found = sessions_.find(agent.session);
  if (found == sessions_.end() || !found->second.agent_open) return;
  Session& session = found->second;
  AgentSaid said{.agent = session.agent,
                 .incarnation = session.incarnation,
                 .session = session.id,
                 .message = std::move(message)};
  const bool twice =
      (options_.faults & kDuplicate) && timeline_.now() < faults_end_ && random_.Percent(3);
  session.last_up = std::max(session.last_up + 1, timeline_.now() + DelayOf(agent));
  if (twice) DeliverUp(session.id, said, session.last_up, false);
  if (twice) session.last_up += random_.In(1, 20 * kMillisecond);
  DeliverUp(session.id, std::move(said), session.last_up, false);
}

void World::DeliverUp(uint64_t id, machine::Event event, Micros when, bool late) {
  timeline_.At(when, [this, id, late, event = std::move(event)]() mutable {
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return;  // of a coordinator that is gone
    if (!found->second.coordinator_open && !late) {
      // It was on its way when the stream broke: as a rule lost, sometimes delivered after all.
      if (random_.Percent(70)) return;
    }
    Handle(std::move(event));
  });
}

void World::SendDown(const machine::Send& send) {
  const auto found = sessions_.find(send.session);
  if (found == sessions_.end() || !found->second.coordinator_open) return;
  Session& session = found->second;
  const int times =
      (options_.faults & kDuplicate) && timeline_.now() < faults_end_ && random_.Percent(3) ? 2 : 1;
  for (int i = 0; i < times; ++i) {
    session.last_down =
        std::max(session.last_down + 1, timeline_.now() + DelayOf(AgentNamed(send.agent)));
    timeline_.At(session.last_down, [this, id = session.id, message = send.message]() mutable {
      DeliverDown(id, std::move(message));
    });
  }
}

void World::DeliverDown(uint64_t id, machine::CoordinatorMessage message) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end() || !found->second.agent_open) return;
  Process* const process = FindProcess(found->second.agent, found->second.incarnation);
  if (process == nullptr) return;
  if (process->stopped_until > timeline_.now()) {  // read when it goes on, in order
    timeline_.At(process->stopped_until, [this, id, message = std::move(message)]() mutable {
      DeliverDown(id, std::move(message));
    });
    return;
  }
  process->On(message);
}

void World::CoordinatorSeesClose(uint64_t id, Micros delay) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  found->second.coordinator_open = false;
  SessionClosed closed{
      .agent = found->second.agent, .incarnation = found->second.incarnation, .session = id};
  timeline_.After(delay, [this, id, closed] {
    if (sessions_.contains(id)) Handle(closed);
  });
}

void World::AgentSeesClose(uint64_t id, Micros delay) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end() || !found->second.agent_open) return;
  found->second.agent_open = false;
  const std::string name = found->second.agent;
  const uint64_t incarnation = found->second.incarnation;
  timeline_.After(delay, [this, id, name, incarnation] {
    Process* const process = FindProcess(name, incarnation);
    if (process == nullptr || process->agent().session != id) return;
    process->agent().session = 0;
    process->Later(0, [](Process& gone) { gone.OnDisconnected(); });
  });
}

void World::BreakSession(Agent& agent) {
  const uint64_t id = agent.session;
  const Micros silence = std::max<Micros>(agent.partitioned_until - timeline_.now(), 0);
  CoordinatorSeesClose(id, silence + random_.In(1, 5) * kMillisecond);
  AgentSeesClose(id, random_.In(1, 5) * kMillisecond);
}

void World::CloseByCoordinator(uint64_t id) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  found->second.coordinator_open = false;
  AgentSeesClose(id, DelayOf(AgentNamed(found->second.agent)));
}

}  // namespace leap::sim
