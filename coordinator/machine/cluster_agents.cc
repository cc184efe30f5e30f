// Agents of the cluster: who is let in, who is believed, who is free.
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "coordinator/machine/cluster.h"

namespace leap::machine {
namespace {

// The job a message is about; null for kinds that are not about one.
const std::string* JobOf(const AgentMessage& message) {
  return std::visit(
      [](const auto& kind) -> const std::string* {
        if constexpr (requires { kind.job; }) return &kind.job;
        return nullptr;
      },
      message);
}

const char* KindName(const AgentMessage& message) {
  static constexpr const char* kNames[] = {
      "hello",       "heartbeat",       "epoch-ready",  "collective-failed",  "snapshot-taken",
      "task-result", "prepare-vote",    "leap-outcome", "checkpoint-written", "job-ended",
      "goodbye",     "training-started"};
  static_assert(std::size(kNames) == std::variant_size_v<AgentMessage>);
  return kNames[message.index()];
}

}  // namespace

absl::Duration Cluster::LeaseOf(const Agent& agent) const {
  const JobMachine* const job = agent.use == Use::kAssigned ? Machine(agent.job) : nullptr;
  return absl::Seconds(job == nullptr ? options_.lease_seconds
                                      : job->record().spec.timeouts.lease_seconds);
}

void Cluster::On(const AgentSaid& said, Batch& batch) {
  if (const auto* const hello = std::get_if<Hello>(&said.message))
    return OnHello(said, *hello, batch);
  Agent* const agent = agents_.Find(said.agent);
  const bool known =
      agent != nullptr && agent->incarnation == said.incarnation && agent->session == said.session;
  if (!known) {
    // An older session or process: it has been told to end, and whatever stands was said again on
    // the newer one.
    return batch.Count(Metric::kRefused, {KindName(said.message)});
  }
  agent->heartbeat = batch.now();
  if (const auto* const heartbeat = std::get_if<Heartbeat>(&said.message)) {
    return OnHeartbeat(*agent, *heartbeat, batch);
  }
  if (const auto* const goodbye = std::get_if<Goodbye>(&said.message)) {
    return OnGoodbye(*agent, *goodbye, batch);
  }
  const std::string& name = *JobOf(said.message);
  JobMachine* const job = Find(name);
  const bool has_it =
      job != nullptr && !job->ended() && agent->use == Use::kAssigned && agent->job == name;
  if (!has_it) {
    batch.SendStale(*agent, name, job == nullptr ? 0 : job->group().epoch(),
                    KindName(said.message));
    return;
  }
  job->OnMessage(*agent, said.message, batch);
}

void Cluster::On(const SessionClosed& closed, Batch& batch) {
  Agent* const agent = agents_.Find(closed.agent, closed.incarnation);
  if (agent == nullptr || agent->session != closed.session) return;
  agent->session = 0;
  agent->closed = batch.now();
  agent->closed_early = agent->Fresh(batch.now(), LeaseOf(*agent));
  JobMachine* const job = agent->use == Use::kAssigned ? Find(agent->job) : nullptr;
  if (job != nullptr) job->OnSessionClosed(*agent, batch);
}

// ---- Hello ----

// May this process have the name? Another live one may hold it, or somebody else: then the newcomer
// is turned away.
bool Cluster::AdmitHello(const AgentSaid& said, const Hello& hello, Batch& batch) {
  const Agent* const holder = agents_.Find(said.agent);
  if (holder == nullptr) {
    if (agents_.size() >= options_.max_agents) agents_.Forget(batch.now() - LeaseOf(Agent{}));
    if (agents_.size() < options_.max_agents) return true;
    batch.Close(said.session,
                MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kQuotaExceeded,
                          absl::StrCat("expected at most ", options_.max_agents,
                                       " agents; stop some, or start another coordinator")));
    return false;
  }
  const bool stranger = !holder->caller.empty() && holder->caller != hello.caller;
  if (stranger && (holder->Connected() || holder->use == Use::kAssigned)) {
    batch.Close(said.session,
                MakeError(absl::StatusCode::kPermissionDenied, ErrorReason::kPermissionDenied,
                          absl::StrCat("the name '", said.agent, "' is held by '", holder->caller,
                                       "', not by '", hello.caller, "'; choose another --name"),
                          {{"agent", said.agent}}));
    return false;
  }
  const bool other = holder->incarnation != hello.incarnation;
  if (!other || !holder->Connected() || holder->left ||
      !holder->Fresh(batch.now(), LeaseOf(*holder))) {
    return true;
  }
  batch.Close(said.session,
              MakeError(absl::StatusCode::kAlreadyExists, ErrorReason::kStaleIncarnation,
                        absl::StrCat("another live process holds the name '", said.agent,
                                     "'; stop it or choose another --name"),
                        {{"agent", said.agent}}));
  return false;
}

void Cluster::OnHello(const AgentSaid& said, const Hello& hello, Batch& batch) {
  if (!AdmitHello(said, hello, batch)) return;
  Agent& agent = agents_.Entry(said.agent);
  if (agent.session != 0 && agent.session != said.session) {
    batch.Close(agent.session, absl::AbortedError("the agent opened a newer session"));
  }
  if (agent.incarnation != said.incarnation) {
    JobMachine* const job = agent.use == Use::kAssigned ? Find(agent.job) : nullptr;
    agent.session = 0;
    if (job != nullptr) job->OnAgentGone(agent, "its process was started again", batch);
    agent = Agent{.name = said.agent, .incarnation = said.incarnation};
  }
  agent.caller = hello.caller;
  agent.role = hello.role;
  agent.data_address = hello.data_address;
  agent.store_address = hello.store_address;
  agent.version = hello.version;
  agent.session = said.session;
  agent.heartbeat = batch.now();
  agent.closed_early = agent.left = false;
  batch.Send(agent,
             Welcome{options_.incarnation, options_.heartbeat_seconds, options_.lease_seconds});
  PlaceAgent(agent, hello, batch);
}

// The job whose main group this very process belongs to; null: none. (After a restart the registry
// may not know.)
JobMachine* Cluster::JobOfMember(const Agent& agent) {
  for (JobMachine* const job : order_) {
    if (!job->ended() && job->group().RankOf(agent.name, agent.incarnation) >= 0) return job;
  }
  return nullptr;
}

// What the agent holds and what it is needed for are compared; what stands is said again.
void Cluster::PlaceAgent(Agent& agent, const Hello& hello, Batch& batch) {
  JobMachine* job = JobOfMember(agent);
  if (job == nullptr && agent.use != Use::kReleasing) {
    job = Find(agent.use == Use::kAssigned ? agent.job : hello.job);
  }
  const bool stranger = job != nullptr && !hello.job.empty() && hello.job != job->record().job;
  if (job != nullptr && !stranger && job->OnHello(agent, hello, batch)) return;
  if (hello.job.empty()) {
    agent.use = Use::kIdle;
    agent.job.clear();
    return;
  }
  batch.Release(agent, hello.job, "this job does not need it (any more)");
}

void Cluster::OnHeartbeat(Agent& agent, const Heartbeat& heartbeat, Batch& batch) {
  constexpr absl::string_view kNotNeeded = "this job does not need it (any more)";
  JobMachine* const job = agent.use == Use::kAssigned ? Find(agent.job) : nullptr;
  const bool assigned = job != nullptr && !job->ended();
  if (assigned && heartbeat.job == agent.job) return job->OnMessage(agent, heartbeat, batch);
  if (assigned && !job->OnDropped(agent, batch)) {
    // Its assignment is on its way; whatever it has from before is not needed.
    if (!heartbeat.job.empty()) {
      batch.Send(agent, Release{.job = heartbeat.job, .reason = std::string(kNotNeeded)});
    }
    return;
  }
  if (!heartbeat.job.empty()) return batch.Release(agent, heartbeat.job, kNotNeeded);
  if (!assigned && agent.use != Use::kReleasing) return;
  agent.use = Use::kIdle;
  agent.job.clear();
}

void Cluster::OnGoodbye(Agent& agent, const Goodbye& goodbye, Batch& batch) {
  agent.left = true;
  batch.Log({.event = "goodbye",
             .job = agent.job,
             .sentence = absl::StrCat(agent.name, " leaves: ", goodbye.reason)});
  JobMachine* const job = agent.use == Use::kAssigned ? Find(agent.job) : nullptr;
  if (job != nullptr) job->OnAgentGone(agent, "said goodbye", batch);
}

}  // namespace leap::machine
