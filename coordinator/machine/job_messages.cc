// What the agents of a job say, and who is believed: a message counts only from a member of the
// standing epoch, by its incarnation and rank; anything else is answered as stale.
#include <algorithm>
#include <cmath>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "coordinator/machine/job_machine.h"

namespace leap::machine {

void JobMachine::OnMessage(Agent& agent, const AgentMessage& message, Batch& batch) {
  std::visit([&](const auto& kind) { On(agent, kind, batch); }, message);
  HandleAlarm(batch);
}

GroupMember* JobMachine::SenderOf(const Agent& agent, uint64_t epoch, absl::string_view what,
                                  Batch& batch) {
  Group& group = core_.group;
  GroupMember* const member = group.Find(agent.name, agent.incarnation);
  const bool current = epoch == group.epoch() || batch.Planted(Mutation::kAcceptOldEpoch);
  if (member != nullptr && current && group.Stands()) return member;
  // An epoch that has just been ended is no news to whoever ended it.
  const bool over = member != nullptr && epoch == group.epoch();
  if (!over) batch.SendStale(agent, core_.id(), group.epoch(), what);
  return nullptr;
}

GroupMember* JobMachine::SenderOf(const Agent& agent, uint64_t epoch, int rank,
                                  absl::string_view what, Batch& batch) {
  GroupMember* const member = SenderOf(agent, epoch, what, batch);
  if (member == nullptr || member == &core_.group.members()[0] + rank) return member;
  batch.SendStale(agent, core_.id(), core_.group.epoch(), what);
  return nullptr;
}

// ---- coming and going ----

bool JobMachine::OnHello(Agent& agent, const Hello& hello, Batch& batch) {
  if (ended()) return false;
  const int rank = core_.group.RankOf(agent.name, agent.incarnation);
  if (rank >= 0) return HelloOfMember(agent, rank, hello, batch);
  const Scorer* const scorer = std::as_const(*leaps_).board().Find(agent.name);
  if (scorer != nullptr && scorer->incarnation == agent.incarnation) {
    batch.Send(agent, AssignVerifier{core_.id(), core_.group.epoch(), core_.record.spec_yaml});
    leaps_->ResyncVerifier(agent, batch);
    return true;
  }
  if (agent.role != Role::kVerifier || hello.job != core_.id() || !agent.quarantine.empty())
    return false;
  if (!WantsVerifier()) return false;
  TakeVerifier(agent, batch);
  return true;
}

bool JobMachine::HelloOfMember(Agent& agent, int rank, const Hello& hello, Batch& batch) {
  Group& group = core_.group;
  GroupMember& member = group.members()[rank];
  const bool holds = hello.job == core_.id();
  if (!holds) member.live = false;
  // Taken for dead by what its machine and its peers said, and here it is.
  if (group.phase() == Group::Phase::kBroken && holds && !member.expelled) member.dead = false;
  if (member.dead) return false;
  agent.use = Use::kAssigned;
  agent.job = core_.id();
  member.data_address = agent.data_address;
  member.store_address = agent.store_address;
  if (group.phase() == Group::Phase::kForming) {
    // After a restart nobody can be sent to rank 0's store before rank 0 has said where it is.
    for (int other = 0; other < group.world_size(); ++other) {
      if (group.members()[0].store_address.empty() || (rank != 0 && other != rank)) continue;
      const GroupMember& told = group.members()[other];
      batch.Send(told.agent, told.incarnation, AssignmentOf(other));
    }
    return true;
  }
  if (group.phase() == Group::Phase::kBroken && holds) {
    batch.Send(agent, AbortEpoch{core_.id(), group.epoch(), group.reason});
    return true;
  }
  if (!group.Formed()) return true;
  if (!holds || hello.epoch != group.epoch()) {
    member.dead = true;  // it was in this epoch, and is not any more: its state is gone
    core_.Event(batch, "worker-lost",
                absl::StrCat("rank ", rank, " (", agent.name, ") came back without its state"),
                Severity::kWarning);
    return false;
  }
  member.step = std::max(member.step, hello.step);
  const auto command =
      core_.record.paused ? RunControl::Command::kPause : RunControl::Command::kResume;
  batch.Send(agent, RunControl{core_.id(), group.epoch(), command});
  leaps_->ResyncRank(agent, rank, batch);
  batch.Changed(core_.id());
  return true;
}

void JobMachine::OnAgentGone(const Agent& agent, absl::string_view why, Batch& batch) {
  GroupMember* const member = core_.group.Find(agent.name, agent.incarnation);
  if (member != nullptr) member->dead = !agent.left;
  if (leaps_->board().Find(agent.name) != nullptr) {
    core_.Event(batch, "verifier-lost", absl::StrCat(agent.name, ": ", why));
    leaps_->RemoveVerifier(agent.name);
    leaps_->OnTick(batch);
  }
  CheckGroup(batch);
}

bool JobMachine::OnDropped(const Agent& agent, Batch& batch) {
  GroupMember* const member = core_.group.Find(agent.name, agent.incarnation);
  if (member == nullptr || member->dead || !core_.group.Formed()) return false;
  member->dead = true;  // the next tick ends the epoch
  core_.Event(batch, "worker-lost",
              absl::StrCat("rank ", member - core_.group.members().data(), " (", agent.name,
                           ") has dropped the job, and its state with it"),
              Severity::kWarning);
  return true;
}

void JobMachine::OnSessionClosed(const Agent&, Batch& batch) {
  batch.Changed(core_.id());
  CheckGroup(batch);
}

bool JobMachine::WantsVerifier() const {
  if (ended() || queued() || ending_.has_value() || finished_ != absl::InfiniteFuture())
    return false;
  return verifiers() < core_.spec().verifiers.max_replicas;
}

void JobMachine::TakeVerifier(Agent& agent, Batch& batch) {
  agent.use = Use::kAssigned;
  agent.job = core_.id();
  agent.busy_seconds = 0;
  batch.Send(agent, AssignVerifier{core_.id(), core_.group.epoch(), core_.record.spec_yaml});
  leaps_->AddVerifier(agent, batch);
  batch.Changed(core_.id());
}

void JobMachine::LoseVerifiers(Batch& batch) {
  std::vector<std::string> gone;
  for (const auto& [name, scorer] : leaps_->board().verifiers()) {
    const Agent* const agent = batch.agents().Find(name, scorer.incarnation);
    const bool here =
        agent != nullptr && !agent->left && agent->Fresh(batch.now(), core_.lease()) &&
        (agent->Connected() || batch.now() - agent->closed < batch.options().reconnect_grace);
    if (!here) gone.push_back(name);
  }
  for (const std::string& name : gone) {
    const Scorer& scorer = *leaps_->board().Find(name);
    if (scorer.task != 0) batch.Count(Metric::kTasks, {TaskKindName(scorer.item.kind), "lost"});
    Agent* const agent = batch.agents().Find(name, scorer.incarnation);
    leaps_->RemoveVerifier(name);
    core_.Event(batch, "verifier-lost",
                absl::StrCat(name, ": no sign of life; its tasks go to others"));
    if (agent != nullptr) batch.Release(*agent, core_.id(), "no sign of life");
  }
}

// ---- telemetry ----

void JobMachine::CountBusy(Agent& agent, double busy_seconds, absl::string_view role,
                           Batch& batch) {
  const double more = busy_seconds - agent.busy_seconds;
  if (!(more > 0)) return;
  agent.busy_seconds = busy_seconds;
  LeapSummary& summary = core_.record.leaps;
  (role == "worker" ? summary.worker_device_seconds : summary.verifier_device_seconds) += more;
  batch.Count(Metric::kDeviceSeconds, {std::string(role)}, more);
}

void JobMachine::On(Agent& agent, const Heartbeat& heartbeat, Batch& batch) {
  const int rank = core_.group.RankOf(agent.name, agent.incarnation);
  CountBusy(agent, heartbeat.busy_seconds, rank >= 0 ? "worker" : "verifier", batch);
  if (rank < 0 || heartbeat.epoch != core_.group.epoch() || !core_.group.Stands()) return;
  GroupMember& member = core_.group.members()[rank];
  member.step = std::max(member.step, heartbeat.step);
  if (rank != 0 || !core_.group.Formed()) return;
  Progress& progress = core_.record.progress;
  const int64_t trained = heartbeat.trained_steps - progress.trained_steps;
  if (trained > 0) batch.Count(Metric::kTrainedSteps, {}, static_cast<double>(trained));
  progress.step = heartbeat.step;
  progress.trained_steps = heartbeat.trained_steps;
  progress.train_loss = heartbeat.train_loss;
  core_.loss_is_finite = std::isfinite(heartbeat.train_loss);
  progress.tokens_per_second = heartbeat.tokens_per_second;
  progress.step_seconds = heartbeat.step_seconds;
  progress.lr = heartbeat.lr;
  batch.Changed(core_.id());
  WatchLoss(heartbeat, batch);
}

void JobMachine::On(Agent& agent, const TrainingStarted& started, Batch& batch) {
  const GroupMember* const member = SenderOf(agent, started.epoch, "training-started", batch);
  if (member == nullptr || member != core_.group.members().data()) return;
  if (core_.record.has_data && core_.record.data == started.data) return;  // said at each epoch
  core_.record.has_data = true;
  core_.record.data = started.data;
  core_.Event(
      batch, "training-started",
      absl::StrCat(started.data.parameters, " parameters, ", started.data.tokens, " tokens"));
  batch.WriteJob(core_.id());
}

// ---- the group ----

void JobMachine::On(Agent& agent, const EpochReady& ready, Batch& batch) {
  GroupMember* const member = SenderOf(agent, ready.epoch, ready.rank, "epoch-ready", batch);
  if (member == nullptr || core_.group.phase() != Group::Phase::kForming) return;
  member->ready = ready;
  member->step = std::max(member->step, ready.step);
  if (!ready.recovered_from.empty()) {
    core_.Event(
        batch, "rank-recovered",
        absl::StrCat("rank ", ready.rank, " (", agent.name, ") from ", ready.recovered_from));
  }
  if (core_.group.AllReady()) Formed(batch);
}

void JobMachine::On(Agent& agent, const CollectiveFailed& failed, Batch& batch) {
  GroupMember* const member = SenderOf(agent, failed.epoch, "collective-failed", batch);
  if (member == nullptr) return;
  if (!core_.group.collective_failed()) {
    batch.Log({.severity = Severity::kWarning,
               .event = "collective-failed",
               .job = core_.id(),
               .epoch = failed.epoch,
               .step = failed.step,
               .sentence = absl::StrCat(agent.name, ": ", failed.message)});
  }
  core_.group.CollectiveFailed(batch.now());
  CheckGroup(batch);
}

void JobMachine::On(Agent& agent, const JobEnded& ended, Batch& batch) {
  GroupMember* const member = SenderOf(agent, ended.epoch, ended.rank, "job-ended", batch);
  if (member == nullptr || finished_ != absl::InfiniteFuture()) return;
  if (!ended.ok) {
    const std::string reason =
        absl::StrCat("rank ", ended.rank, " stopped (", ended.cause, "): ", ended.reason);
    const bool of_training = FindRule("training", ended.cause) != nullptr;
    if (!of_training && GoOnWithout(*member, reason, batch)) return;
    return TrainingFailed(ended.cause, reason, batch);
  }
  member->ended = true;
  leaps_->OnRankEnded(ended, batch);
  if (ended.rank == 0) {
    core_.record.has_result = true;
    core_.record.result = ended.result;
    batch.WriteJob(core_.id());
  }
  CheckFinished(batch);
}

// ---- leaps ----

void JobMachine::On(Agent& agent, const SnapshotTaken& shard, Batch& batch) {
  GroupMember* const member = SenderOf(agent, shard.epoch, shard.rank, "snapshot-taken", batch);
  if (member == nullptr) return;
  member->step = std::max(member->step, shard.step);
  leaps_->OnSnapshotTaken(shard, batch);
}

void JobMachine::On(Agent& agent, const TaskResult& result, Batch& batch) {
  CountBusy(agent, result.busy_seconds, "verifier", batch);
  const bool current = result.epoch == core_.group.epoch() && core_.group.Formed();
  if (!current && !batch.Planted(Mutation::kAcceptOldEpoch)) {
    return batch.SendStale(agent, core_.id(), core_.group.epoch(), "task-result");
  }
  leaps_->OnTaskResult(agent, result, batch);
}

void JobMachine::On(Agent& agent, const PrepareVote& vote, Batch& batch) {
  if (SenderOf(agent, vote.epoch, vote.rank, "prepare-vote", batch) == nullptr) return;
  leaps_->OnVote(agent, vote, batch);
}

void JobMachine::On(Agent& agent, const LeapOutcome& outcome, Batch& batch) {
  GroupMember* const member = SenderOf(agent, outcome.epoch, outcome.rank, "leap-outcome", batch);
  if (member == nullptr) return;
  member->step = std::max(member->step, outcome.step);
  leaps_->OnOutcome(agent, outcome, batch);
}

// ---- restart ----

void JobMachine::Restore(const Ledger& ledger, Batch& batch) {
  const auto mine = [&](const auto& rows) {
    std::remove_cvref_t<decltype(rows)> found;
    for (const auto& row : rows) {
      if (row.job == core_.id()) found.push_back(row);
    }
    return found;
  };
  for (const EventRecord& event : mine(ledger.events)) {
    core_.next_event = std::max(core_.next_event, event.sequence + 1);
    if (event.kind == "policy-off") since_["policy-off"] = event.create_time;
  }
  if (ended()) return;
  for (const BudgetRecord& budget : mine(ledger.budgets))
    budgets_[{budget.role, budget.cause}] = budget.used;
  const std::vector<EpochRecord> epochs = mine(ledger.epochs);
  if (!epochs.empty()) core_.group.Restore(epochs.back(), batch.now());
  if (core_.group.phase() == Group::Phase::kForming) {
    core_.group.StartForming(batch.now() +
                             absl::Seconds(core_.spec().timeouts.epoch_formation_seconds));
  }
  if (!queued()) {
    start_deadline_ = batch.now() + absl::Seconds(core_.spec().timeouts.job_start_seconds);
    epoch_cause_ = "restart";
  }
  leaps_->Restore(mine(ledger.leaps), mine(ledger.snapshots), mine(ledger.candidates), batch);
  if (!queued()) {
    core_.Event(batch, "coordinator-restarted",
                "training went on meanwhile; waits for its agents to reconnect");
    ShowState(batch);
  }
}

}  // namespace leap::machine
