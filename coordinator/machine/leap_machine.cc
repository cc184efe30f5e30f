// Entry points, snapshots and tasks. Verdicts: leap_verdict.cc; commit and savings: leap_commit.cc;
// audits and undoing: leap_audit.cc; the ledger after a recovery: leap_restore.cc.
#include "coordinator/machine/leap_machine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"

namespace leap::machine {
namespace {

constexpr size_t kHistory = 256;
constexpr uint64_t kTaskIdBlock = 1000;  // task ids reserved with each row of the job

std::vector<PredictorNeeds> NeedsOf(const LeapSpec& spec) {
  std::vector<PredictorNeeds> needs;
  for (const PredictorSpec& predictor : spec.predictors) {
    const auto made = MakePredictor(predictor, spec.interval_steps);
    Check(made.ok(), "LeapMachine: a predictor of the spec was not validated");
    needs.push_back((*made)->needs());
  }
  return needs;
}

}  // namespace

LeapMachine::LeapMachine(JobCore& core, uint64_t seed)
    : core_(core),
      needs_(NeedsOf(core.spec().leap)),
      planner_(core.spec().leap, seed),
      regimes_(core.spec().regime),
      book_(core.spec().leap.ring_depth, core.spec().leap.interval_steps) {
  next_task_ = std::max<uint64_t>(core.record.task_ids_reserved, 1);
}

// ---- the group ----

void LeapMachine::OnEpochFormed(const EpochReady& ready, Batch& batch) {
  Reconcile(ready, batch);
  if (flight_.has_value() && flight_->preparing()) {  // only as a planted bug
    flight_->leap().epoch = core_.group.epoch();
    SendToRanks(PrepareOf(flight_->leap()), batch);
  }
  Dispatch(batch);
}

void LeapMachine::OnEpochBroken(absl::string_view reason, Batch& batch) {
  if (flight_.has_value() && flight_->preparing() &&
      !batch.Planted(Mutation::kKeepLeapAcrossEpochs)) {
    Abort(absl::StrCat("the epoch ended: ", reason), batch);
  }
  for (const TaskBoard::Dropped& dropped : board_.Drop([](const WorkItem&) { return true; })) {
    batch.Count(Metric::kTasks, {TaskKindName(dropped.item.kind), "superseded"});
    batch.Send(dropped.agent, board_.Find(dropped.agent)->incarnation,
               CancelTask{core_.id(), core_.group.epoch(), dropped.task, "the epoch ended"});
  }
  round_.reset();
  book_.Clear();
  audits_.DropAll();
  // What the ranks had come to: if the next epoch goes back, the difference is trained again.
  core_.record.progress.step = std::max(core_.record.progress.step, core_.group.step());
}

void LeapMachine::ResyncRank(const Agent& agent, int rank, Batch& batch) {
  if (flight_.has_value() && flight_->asked() && flight_->preparing()) {
    if (!flight_->Voted(rank)) batch.Send(agent, PrepareOf(flight_->leap()));
    return;
  }
  if (leaps_.empty()) return;
  const LeapRecord& last = leaps_.rbegin()->second;
  if (last.epoch != core_.group.epoch()) return;
  const bool committed = flight_.has_value() && last.state == LeapState::kCommitted;
  if (!committed && last.state != LeapState::kAborted) return;
  batch.Send(agent, Decide{core_.id(), last.epoch, last.leap, committed, last.reason});
}

// ---- verifiers ----

void LeapMachine::AddVerifier(const Agent& agent, Batch& batch) {
  board_.AddVerifier(agent.name, agent.incarnation, agent.data_address);
  StartAudits(batch);
}

void LeapMachine::RemoveVerifier(absl::string_view agent) {
  const Scorer* const scorer = board_.Find(agent);
  if (scorer == nullptr) return;
  book_.RemoveHolder(scorer->data_address);
  board_.RemoveVerifier(agent);
}

void LeapMachine::ResyncVerifier(const Agent& agent, Batch& batch) {
  const Scorer* const scorer = board_.Find(agent.name);
  if (scorer == nullptr || scorer->task == 0) return;
  const double seconds = absl::ToDoubleSeconds(scorer->deadline - batch.now());
  std::optional<Task> task = BuildTask(scorer->item, scorer->task, std::max(seconds, 0.0));
  if (task.has_value()) batch.Send(agent, *std::move(task));
}

bool LeapMachine::Quiet() const {
  if (board_.size() == 0) return true;
  const HeldSnapshot* const newest = book_.Newest();
  return !audits_.Open(newest == nullptr ? 0 : newest->record.data_position) &&
         board_.Idle([](const WorkItem& item) { return item.kind == Task::Kind::kBaseline; });
}

// ---- snapshots ----

void LeapMachine::OnSnapshotTaken(const SnapshotTaken& shard, Batch& batch) {
  batch.Count(Metric::kSnapshotSeconds, {}, shard.snapshot_seconds);
  if (!core_.group.Formed()) return;  // not everybody has reported ready: the next one will do
  const ShardAdded added = book_.Add(shard, core_.group, core_.id(), batch.now());
  if (!added.problem.empty()) {
    core_.Event(batch, "snapshot-refused", added.problem, Severity::kError);
    alarm_ = Alarm{.reason = added.problem};
    return;
  }
  if (added.complete == nullptr) return;
  if (added.corruption.has_value() && !batch.Planted(Mutation::kIgnoreCorruption)) {
    alarm_ = Alarm{.reason = absl::StrCat("silent corruption at step ", shard.step, ": ",
                                          added.corruption->reason),
                   .expel_rank = added.corruption->odd_rank,
                   .back_to_checkpoint = added.corruption->odd_rank < 0,
                   .agreed_step = history_.empty() ? -1 : history_.back().step};
    return;
  }
  const SnapshotRecord& record = added.complete->record;
  core_.record.progress.step = std::max(core_.record.progress.step, record.step);
  history_.push_back(record);
  if (history_.size() > kHistory) history_.pop_front();
  batch.Write(record);
  batch.WriteJob(core_.id());
  if (flight_.has_value() && !flight_->preparing() && record.applied_leap == flight_->leap().leap) {
    flight_->HearApplied(core_.group.world_size());
    Settle(flight_->Settle(core_.group.world_size()), batch);
  }
  Supersede(record.step, batch);
  StartRound(*added.complete, batch);
}

// The newest snapshot is the one to leap from: what belongs to older ones ends, except audits and
// the baselines that they wait for, and a baseline that is being scored (it is telemetry, and with
// verifiers slower than Δ nothing would ever be scored otherwise).
void LeapMachine::Supersede(int64_t newest_step, Batch& batch) {
  if (flight_.has_value() && flight_->preparing()) {
    Abort("superseded: the next snapshot came first", batch);
  }
  if (round_.has_value() && !round_->judged && !round_->baseline.empty()) JudgeRound(true, batch);
  const auto candidate = [](const WorkItem& item) { return item.kind == Task::Kind::kCandidate; };
  for (const TaskBoard::Dropped& dropped : board_.Drop(candidate)) {
    batch.Count(Metric::kTasks, {TaskKindName(dropped.item.kind), "superseded"});
    batch.Send(dropped.agent, board_.Find(dropped.agent)->incarnation,
               CancelTask{core_.id(), core_.group.epoch(), dropped.task,
                          absl::StrCat("the snapshot at step ", newest_step, " came first")});
  }
  board_.DropWaiting([this](const WorkItem& item) {
    const HeldSnapshot* const held = book_.Find(item.base_step);
    return item.kind == Task::Kind::kBaseline &&
           (held == nullptr || !audits_.Awaits(held->record.data_position));
  });
  round_.reset();
  const LeapSpec& spec = core_.spec().leap;
  for (const uint64_t leap : audits_.TakeMissed(book_.Newest()->record.data_position,
                                                spec.ring_depth * spec.interval_steps)) {
    core_.Event(
        batch, "audit-missed",
        absl::StrCat("leap ", leap, ": the main run has no baseline at the step to compare"));
  }
}

void LeapMachine::StartRound(const HeldSnapshot& base, Batch& batch) {
  const SnapshotRecord& record = base.record;
  round_ = Round{.base_step = record.step, .regime = regimes_.current().regime};
  board_.Add({.kind = Task::Kind::kBaseline, .base_step = record.step});
  if (core_.spec().leap.enabled) {
    const Plan plan =
        planner_.PlanFor({.base_step = record.step,
                          .snapshots_held = book_.Consecutive(),
                          .regime = regimes_.current(),
                          .verifiers_free = std::max(board_.free() - 1, 1),
                          .policy_off = core_.record.leaps.policy_off,
                          .expected_verdict_age_steps = static_cast<int64_t>(expected_age_)});
    pause_ = plan.reason;
    pause_reason_ = plan.candidates.empty() ? plan.sentence : "";
    for (const CandidateKey& key : plan.candidates) {
      if (needs_[key.predictor].moments && !record.has_moments) continue;
      board_.Add({.kind = Task::Kind::kCandidate, .base_step = record.step, .candidate = key});
      ++round_->planned;
    }
    round_->outstanding = round_->planned;
  }
  Dispatch(batch);
}

// ---- tasks ----

void LeapMachine::Dispatch(Batch& batch) {
  if (!core_.group.Formed()) return;
  if (next_task_ + kTaskIdBlock / 2 > core_.record.task_ids_reserved) {
    core_.record.task_ids_reserved = next_task_ + kTaskIdBlock;
    batch.WriteJob(core_.id());
  }
  while (next_task_ < core_.task_ids_durable) {
    Scorer* const scorer = board_.GiveOut(next_task_, batch.now(), batch.options().task_deadline,
                                          batch.options().audit_deadline);
    if (scorer == nullptr) return;
    const double seconds = absl::ToDoubleSeconds(scorer->deadline - batch.now());
    std::optional<Task> task = BuildTask(scorer->item, next_task_, seconds);
    if (!task.has_value()) {  // its snapshot is gone from the rings
      GiveUp(*board_.Finish(scorer->agent, next_task_), batch);
      continue;
    }
    ++next_task_;
    scorer->last_base_step = std::max(scorer->last_base_step, scorer->item.base_step);
    batch.Send(scorer->agent, scorer->incarnation, *std::move(task));
    batch.Changed(core_.id());
  }
}

std::optional<Task> LeapMachine::BuildTask(const WorkItem& item, uint64_t id,
                                           double deadline_seconds) {
  const HeldSnapshot* const base = book_.Find(item.base_step);
  if (base == nullptr) return std::nullopt;
  const int64_t interval = core_.spec().leap.interval_steps;
  Task task{.job = core_.id(),
            .epoch = core_.group.epoch(),
            .task = id,
            .kind = item.kind,
            .base_step = item.base_step,
            .data_position = base->record.data_position,
            .adam_step = base->record.adam_step,
            .deadline_seconds = deadline_seconds,
            .applied = AppliedAt(base->record)};
  int snapshots = 2;  // similarity, and the state of stateful predictors, look back by one
  if (item.kind == Task::Kind::kCandidate) {
    task.predictor = item.candidate.predictor;
    task.horizon_steps = item.candidate.horizon_steps;
    snapshots = std::max(snapshots, needs_[item.candidate.predictor].snapshots);
  } else if (item.kind == Task::Kind::kAudit) {
    task.audit_steps = kAuditIntervals * interval;
    snapshots = 1;
  } else {
    task.report = true;
  }
  task.snapshots = book_.Refs(item.base_step, snapshots);
  return task;
}

AppliedLeap LeapMachine::AppliedAt(const SnapshotRecord& snapshot) const {
  const auto found = leaps_.find(snapshot.applied_leap);
  if (found == leaps_.end()) return {};
  const LeapRecord& leap = found->second;
  return {.leap = leap.leap,
          .base_step = leap.base_step,
          .predictor = leap.predictor_index,
          .horizon_steps = leap.horizon_steps,
          .scales = leap.scales};
}

void LeapMachine::GiveUp(const WorkItem& item, Batch& batch) {
  if (item.kind == Task::Kind::kAudit) {
    audits_.GiveUp(item.leap);
    core_.Event(batch, "audit-given-up",
                absl::StrCat("leap ", item.leap,
                             ": no verifier could train the fork before its base was forgotten"),
                Severity::kWarning);
    return;
  }
  if (item.kind != Task::Kind::kCandidate || !round_.has_value()) return;
  if (round_->base_step != item.base_step) return;
  --round_->outstanding;
  MaybeJudge(batch);
}

void LeapMachine::OnTick(Batch& batch) {
  for (TaskBoard::Dropped& late : board_.TakeLate(batch.now())) {
    batch.Count(Metric::kTasks, {TaskKindName(late.item.kind), "late"});
    batch.Send(late.agent, board_.Find(late.agent)->incarnation,
               CancelTask{core_.id(), core_.group.epoch(), late.task, "past its deadline"});
    if (!board_.Retry(late.item, batch.options().max_task_attempts)) GiveUp(late.item, batch);
  }
  if (flight_.has_value() && core_.group.Formed() && batch.now() >= flight_->deadline()) {
    if (flight_->preparing()) {
      Abort(absl::StrCat("no vote from rank ",
                         absl::StrJoin(flight_->Missing(core_.group.world_size()), ", "),
                         " within timeouts.commit_seconds"),
            batch);
    } else {  // decided: it can only be said again
      flight_->set_deadline(batch.now() + absl::Seconds(core_.spec().timeouts.commit_seconds));
      const LeapRecord& leap = flight_->leap();
      SendToRanks(Decide{core_.id(), leap.epoch, leap.leap, true, leap.reason}, batch);
    }
  }
  if (board_.Waiting()) Dispatch(batch);
}

}  // namespace leap::machine
