#include "coordinator/machine/registry.h"

namespace leap::machine {

Agent* AgentRegistry::Find(absl::string_view name) {
  const auto found = agents_.find(name);
  return found == agents_.end() ? nullptr : &found->second;
}

const Agent* AgentRegistry::Find(absl::string_view name) const {
  return const_cast<AgentRegistry*>(this)->Find(name);
}

Agent* AgentRegistry::Find(absl::string_view name, uint64_t incarnation) {
  Agent* const agent = Find(name);
  return agent != nullptr && agent->incarnation == incarnation ? agent : nullptr;
}

const Agent* AgentRegistry::Find(absl::string_view name, uint64_t incarnation) const {
  return const_cast<AgentRegistry*>(this)->Find(name, incarnation);
}

std::vector<Agent*> AgentRegistry::Idle(Role role, absl::Time now, absl::Duration lease,
                                        bool with_store) {
  std::vector<Agent*> idle;
  for (auto& [name, agent] : agents_) {
    if (agent.role != role || agent.use != Use::kIdle || agent.left) continue;
    if (!agent.Connected() || !agent.Fresh(now, lease) || !agent.quarantine.empty()) continue;
    if (with_store && agent.store_address.empty()) continue;
    idle.push_back(&agent);
  }
  return idle;
}

void AgentRegistry::Forget(absl::Time horizon) {
  std::erase_if(agents_, [&](const auto& entry) {
    const Agent& agent = entry.second;
    return !agent.Connected() && agent.use != Use::kAssigned && agent.heartbeat < horizon;
  });
}

void AgentRegistry::StoodStill(absl::Duration gap) {
  for (auto& [name, agent] : agents_) {
    agent.heartbeat += gap;
    agent.closed += gap;
  }
}

std::vector<AgentView> AgentRegistry::Views(absl::Time now, absl::Duration lease) const {
  std::vector<AgentView> views;
  views.reserve(agents_.size());
  for (const auto& [name, agent] : agents_) {
    const bool here = agent.Connected() && agent.Fresh(now, lease);
    views.push_back({.agent = name,
                     .incarnation = agent.incarnation,
                     .role = agent.role,
                     .state = !agent.quarantine.empty()      ? "quarantined"
                              : !here                        ? "lost"
                              : agent.use == Use::kAssigned  ? "assigned"
                              : agent.use == Use::kReleasing ? "releasing"
                                                             : "idle",
                     .reason = agent.quarantine,
                     .job = agent.job,
                     .data_address = agent.data_address,
                     .version = agent.version,
                     .heartbeat_time = agent.heartbeat});
  }
  return views;
}

}  // namespace leap::machine
