// How the ledger is put in step with the ranks after a recovery, a rollback or a restart
// (protocol.md, "Failure").
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/machine/leap_machine.h"

namespace leap::machine {
namespace {

VerdictReason ReasonNamed(absl::string_view name) {
  for (int i = 0; i <= static_cast<int>(VerdictReason::kPolicyOff); ++i) {
    if (name == VerdictReasonName(static_cast<VerdictReason>(i)))
      return static_cast<VerdictReason>(i);
  }
  return VerdictReason::kSuperseded;
}

Regime RegimeNamed(absl::string_view name) {
  for (const Regime regime : {Regime::kChaotic, Regime::kTransition, Regime::kStable}) {
    if (name == RegimeName(regime)) return regime;
  }
  return Regime::kUnknown;
}

}  // namespace

// A leap that is not part of the weights any more saved nothing.
void LeapMachine::RollBackRecord(LeapRecord& leap, const std::string& reason, Batch& batch) {
  leap.state = LeapState::kRolledBack;
  leap.reason = reason;
  leap.booked_steps = leap.net_steps = leap.equivalent_steps = 0;
  leap.equivalent_known = false;
  batch.Write(leap);
  batch.Count(Metric::kLeaps, {"rolled-back"});
  core_.Event(batch, "leap-rolled-back", absl::StrCat("leap ", leap.leap, ": ", reason),
              Severity::kWarning);
}

// What became of the leap that this epoch was to undo: the ranks' state says whether it was done.
// The steps trained since the leap are trained again: they count against it.
void LeapMachine::SettleUndo(const EpochReady& ready, Batch& batch) {
  const LeapRecord* const undoing = Undoing();
  if (undoing == nullptr) return;
  LeapRecord& undone = leaps_.at(undoing->leap);
  if (ready.last_leap >= undone.leap) {
    return KeepAfterAll(
        undone, ready.undo_problem.empty() ? "its ranks gave no reason" : ready.undo_problem,
        batch);
  }
  int64_t again = core_.record.progress.step - ready.step;
  for (auto& [number, leap] : leaps_) {
    if (number < undone.leap ||
        (leap.state != LeapState::kApplied && leap.state != LeapState::kRollingBack))
      continue;
    again -= std::max<int64_t>(leap.step_after - leap.boundary_step, 0);  // steps never trained
    if (number == undone.leap) continue;
    RollBackRecord(leap, absl::StrCat("undone together with leap ", undone.leap, ", before it"),
                   batch);
  }
  again = std::max<int64_t>(again, 0);
  RollBackRecord(undone,
                 absl::StrCat(undone.reason, "; the run went back to step ", ready.step, " and ",
                              again, " steps are trained again"),
                 batch);
  undone.net_steps = -static_cast<double>(again);
  batch.Write(undone);
}

// The state that the new epoch trains on says which leaps are part of it; the ledger follows.
void LeapMachine::Reconcile(const EpochReady& ready, Batch& batch) {
  if (flight_.has_value() && !flight_->preparing()) {
    // A rank that had applied it may be gone, and its state with it: then it is rolled back below.
    if (ready.last_leap == flight_->leap().leap || flight_->SaidApplied().value_or(false)) {
      Applied(batch);
    } else {
      Expired("the epoch ended, and the state that the new one began with does not have it", batch);
    }
  }
  SettleUndo(ready, batch);
  for (auto& [number, leap] : leaps_) {
    if (number > ready.last_leap && leap.state == LeapState::kApplied) {
      RollBackRecord(leap, absl::StrCat("the run went back to step ", ready.step, ", before it"),
                     batch);
    }
  }
  const auto last = leaps_.find(ready.last_leap);
  if (last != leaps_.end() && last->second.state != LeapState::kApplied) {
    if (last->second.state == LeapState::kAborted) {
      core_.Event(
          batch, "leap-disagreement",
          absl::StrCat("leap ", ready.last_leap, " is part of the weights, but was never decided"),
          Severity::kError);
    }
    last->second.state = LeapState::kApplied;
    last->second.reason = absl::StrCat("found applied in the state at step ", ready.step);
    batch.Write(last->second);
  }
  next_leap_ = std::max(next_leap_,
                        ready.last_leap + 1);  // the state may come from another job's checkpoint
  RecountTotals();
  batch.WriteJob(core_.id());
  DiscardAfter(ready.step, batch);
}

// Also a snapshot at that very step, if it was taken after a leap that is no longer part of it.
void LeapMachine::DiscardAfter(int64_t step, Batch& batch) {
  const auto discarded = [&](const SnapshotRecord& record) {
    const LeapRecord* const leap = Find(record.applied_leap);
    const bool without = leap != nullptr && leap->state != LeapState::kApplied;
    return record.step > step || (record.step == step && without);
  };
  if (history_.empty() || !discarded(history_.back())) return;
  while (!history_.empty() && discarded(history_.back())) {
    history_.back().discarded = true;
    batch.Write(history_.back());
    history_.pop_back();
  }
  RestoreCurve();
}

void LeapMachine::RestoreCurve() {
  curve_.clear();
  regimes_ = RegimeTracker(core_.spec().regime);
  for (const SnapshotRecord& record : history_) {
    if (!record.scored) continue;
    curve_.push_back({record.step, record.gate_loss});
    regimes_.Observe(record.step, record.similarity);
  }
}

void LeapMachine::Restore(const std::vector<LeapRecord>& leaps,
                          const std::vector<SnapshotRecord>& snapshots,
                          const std::vector<CandidateRecord>& candidates, Batch& batch) {
  for (const LeapRecord& leap : leaps) {
    leaps_[leap.leap] = leap;
    next_leap_ = std::max(next_leap_, leap.leap + 1);
    applied_count_ += leap.state == LeapState::kApplied || leap.state == LeapState::kRollingBack;
    if (leap.retained_known) audits_.Restore(leap.retained_gain);
    if (leap.state == LeapState::kRollingBack && batch.Planted(Mutation::kForgetUndoAtRestart)) {
      leaps_[leap.leap].state = LeapState::kApplied;
    }
    const bool forgotten =
        batch.Planted(Mutation::kForgetCommitAtRestart) && leap.state == LeapState::kCommitted;
    if (leap.state != LeapState::kPreparing && leap.state != LeapState::kCommitted) continue;
    flight_.emplace(leap, batch.now());
    flight_->Ask(batch.now() + absl::Seconds(core_.spec().timeouts.commit_seconds));
    if (flight_->preparing() || forgotten)
      Abort("the coordinator restarted before it was decided", batch);
  }
  if (batch.Planted(Mutation::kReuseLeapNumbers)) next_leap_ = 1;
  std::vector<SnapshotRecord> held;
  for (const SnapshotRecord& record : snapshots) {
    if (record.discarded) continue;
    while (!history_.empty() && history_.back().step >= record.step) history_.pop_back();
    history_.push_back(record);
    if (record.epoch == core_.group.epoch() && core_.group.Stands()) held.push_back(record);
  }
  book_.Restore(std::move(held));
  RestoreCurve();
  for (const CandidateRecord& record : candidates) {
    if (record.predictor_index >= static_cast<int>(needs_.size())) continue;
    planner_.Record(RegimeNamed(record.regime), {record.predictor_index, record.horizon_steps},
                    {.accepted = record.accepted, .reason = ReasonNamed(record.reason)});
  }
  expected_age_ = static_cast<double>(core_.record.leaps.verdict_age_steps);
  next_task_ = std::max<uint64_t>(core_.record.task_ids_reserved, 1);
  RecountTotals();
}

}  // namespace leap::machine
