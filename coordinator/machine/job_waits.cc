// What a job waits for, since when, and what would resolve it: for every state in which it does not
// get on. Pure; the times that nobody else knows are those of the first tick that saw the wait.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/machine/job_machine.h"

namespace leap::machine {
namespace {

constexpr size_t kMostNames = 8;

std::string Join(std::vector<std::string> names) {
  const size_t more = names.size() > kMostNames ? names.size() - kMostNames : 0;
  names.resize(names.size() - more);
  if (more > 0) names.push_back(absl::StrCat("and ", more, " more"));
  return absl::StrJoin(names, ", ");
}

// "w0 is free, w1 works for b-2, w2 is in quarantine": everybody with this role but those who work
// for `job`.
std::string Whereabouts(const AgentRegistry& agents, Role role, absl::string_view job,
                        absl::Duration lease, absl::Time now) {
  std::vector<std::string> names;
  for (const auto& [name, agent] : agents.agents()) {
    const bool here = agent.Connected() && agent.Fresh(now, lease);
    const bool works =
        here && agent.quarantine.empty() && agent.use == Use::kAssigned && agent.job == job;
    if (agent.role != role || works) continue;
    names.push_back(!agent.quarantine.empty()     ? absl::StrCat(name, " is in quarantine")
                    : !here                       ? absl::StrCat(name, " is lost")
                    : agent.use == Use::kIdle     ? absl::StrCat(name, " is free")
                    : agent.use == Use::kAssigned ? absl::StrCat(name, " works for ", agent.job)
                                                  : absl::StrCat(name, " is leaving ", agent.job));
  }
  if (names.empty())
    return role == Role::kWorker ? "no other leap-worker is known"
                                 : "no other leap-verifier is known";
  return Join(std::move(names));
}

}  // namespace

void JobMachine::NoteWaits(Batch& batch) {
  if (ended()) return;
  const bool trains = core_.group.Formed() && !core_.record.paused;
  if (!trains || core_.group.step() != progressed_to_) progressed_ = batch.now();
  progressed_to_ = core_.group.step();
  std::map<std::string, absl::Time> since;
  for (const Wait& wait : Waits(nullptr, batch.options(), batch.now())) {
    since.emplace(wait.what, wait.since);
  }
  const bool same = std::ranges::equal(
      since, since_, [](const auto& a, const auto& b) { return a.first == b.first; });
  since_ = std::move(since);
  if (!same) batch.Changed(core_.id());
}

std::vector<Wait> JobMachine::Waits(const AgentRegistry* agents, const ClusterOptions& options,
                                    absl::Time now) const {
  std::vector<Wait> waits;
  if (ended()) return waits;
  if (ending_.has_value()) {
    waits.push_back(
        {.what = "ledger",
         .reason = absl::StrCat("the job's end (", ending_->reason, ") is not in the ledger yet"),
         .resolution = "mend the ledger's disk; it is tried again",
         .since = ending_->time,
         .until = ending_->retry});
  } else {
    AddGroupWaits(agents, options, now, waits);
    if (core_.group.Formed()) AddTrainingWaits(options, now, waits);
  }
  if (!core_.ledger_ok) {
    waits.push_back({.what = "ledger",
                     .reason = absl::StrCat("the ledger cannot be written: ", core_.ledger_error),
                     .resolution = "mend its disk; it is tried again all the time, training goes "
                                   "on, and nothing is decided meanwhile"});
  }
  const bool leaps = !ending_.has_value() && core_.group.Formed() && !core_.training_ended;
  if (leaps && !core_.record.paused) {
    if (leaps_->board().size() == 0) AddVerifierWait(agents, options, now, waits);
    leaps_->AddWaits(waits);
  }
  for (Wait& wait : waits) {
    if (wait.since != absl::InfinitePast()) continue;
    const auto known = since_.find(wait.what);
    wait.since = known == since_.end() ? now : known->second;
  }
  return waits;
}

// The queue, or what keeps an epoch from training.
void JobMachine::AddGroupWaits(const AgentRegistry* agents, const ClusterOptions& options,
                               absl::Time now, std::vector<Wait>& waits) const {
  const Group& group = core_.group;
  const absl::Duration lease = absl::Seconds(options.lease_seconds);
  if (group.Formed() && core_.record.paused) {
    waits.push_back({.what = "pause",
                     .reason = "paused by a person",
                     .resolution = absl::StrCat("leapctl resume ", core_.id()),
                     .since = core_.record.state_time});
  }
  if (group.phase() == Group::Phase::kForming) waits.push_back(ForRanks(agents, now));
  if (wait_.has_value()) {
    Wait wait = *wait_;
    if (queued()) wait.since = core_.record.state_time;
    if (!queued() && group.phase() == Group::Phase::kBroken) wait.since = group.broken();
    if (agents != nullptr && (wait.what == "workers" || wait.what == "verifiers")) {
      const Role role = wait.what == "workers" ? Role::kWorker : Role::kVerifier;
      absl::StrAppend(&wait.reason, " (", Whereabouts(*agents, role, core_.id(), lease, now), ")");
    }
    waits.push_back(std::move(wait));
  } else if (queued()) {
    waits.push_back({.what = "queue",
                     .reason = "the queue has not come to it yet",
                     .resolution = "it does so in a moment",
                     .since = core_.record.state_time});
  } else if (group.phase() == Group::Phase::kBroken) {
    const bool later = now < not_before_;
    waits.push_back({.what = "retry",
                     .reason = absl::StrCat("there is no group: ", group.reason),
                     .resolution = later ? "the next epoch is tried by itself, after a pause"
                                         : "the next epoch is made in a moment",
                     .since = group.broken(),
                     .until = later ? not_before_ : absl::InfiniteFuture()});
  } else if (group.phase() == Group::Phase::kProposed || group.phase() == Group::Phase::kNone) {
    waits.push_back({.what = "ledger",
                     .reason = absl::StrCat("epoch ", group.epoch(), " is being written down"),
                     .resolution = "it is durable"});
  }
  const bool starting = !queued() && core_.record.start_time == absl::InfinitePast();
  if (!starting || waits.empty() || start_deadline_ == absl::InfiniteFuture()) return;
  absl::StrAppend(&waits.front().resolution,
                  "; the job fails if it does not start within "
                  "timeouts.job_start_seconds");
  waits.front().until = std::min(waits.front().until, start_deadline_);
}

// An epoch is being formed: whose report is missing.
Wait JobMachine::ForRanks(const AgentRegistry* agents, absl::Time now) const {
  const Group& group = core_.group;
  std::vector<std::string> missing;
  for (int rank = 0; rank < group.world_size(); ++rank) {
    const GroupMember& member = group.members()[rank];
    if (member.ready.has_value()) continue;
    const Agent* const agent =
        agents == nullptr ? nullptr : agents->Find(member.agent, member.incarnation);
    const bool here = agent != nullptr && agent->Connected() && agent->Fresh(now, core_.lease());
    missing.push_back(
        absl::StrCat("rank ", rank, " (", member.agent, here ? "" : ", not connected", ")"));
  }
  const size_t ready = group.world_size() - missing.size();
  return {.what = "ranks",
          .reason =
              absl::StrCat("epoch ", group.epoch(), " is being formed: ", ready, " of ",
                           group.world_size(), " ranks are ready, not ", Join(std::move(missing))),
          .resolution =
              "they join and hold the job's state (their logs tell how far they are); "
              "else it is tried anew",
          .since = group.create_time,
          .until = group.deadline()};
}

// The epoch trains, or should.
void JobMachine::AddTrainingWaits(const ClusterOptions& options, absl::Time now,
                                  std::vector<Wait>& waits) const {
  const Group& group = core_.group;
  const JobSpec& spec = core_.spec();
  if (finished_ != absl::InfiniteFuture()) {
    const std::string left = leaps_->Unfinished();
    waits.push_back({.what = "wind-down",
                     .reason = absl::StrCat("training has ended; waits for ",
                                            left.empty() ? "nothing more" : left),
                     .resolution = "verifiers answer; it ends without them after a while",
                     .since = finished_,
                     .until = finished_ + options.wind_down});
    return;
  }
  std::vector<std::string> training;
  for (int rank = 0; rank < group.world_size(); ++rank) {
    const GroupMember& member = group.members()[rank];
    if (!member.ended) training.push_back(absl::StrCat("rank ", rank, " (", member.agent, ")"));
  }
  if (static_cast<int>(training.size()) < group.world_size()) {
    waits.push_back({.what = "end",
                     .reason = absl::StrCat("some ranks have ended; waits for the result of ",
                                            Join(std::move(training))),
                     .resolution = "they report it, or are lost"});
  } else if (!core_.record.paused &&
             now - progressed_ >= absl::Seconds(spec.timeouts.collective_seconds) &&
             progressed_ != absl::InfinitePast()) {
    waits.push_back({.what = "training",
                     .reason = absl::StrCat("no rank has reported a new step; training is at step ",
                                            group.step()),
                     .resolution = absl::StrCat(
                         "a collective that hangs fails after timeouts.collective_seconds and ends "
                         "the epoch; a rank that computes or reads for so long does not: see the "
                         "logs of ",
                         Join(std::move(training))),
                     .since = progressed_});
  }
  if (group.world_size() < spec.workers.replicas) {
    waits.push_back({.what = "replicas",
                     .reason = absl::StrCat("trains with ", group.world_size(), " of ",
                                            spec.workers.replicas, " main workers"),
                     .resolution =
                         "a free worker is taken in when the group changes next; training "
                         "does not wait for it",
                     .since = group.formed_time});
  }
  const int64_t every = spec.checkpoint.every_steps;
  const int64_t behind = core_.record.progress.step - core_.record.checkpoint_step;
  const std::string writer = absl::StrCat("rank 0 (", group.members().front().agent, ")");
  if (!checkpoint_error_.empty()) {
    waits.push_back({.what = "checkpoint",
                     .reason = absl::StrCat("the checkpoint of ", checkpoint_error_),
                     .resolution = absl::StrCat(writer,
                                                " writes the next one when it is due; the last one "
                                                "it tries again and again, and the job ends when "
                                                "it is written")});
  } else if (every > 0 && behind >= 2 * every) {
    waits.push_back({.what = "checkpoint",
                     .reason = absl::StrCat("the newest checkpoint is ", behind,
                                            " steps old, and one is due every ", every),
                     .resolution = absl::StrCat("the disk of ", writer,
                                                " gets faster; training does not wait for it")});
  }
}

void JobMachine::AddVerifierWait(const AgentRegistry* agents, const ClusterOptions& options,
                                 absl::Time now, std::vector<Wait>& waits) const {
  if (!core_.spec().leap.enabled || core_.record.leaps.policy_off) return;
  const std::string where =
      agents == nullptr ? ""
                        : absl::StrCat(" (",
                                       Whereabouts(*agents, Role::kVerifier, core_.id(),
                                                   absl::Seconds(options.lease_seconds), now),
                                       ")");
  waits.push_back({.what = "verifiers",
                   .reason = absl::StrCat("no verifier scores for this job", where,
                                          ": without one there are no leaps"),
                   .resolution = core_.spec().verifiers.max_replicas > 0
                                     ? "start leap-verifier; training does not wait for it"
                                     : "nothing: verifiers.max_replicas is 0"});
}

}  // namespace leap::machine
