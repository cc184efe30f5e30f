// State, people's wishes, end, and what is shown. The group: job_group.cc; messages:
// job_messages.cc.
#include "coordinator/machine/job_machine.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"

namespace leap::machine {
namespace {

absl::Status LedgerError(absl::string_view error) {
  return MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kLedgerUnavailable,
                   absl::StrCat("the ledger cannot be written, so nothing was changed: ", error,
                                "; mend its disk and try again"));
}

}  // namespace

JobMachine::JobMachine(JobRecord record, uint64_t seed) {
  core_.record = std::move(record);
  core_.task_ids_durable = core_.record.task_ids_reserved;
  core_.record.progress.steps = core_.spec().train.steps;
  leaps_ = std::make_unique<LeapMachine>(core_, seed);
}

// ---- state ----

void JobMachine::SetState(JobState state, std::string reason, Batch& batch) {
  JobRecord& record = core_.record;
  if (record.state == state && record.state_reason == reason) return;
  if (record.state != state) record.state_time = batch.now();
  record.state = state;
  record.state_reason = std::move(reason);
  batch.WriteJob(core_.id());
}

std::string JobMachine::RunningReason() const {
  const Group& group = core_.group;
  std::string reason =
      absl::StrCat("training in epoch ", group.epoch(), " with ", group.world_size(),
                   " main worker", group.world_size() == 1 ? "" : "s");
  if (finished_ != absl::InfiniteFuture())
    reason = "training ended; waits for the last baseline and audits";
  if (wait_.has_value()) absl::StrAppend(&reason, "; ", wait_->Sentence());
  if (!core_.ledger_ok)
    absl::StrAppend(&reason, "; the ledger cannot be written, leaps wait until it can");
  return reason;
}

// The state as it follows from the group, for a job that is neither queued nor ended.
void JobMachine::ShowState(Batch& batch) {
  if (ended() || queued()) return;
  const Group& group = core_.group;
  if (group.Formed() && core_.record.paused) {
    return SetState(JobState::kPaused, "paused by a person; leapctl resume lets it go on", batch);
  }
  if (group.Formed()) return SetState(JobState::kRunning, RunningReason(), batch);
  const bool trained = core_.record.start_time != absl::InfinitePast();
  const JobState state = trained ? JobState::kRecovering : JobState::kStarting;
  std::string reason = group.phase() == Group::Phase::kForming
                           ? absl::StrCat("epoch ", group.epoch(), " is being formed (",
                                          group.reason, "): waits for its ranks to report ready")
                       : wait_.has_value() ? wait_->Sentence()
                                           : group.reason;
  SetState(state, std::move(reason), batch);
}

void JobMachine::LedgerOk(bool ok, absl::string_view error, Batch& batch) {
  if (core_.ledger_ok == ok) return;
  core_.ledger_ok = ok;
  core_.ledger_error = std::string(error);
  if (core_.group.Formed()) ShowState(batch);
}

// ---- queue ----

void JobMachine::Queued(Wait wait, Batch& batch) {
  SetState(JobState::kQueued, wait.Sentence(), batch);
  wait_ = std::move(wait);
}

std::optional<Wait> JobMachine::TryStart(Batch& batch) {
  if (batch.now() < not_before_) return wait_;
  const absl::Duration lease = absl::Seconds(batch.options().lease_seconds);
  std::vector<Agent*> verifiers = batch.agents().Idle(Role::kVerifier, batch.now(), lease, false);
  const int wanted = static_cast<int>(core_.spec().verifiers.min_replicas) - this->verifiers();
  std::map<std::string, Agent*> spares;
  const MembershipState state = StateOfMembership(batch, spares);
  const MembershipDecision decision = DecideMembers(batch.now(), state, OptionsOfMembership(batch));
  if (!decision.form) return decision.wait;
  if (static_cast<int>(verifiers.size()) < wanted) {
    return Wait{.what = "verifiers",
                .reason = absl::StrCat("waits for ", wanted - static_cast<int>(verifiers.size()),
                                       " more verifiers (verifiers.min_replicas is ",
                                       core_.spec().verifiers.min_replicas, ")"),
                .resolution = "start leap-verifier"};
  }
  wait_.reset();
  core_.Event(batch, "starting", absl::StrCat("the gang is complete: ", decision.reason));
  SetState(JobState::kStarting, decision.reason, batch);
  start_deadline_ = batch.now() + absl::Seconds(core_.spec().timeouts.job_start_seconds);
  Propose(decision, batch);
  for (int i = 0; i < wanted; ++i) TakeVerifier(*verifiers[i], batch);
  return std::nullopt;
}

// ---- people ----

void JobMachine::Cancel(const CancelJob& request, Batch& batch) {
  if (core_.record.state == JobState::kCancelled) {
    return batch.Answer(request.correlation, absl::OkStatus(), core_.id());
  }
  if (ended() || ending_.has_value()) {
    return batch.Answer(
        request.correlation,
        MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kJobFinished,
                  absl::StrCat("job ", core_.id(), " has already ended"), {{"job", core_.id()}}),
        core_.id());
  }
  End(JobState::kCancelled, request.reason.empty() ? "cancelled by a person" : request.reason,
      {request.correlation}, batch);
}

void JobMachine::SetPaused(bool paused, uint64_t correlation, Batch& batch) {
  const bool steerable =
      (core_.record.state == JobState::kRunning || core_.record.state == JobState::kPaused ||
       core_.record.state == JobState::kRecovering) &&
      !ending_.has_value();
  if (!steerable || (!paused && !core_.record.paused)) {
    const std::string message =
        absl::StrCat("expected a ", paused ? "running" : "paused", " job, saw ", core_.id(),
                     " in state ", JobStateName(core_.record.state));
    return batch.Answer(correlation,
                        ended()
                            ? MakeError(absl::StatusCode::kFailedPrecondition,
                                        ErrorReason::kJobFinished, message, {{"job", core_.id()}})
                            : absl::FailedPreconditionError(message),
                        core_.id());
  }
  if (core_.record.paused == paused) return batch.Answer(correlation, absl::OkStatus(), core_.id());
  pausing_ = paused;
  batch.WriteJob(core_.id());
  batch.Decide({.kind = Decision::Kind::kPauseJob,
                .job = core_.id(),
                .paused = paused,
                .correlations = {correlation}});
}

void JobMachine::SendControl(RunControl::Command command, Batch& batch) {
  for (const GroupMember& member : core_.group.members()) {
    batch.Send(member.agent, member.incarnation,
               RunControl{core_.id(), core_.group.epoch(), command});
  }
}

// ---- end ----

void JobMachine::End(JobState state, std::string reason, std::vector<uint64_t> correlations,
                     Batch& batch) {
  if (ended() || ending_.has_value()) return;
  ending_ =
      Ending{.state = state, .reason = std::move(reason), .correlations = std::move(correlations)};
  // In one transaction: a crash after it leaves no leap open in an ended job. What a person asked
  // for may yet not happen (OnDurable).
  if (ending_->correlations.empty()) leaps_->OnJobEnded(batch);
  ProposeEnd(batch);
}

void JobMachine::ProposeEnd(Batch& batch) {
  ending_->retry = absl::InfiniteFuture();
  ending_->time = batch.now();
  batch.WriteJob(core_.id());
  batch.Decide({.kind = Decision::Kind::kEndJob, .job = core_.id()});
  if (batch.Planted(Mutation::kEndBeforeDurable)) ReleaseAll("the job ends", batch);
}

void JobMachine::Ended(Batch& batch) {
  leaps_->OnJobEnded(batch);
  core_.record = Row();
  const Ending ending = *std::exchange(ending_, std::nullopt);
  const bool failed = ending.state == JobState::kFailed;
  core_.Event(batch,
              failed                                 ? "failed"
              : ending.state == JobState::kCancelled ? "cancelled"
                                                     : "succeeded",
              ending.reason, failed ? Severity::kError : Severity::kInfo);
  for (const uint64_t correlation : ending.correlations) {
    batch.Answer(correlation, absl::OkStatus(), core_.id());
  }
  ReleaseAll(ending.reason, batch);
}

void JobMachine::ReleaseAll(absl::string_view reason, Batch& batch) {
  for (auto& [name, agent] : batch.agents().agents()) {
    if (agent.job != core_.id() || agent.use != Use::kAssigned) continue;
    leaps_->RemoveVerifier(name);
    batch.Release(agent, core_.id(), absl::StrCat("the job ended: ", reason));
  }
}

// Training ended on every rank that is here, rank 0's result among them.
void JobMachine::CheckFinished(Batch& batch) {
  const Group& group = core_.group;
  if (!group.Formed() || finished_ != absl::InfiniteFuture() || ending_.has_value()) return;
  const std::vector<GroupMember>& members = group.members();
  if (!members.front().ended) return;
  const auto pending = [&](const GroupMember& member) {
    const Agent* const agent = batch.agents().Find(member.agent, member.incarnation);
    return !member.ended && !member.dead && agent != nullptr && !agent->left &&
           agent->Fresh(batch.now(), core_.lease());
  };
  if (std::ranges::any_of(members, pending)) return;
  finished_ = batch.now();
  core_.training_ended = true;
  TakeHeldCheckpoint(batch);
  core_.Event(batch, "training-ended",
              absl::StrCat("every rank is at step ", core_.record.result.step));
  ShowState(batch);
}

// ---- the clock and the disk ----

void JobMachine::OnTick(Batch& batch) {
  if (ended()) return;
  if (ending_.has_value()) {
    if (batch.now() >= ending_->retry) ProposeEnd(batch);
    return;
  }
  if (queued()) return;
  LoseVerifiers(batch);
  const bool started = core_.record.start_time != absl::InfinitePast();
  if (finished_ != absl::InfiniteFuture()) {
    const bool quiet = leaps_->Quiet() && !leaps_->InFlight();
    if (quiet || batch.now() >= finished_ + batch.options().wind_down) {
      End(JobState::kSucceeded, absl::StrCat("reached step ", core_.record.result.step), {}, batch);
    }
  } else if (!started && batch.now() >= start_deadline_) {
    End(JobState::kFailed,
        absl::StrCat("did not start within timeouts.job_start_seconds: ",
                     core_.record.state_reason),
        {}, batch);
  } else {
    CheckGroup(batch);
  }
  if (ending_.has_value()) return;  // what is decided of its leaps stands
  leaps_->OnTick(batch);
  HandleAlarm(batch);
}

void JobMachine::StoodStill(absl::Duration gap) {
  start_deadline_ += gap;
  core_.group.StoodStill(gap);
}

void JobMachine::OnDurable(const Decision& decision, bool ok, absl::string_view error,
                           Batch& batch) {
  switch (decision.kind) {
    case Decision::Kind::kCreateJob:
      return;  // the cluster's
    case Decision::Kind::kPrepareLeap:
    case Decision::Kind::kCommitLeap:
      return leaps_->OnDurable(decision, ok, error, batch);
    case Decision::Kind::kUndoLeap:
      leaps_->OnDurable(decision, ok, error, batch);
      return CheckGroup(batch);
    case Decision::Kind::kFormEpoch:
      return ok ? TellRanks(batch) : TakeBackProposal(error, batch);
    case Decision::Kind::kEndJob:
      if (ok) return Ended(batch);
      for (const uint64_t correlation : ending_->correlations) {
        batch.Answer(correlation, LedgerError(error), core_.id());
      }
      if (!ending_->correlations.empty()) {
        ending_.reset();  // a person asked for it, and has been told that it did not happen
      } else {
        ending_->retry = batch.now() + batch.options().persist_retry;
      }
      return;
    case Decision::Kind::kPauseJob:
      pausing_.reset();
      for (const uint64_t correlation : decision.correlations) {
        batch.Answer(correlation, ok ? absl::OkStatus() : LedgerError(error), core_.id());
      }
      if (!ok) return;
      core_.record.paused = decision.paused;
      core_.Event(batch, decision.paused ? "paused" : "resumed", "by a person");
      if (core_.group.Formed()) {
        SendControl(decision.paused ? RunControl::Command::kPause : RunControl::Command::kResume,
                    batch);
      }
      return ShowState(batch);
  }
}

std::optional<Record> JobMachine::Refresh(const Record& record) const {
  if (const auto* const epoch = std::get_if<EpochRecord>(&record)) {
    // A proposal that was taken back was never an epoch.
    if (epoch->epoch != core_.group.epoch() || !core_.group.Stands()) return std::nullopt;
    return core_.group.Row(core_.id());
  }
  if (const auto* const leap = std::get_if<LeapRecord>(&record)) {
    const LeapRecord* const known = leaps_->Find(leap->leap);
    if (known == nullptr) return std::nullopt;
    return *known;
  }
  if (const auto* const budget = std::get_if<BudgetRecord>(&record)) {
    const auto found = budgets_.find({budget->role, budget->cause});
    if (found == budgets_.end()) return std::nullopt;
    return BudgetRecord{core_.id(), budget->role, budget->cause, found->second};
  }
  return record;
}

// ---- looking ----

JobRecord JobMachine::Row() const {
  JobRecord row = core_.record;
  row.epoch = core_.group.epoch();
  row.leaps.verifiers = leaps_->board().size();
  row.leaps.verifiers_busy = leaps_->board().busy();
  if (pausing_.has_value()) row.paused = *pausing_;
  if (!ending_.has_value() || ending_->retry != absl::InfiniteFuture()) return row;
  row.state = ending_->state;
  row.state_reason = ending_->reason;
  row.state_time = row.end_time = ending_->time;
  return row;
}

JobView JobMachine::View(const AgentRegistry& agents, const ClusterOptions& options,
                         absl::Time now) const {
  JobView view{.record = Row()};
  if (ended()) return view;
  view.waits = Waits(&agents, options, now);
  const Group& group = core_.group;
  const std::vector<FormerMember> presences = group.Presences(agents, now, core_.lease());
  for (size_t rank = 0; rank < presences.size(); ++rank) {
    const GroupMember& member = group.members()[rank];
    const Presence presence = presences[rank].presence;
    const char* const here = !group.Formed()       ? "joining"
                             : core_.record.paused ? "paused"
                                                   : "training";
    view.members.push_back({.agent = member.agent,
                            .incarnation = member.incarnation,
                            .role = member.role,
                            .rank = static_cast<int>(rank),
                            .data_address = member.data_address,
                            .state = presence == Presence::kAlive  ? here
                                     : presence == Presence::kAway ? "unreachable"
                                                                   : "lost",
                            .step = member.step});
  }
  for (const auto& [name, scorer] : leaps_->board().verifiers()) {
    view.members.push_back({.agent = name,
                            .incarnation = scorer.incarnation,
                            .role = Role::kVerifier,
                            .data_address = scorer.data_address,
                            .state = scorer.task != 0 ? "scoring" : "idle",
                            .step = std::max<int64_t>(scorer.last_base_step, 0)});
  }
  return view;
}

}  // namespace leap::machine
