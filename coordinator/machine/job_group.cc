// The main group of a job: when an epoch ends, who makes up the next, and the forming of it
// (membership.h has the rules).
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/machine/job_machine.h"

namespace leap::machine {

// ---- is the epoch still good? ----

void JobMachine::CheckGroup(Batch& batch) {
  if (ended() || ending_.has_value() || finished_ != absl::InfiniteFuture()) return;
  switch (core_.group.phase()) {
    case Group::Phase::kNone:
    case Group::Phase::kProposed:
      return;
    case Group::Phase::kFormed:
      CheckFormed(batch);
      break;
    case Group::Phase::kForming:
      CheckForming(batch);
      break;
    case Group::Phase::kBroken:
      break;
  }
  if (core_.group.phase() == Group::Phase::kBroken) TryForm(batch);
}

void JobMachine::CheckFormed(Batch& batch) {
  const Group& group = core_.group;
  // The next epoch begins before the leap: all ranks undo it at once, or none.
  if (const LeapRecord* const undoing = leaps_->Undoing(); undoing != nullptr) {
    return Break("rollback", undoing->reason, batch);
  }
  if (group.Healthy(batch.agents(), batch.now(), core_.lease())) {
    if (std::exchange(wait_, std::nullopt).has_value()) ShowState(batch);
    return CheckSize(batch);
  }
  CheckFinished(batch);
  if (finished_ != absl::InfiniteFuture()) return;
  const StandingEpoch standing = group.Standing(batch.agents(), batch.now(), core_.lease());
  const BreakDecision decision =
      DecideBreak(batch.now(), standing, batch.options().collective_grace,
                  !batch.Planted(Mutation::kNoMajorityGuard));
  if (!decision.broken) {
    wait_ = decision.wait;
    return ShowState(batch);
  }
  MarkLost(decision, batch);
}

// Makes place for workers that came after the group had to go on with fewer. Not in the middle of a
// leap, while paused, or when a rank has already trained to the end.
void JobMachine::CheckSize(Batch& batch) {
  const Group& group = core_.group;
  const bool busy = core_.record.paused || leaps_->InFlight() ||
                    std::ranges::any_of(group.members(), &GroupMember::ended);
  if (busy || !OptionsOfMembership(batch).replace) return;
  const absl::Duration lease = absl::Seconds(batch.options().lease_seconds);
  const std::string reason = DecideGrow(
      batch.now(),
      {.world_size = group.world_size(),
       .replicas = static_cast<int>(core_.spec().workers.replicas),
       .idle_workers =
           static_cast<int>(batch.agents().Idle(Role::kWorker, batch.now(), lease, true).size()),
       .formed = group.formed_time},
      batch.options().grow_after);
  if (!reason.empty()) Break("grown", reason, batch);
}

void JobMachine::CheckForming(Batch& batch) {
  const Group& group = core_.group;
  if (!group.Healthy(batch.agents(), batch.now(), core_.lease())) {
    const StandingEpoch standing = group.Standing(batch.agents(), batch.now(), core_.lease());
    const BreakDecision decision =
        DecideBreak(batch.now(), standing, batch.options().collective_grace, /*guard=*/false);
    if (decision.broken) return MarkLost(decision, batch);
    for (const FormerMember& member : standing.members) {
      const bool overdue = member.presence == Presence::kAway && member.closed &&
                           batch.now() - member.last_seen >= batch.options().reconnect_grace;
      if (!overdue) continue;
      return Break("formation-failed",
                   absl::StrCat(member.agent, " left while epoch ", group.epoch(), " was formed"),
                   batch);
    }
  }
  if (batch.now() < group.deadline()) return;
  std::vector<std::string> missing;
  for (const GroupMember& member : group.members()) {
    if (!member.ready.has_value()) missing.push_back(member.agent);
  }
  const std::string reason = absl::StrCat(
      "epoch ", group.epoch(), " did not form within timeouts.epoch_formation_seconds; not ready: ",
      absl::StrJoin(missing, ", "));
  if (!Charge("worker", "lost", 1, reason, batch)) return;
  Break("formation-failed", reason, batch);
}

void JobMachine::MarkLost(const BreakDecision& decision, Batch& batch) {
  Group& group = core_.group;
  const std::vector<FormerMember> presences =
      group.Presences(batch.agents(), batch.now(), core_.lease());
  int64_t charged = decision.lost.empty() ? 1 : 0;
  for (const int rank : decision.lost) {
    GroupMember& member = group.members()[rank];
    const Agent* const agent = batch.agents().Find(member.agent, member.incarnation);
    const bool left = agent != nullptr && agent->left;
    // Silence is no proof; a closed session and a failed collective are.
    if (presences[rank].presence != Presence::kSilent) member.dead = true;
    if (!left) ++charged;
    core_.Event(
        batch, left ? "worker-left" : "worker-lost",
        absl::StrCat("rank ", rank, " (", member.agent, "): ",
                     left                        ? "said goodbye"
                     : group.collective_failed() ? "a collective failed and its session is closed"
                     : agent == nullptr          ? "its process was started again"
                     : presences[rank].presence == Presence::kSilent ? "no sign of life for a lease"
                                                                     : "its process is gone"),
        left ? Severity::kInfo : Severity::kWarning);
  }
  if (charged > 0 && !Charge("worker", "lost", charged, decision.reason, batch)) return;
  Break(charged == 0 ? "goodbye" : decision.cause, decision.reason, batch);
}

void JobMachine::Break(absl::string_view cause, const std::string& reason, Batch& batch) {
  Group& group = core_.group;
  const bool stood = group.Formed();
  group.Break(batch.now());
  group.reason = reason;
  epoch_cause_ = std::string(cause);
  wait_.reset();
  for (const GroupMember& member :
       group.members()) {  // pushed: nobody sits out a collective's time-out
    batch.Send(member.agent, member.incarnation, AbortEpoch{core_.id(), group.epoch(), reason});
  }
  core_.Event(batch, stood ? "epoch-ended" : "epoch-not-formed",
              absl::StrCat("epoch ", group.epoch(), ": ", reason), Severity::kWarning);
  batch.Write(group.Row(core_.id()));
  leaps_->OnEpochBroken(reason, batch);
  if (group.failures() > 0) {
    const absl::Duration pause =
        batch.options().formation_retry_min * (1 << std::min(group.failures() - 1, 20));
    not_before_ = batch.now() + std::min(pause, batch.options().formation_retry_max);
  }
  ShowState(batch);
}

// ---- rules and budgets ----

const FailureRule* JobMachine::FindRule(absl::string_view role, absl::string_view cause) const {
  for (const FailureRule& rule : core_.spec().failure) {
    if (rule.role == role && rule.cause == cause) return &rule;
  }
  return nullptr;
}

bool JobMachine::Charge(absl::string_view role, absl::string_view cause, int64_t times,
                        const std::string& reason, Batch& batch) {
  const FailureRule* const rule = FindRule(role, cause);
  const int64_t budget = rule == nullptr ? FailureRule{}.budget : rule->budget;
  const bool fatal = rule != nullptr && rule->action == "fail";
  int64_t& used = budgets_[{std::string(role), std::string(cause)}];
  used += times;
  batch.Write(BudgetRecord{core_.id(), std::string(role), std::string(cause), used});
  if (!fatal && (budget == 0 || used <= budget)) return true;  // 0: no limit
  End(JobState::kFailed,
      fatal ? absl::StrCat(reason, "; the failure rule for ", role, " ", cause, " says fail")
            : absl::StrCat(reason, "; the budget of the failure rule for ", role, " ", cause, " (",
                           budget,
                           ") is used up; raise it or mend the cause, then submit again: the "
                           "checkpoint stays"),
      {}, batch);
  return false;
}

// Where a run goes on of which no rank's state can be trusted.
std::string JobMachine::Trusted(const Alarm& alarm) const {
  if (core_.record.checkpoint_path.empty()) {
    return "; there is no checkpoint to go back to: the run goes on with the newest state, which "
           "may "
           "be the wrong one";
  }
  const int64_t step = core_.record.checkpoint_step;
  std::string text = absl::StrCat("; the run goes back to the checkpoint at step ", step);
  if (step > alarm.agreed_step) {
    absl::StrAppend(&text, ", which was written after the last snapshot on which all agreed (",
                    alarm.agreed_step < 0 ? "none" : absl::StrCat("step ", alarm.agreed_step),
                    ") and may be wrong, too");
  }
  return text;
}

void JobMachine::HandleAlarm(Batch& batch) {
  std::optional<Alarm> alarm = leaps_->TakeAlarm();
  if (!alarm.has_value() || !core_.group.Formed() || ending_.has_value()) return;
  if (alarm->back_to_checkpoint) absl::StrAppend(&alarm->reason, Trusted(*alarm));
  if (!Charge("worker", "corrupt", 1, alarm->reason, batch)) return;
  if (alarm->expel_rank >= 0)
    Expel(core_.group.members()[alarm->expel_rank], "corrupt", alarm->reason, batch);
  if (alarm->back_to_checkpoint && !core_.record.checkpoint_path.empty()) DistrustState();
  Break("corrupt", alarm->reason, batch);
  CheckGroup(batch);
}

void JobMachine::Expel(GroupMember& member, absl::string_view cause, const std::string& reason,
                       Batch& batch) {
  member.dead = member.expelled = true;
  batch.Count(Metric::kQuarantines, {std::string(cause)});
  Agent* const agent = batch.agents().Find(member.agent, member.incarnation);
  if (agent == nullptr) return;
  agent->quarantine = reason;
  batch.Write(AgentRecord{agent->name, agent->incarnation, reason, batch.now()});
}

bool JobMachine::GoOnWithout(GroupMember& member, const std::string& reason, Batch& batch) {
  const bool held_by_others = std::ranges::any_of(core_.group.members(), [&](const auto& other) {
    return &other != &member && other.live && !other.dead;
  });
  if (!held_by_others) return false;
  if (!Charge("worker", "lost", 1, reason, batch)) return true;
  Expel(member, "errors", reason, batch);
  core_.Event(batch, "worker-quarantined",
              absl::StrCat(member.agent, ": ", reason, "; mend it and start it again"),
              Severity::kWarning);
  Break(core_.group.Formed() ? "worker-lost" : "formation-failed", reason, batch);
  CheckGroup(batch);
  return true;
}

void JobMachine::DistrustState() {
  for (GroupMember& member : core_.group.members()) member.live = false;
}

// ---- the next epoch ----

MembershipOptions JobMachine::OptionsOfMembership(const Batch& batch) const {
  const FailureRule* const rule = FindRule("worker", "lost");
  return {.replace = rule == nullptr || rule->action != "shrink" || core_.group.members().empty(),
          .grace = absl::Seconds(rule == nullptr ? 0 : rule->grace_seconds),
          .reconnect_grace = batch.options().reconnect_grace,
          .silent_death = absl::Seconds(core_.spec().timeouts.job_start_seconds),
          .guard = !batch.Planted(Mutation::kNoMajorityGuard)};
}

// Spares, the best first: idle workers; after the start also verifiers that can stand in, those of
// this job that are free before those that are busy, then idle ones.
MembershipState JobMachine::StateOfMembership(Batch& batch,
                                              std::map<std::string, Agent*>& spares) const {
  AgentRegistry& agents = batch.agents();
  const absl::Duration lease = absl::Seconds(batch.options().lease_seconds);
  std::vector<Agent*> order = agents.Idle(Role::kWorker, batch.now(), lease, true);
  const bool first = core_.group.members().empty();
  if (!first) {
    for (const bool busy : {false, true}) {
      for (const auto& [name, scorer] : leaps_->board().verifiers()) {
        Agent* const agent = agents.Find(name, scorer.incarnation);
        const bool here =
            agent != nullptr && agent->Connected() && agent->Fresh(batch.now(), core_.lease());
        if (here && !agent->store_address.empty() && (scorer.task != 0) == busy)
          order.push_back(agent);
      }
    }
    for (Agent* const agent : agents.Idle(Role::kVerifier, batch.now(), lease, true))
      order.push_back(agent);
  }
  MembershipState state{.replicas = static_cast<int>(core_.spec().workers.replicas),
                        .min_replicas = static_cast<int>(core_.spec().workers.min_replicas),
                        .former = core_.group.Presences(agents, batch.now(), core_.lease()),
                        .broken = core_.group.broken()};
  for (Agent* const agent : order) {
    state.spares.push_back({agent->name, agent->incarnation});
    spares[agent->name] = agent;
  }
  return state;
}

void JobMachine::TryForm(Batch& batch) {
  if (batch.now() < not_before_) return;
  std::map<std::string, Agent*> spares;
  const MembershipState state = StateOfMembership(batch, spares);
  MembershipDecision decision = DecideMembers(batch.now(), state, OptionsOfMembership(batch));
  if (!decision.form) {
    wait_ = decision.wait;
    return ShowState(batch);
  }
  wait_.reset();
  if (batch.Planted(Mutation::kNewcomersAreLive)) decision.from_checkpoint = false;
  if (batch.Planted(Mutation::kCheckpointDespitePeers)) decision.from_checkpoint = true;
  Propose(decision, batch);
}

GroupMember JobMachine::TakeSeat(const Seat& seat, Batch& batch) {
  const GroupMember* member = core_.group.Find(seat.agent, seat.incarnation);
  if (member != nullptr && member->dead) member = nullptr;  // it lost its state, and begins anew
  Agent& agent = *batch.agents().Find(seat.agent, seat.incarnation);
  GroupMember taken =
      member != nullptr
          ? *member
          : GroupMember{.agent = agent.name, .incarnation = agent.incarnation, .role = agent.role};
  taken.data_address = agent.data_address;
  taken.store_address = agent.store_address;
  taken.live = seat.live;
  if (member != nullptr) return taken;
  leaps_->RemoveVerifier(agent.name);  // a hot spare: from now on it trains
  agent.use = Use::kAssigned;
  agent.job = core_.id();
  agent.busy_seconds = 0;
  return taken;
}

void JobMachine::Propose(const MembershipDecision& decision, Batch& batch) {
  Group& group = core_.group;
  std::vector<GroupMember> members;
  for (const Seat& seat : decision.seats) members.push_back(TakeSeat(seat, batch));
  former_ = group.members();
  const LeapRecord* const undoing = leaps_->Undoing();
  const uint64_t undo_leap = undoing != nullptr         ? undoing->leap
                             : decision.from_checkpoint ? undo_instead_
                                                        : 0;
  group.Propose(std::move(members), decision.from_checkpoint, undo_leap,
                batch.Planted(Mutation::kReuseEpoch));
  group.reason = decision.reason;
  group.create_time = batch.now();
  group.formed_time = absl::InfinitePast();
  batch.Write(group.Row(core_.id()));
  batch.WriteJob(core_.id());
  batch.Decide({.kind = Decision::Kind::kFormEpoch, .job = core_.id(), .epoch = group.epoch()});
}

void JobMachine::TakeBackProposal(absl::string_view error, Batch& batch) {
  Group& group = core_.group;
  for (const GroupMember& member : group.members()) {
    const bool was = std::ranges::any_of(former_, [&](const GroupMember& former) {
      return former.agent == member.agent && former.incarnation == member.incarnation;
    });
    Agent* const agent = batch.agents().Find(member.agent, member.incarnation);
    if (was || agent == nullptr) continue;
    agent->use = Use::kIdle;
    agent->job.clear();
  }
  group.TakeBack(std::exchange(former_, {}));
  not_before_ = batch.now() + batch.options().persist_retry;
  wait_ = Wait{.what = "ledger",
               .reason = absl::StrCat("the ledger cannot be written (", error,
                                      "), and no epoch begins that is not in it"),
               .resolution = "mend its disk",
               .until = not_before_};
  if (group.phase() == Group::Phase::kNone) {
    return SetState(JobState::kQueued, wait_->Sentence(), batch);
  }
  ShowState(batch);
}

// The epoch is in the ledger: the ranks may hear of it.
void JobMachine::TellRanks(Batch& batch) {
  Group& group = core_.group;
  ReleaseUnseated(batch);
  group.StartForming(batch.now() + absl::Seconds(core_.spec().timeouts.epoch_formation_seconds));
  for (int rank = 0; rank < group.world_size(); ++rank) {
    const GroupMember& member = group.members()[rank];
    batch.Send(member.agent, member.incarnation, AssignmentOf(rank));
  }
  ShowState(batch);
}

void JobMachine::ReleaseUnseated(Batch& batch) {
  for (const GroupMember& former : std::exchange(former_, {})) {
    if (core_.group.Find(former.agent, former.incarnation) != nullptr) continue;
    Agent* const agent = batch.agents().Find(former.agent, former.incarnation);
    if (agent != nullptr) batch.Release(*agent, core_.id(), "its rank was given to another worker");
  }
}

AssignWorker JobMachine::AssignmentOf(int rank) const {
  const Group& group = core_.group;
  AssignWorker assignment{.job = core_.id(),
                          .epoch = group.epoch(),
                          .rank = rank,
                          .world_size = group.world_size(),
                          .spec_yaml = core_.record.spec_yaml,
                          .store_address = group.members().front().store_address,
                          .from_checkpoint = group.from_checkpoint(),
                          .checkpoint_path = core_.record.checkpoint_path,
                          .next_leap = leaps_->next_leap(),
                          .undo_leap = group.undo_leap()};
  assignment.members = group.Row(core_.id()).members;
  return assignment;
}

void JobMachine::Formed(Batch& batch) {
  Group& group = core_.group;
  const std::string disagreement = group.Disagreement();
  if (!disagreement.empty() && !batch.Planted(Mutation::kIgnoreUnequalRanks)) {
    const std::string reason = absl::StrCat("its ranks do not hold the same state: ", disagreement);
    if (!Charge("worker", "corrupt", 1, reason, batch)) return;
    return Break("corrupt", reason, batch);
  }
  group.Form();
  group.formed_time = batch.now();
  const EpochReady ready = *group.members().front().ready;
  JobRecord& record = core_.record;
  undo_instead_ = 0;
  if (record.start_time == absl::InfinitePast()) record.start_time = batch.now();
  batch.Write(group.Row(core_.id()));
  batch.WriteJob(core_.id());
  batch.Count(Metric::kEpochs, {epoch_cause_});
  if (group.broken() != absl::InfinitePast()) {
    batch.Count(Metric::kRecoverySeconds, {}, absl::ToDoubleSeconds(batch.now() - group.broken()));
  }
  core_.Event(
      batch, "epoch-formed",
      absl::StrCat("epoch ", group.epoch(), " trains from step ", ready.step, ": ", group.reason));
  ShowState(batch);
  // Either way: its ranks may have been told the other before this epoch.
  if (record.paused || !batch.Planted(Mutation::kForgetResume))
    SendControl(record.paused ? RunControl::Command::kPause : RunControl::Command::kResume, batch);
  for (const auto& [name, scorer] : leaps_->board().verifiers()) {
    batch.Send(name, scorer.incarnation,
               AssignVerifier{core_.id(), group.epoch(), record.spec_yaml});
  }
  leaps_->OnEpochFormed(ready, batch);
  if (ready.step < record.progress.step) {  // it went back: losses of later steps are no measure
    spikes_ = {};
    held_checkpoint_.reset();
  }
  record.progress.step = ready.step;
  CheckFinished(batch);
}

}  // namespace leap::machine
