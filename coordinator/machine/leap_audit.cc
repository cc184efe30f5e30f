// Whether a leap lasted: the retained-gain audit, and the undoing of a leap that did harm.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/machine/leap_machine.h"

namespace leap::machine {
namespace {

// A policy of which so many leaps had to be undone is switched off: training is to get on.
constexpr int kMostUndone = 3;

}  // namespace

// ---- retained gain ----

void LeapMachine::OpenAudit(const LeapRecord& leap, Batch& batch) {
  const LeapSpec& spec = core_.spec().leap;
  if (spec.audit_every_leaps <= 0 || applied_count_ % spec.audit_every_leaps != 0) return;
  const HeldSnapshot* const base = book_.Find(leap.base_step);
  if (base == nullptr) return;
  if (!base->record.has_moments) {
    core_.Event(batch, "audit-skipped",
                absl::StrCat("leap ", leap.leap, ": its base has no moments to train on from"),
                Severity::kWarning);
    return;
  }
  if (audits_.Begin(
          {.leap = leap.leap,
           .target_position = base->record.data_position + kAuditIntervals * spec.interval_steps,
           .base_loss = base->record.gate_loss,
           .base_step = leap.base_step})) {
    StartAudits(batch);
  }
}

// One verifier is kept for the baselines, except where the ring forgets the base too soon to wait
// for one.
void LeapMachine::StartAudits(Batch& batch) {
  const int keeps = core_.spec().leap.ring_depth > kAuditIntervals + 1 ? 0 : 1;
  for (const auto& audit : audits_.TakeStartable(std::max(board_.size() - 1, keeps))) {
    board_.Add({.kind = Task::Kind::kAudit, .base_step = audit.base_step, .leap = audit.leap});
  }
  Dispatch(batch);
}

void LeapMachine::SettleAudits(Batch& batch) {
  for (const SettledAudit& audit : audits_.TakeSettled()) {
    LeapRecord& leap = leaps_[audit.leap];
    leap.retained_gain = audit.gain;
    leap.retained_known = true;
    batch.Write(leap);
    const AuditSummary summary = audits_.Summary(core_.spec().leap.audit_z);
    core_.record.leaps.audit = summary.sentence;
    batch.WriteJob(core_.id());
    batch.Count(Metric::kAudits, {AuditVerdictName(summary.verdict)});
    core_.Event(batch, "audit",
                absl::StrFormat("leap %d retained %+.6f nats; %s", audit.leap, audit.gain,
                                summary.sentence));
    if (summary.verdict == AuditVerdict::kHarms && !core_.record.leaps.policy_off) {
      SwitchOff(summary.sentence, batch);
    }
    UndoIfHarmful(audit, batch);
  }
}

// ---- undoing ----

const LeapRecord* LeapMachine::Undoing() const {
  for (const auto& [number, leap] : leaps_) {
    if (leap.state == LeapState::kRollingBack) return &leap;
  }
  return nullptr;
}

uint64_t LeapMachine::NewestUndoable(int64_t checkpoint_step) const {
  if (core_.spec().leap.rollback_bound <= 0) return 0;
  uint64_t newest = 0;
  for (const auto& [number, leap] : leaps_) {
    if (leap.state == LeapState::kApplied && leap.boundary_step > checkpoint_step) newest = number;
  }
  return newest;
}

// The decision exists once this row is durable; only then is an epoch made that carries it out.
void LeapMachine::UndoIfHarmful(const SettledAudit& audit, Batch& batch) {
  const double bound = core_.spec().leap.rollback_bound;
  LeapRecord leap = leaps_.at(audit.leap);
  const bool applied = leap.state == LeapState::kApplied && !undo_proposed_.has_value();
  if (bound <= 0 || !applied || !(audit.gain < -bound * audit.base_loss)) return;
  leap.reason = absl::StrFormat(
      "leap %d is undone: it retained %+.6f nats, worse than the bound of %+.6f "
      "(leap.rollback_bound is %g of the loss before it)",
      leap.leap, audit.gain, -bound * audit.base_loss, bound);
  if (core_.training_ended) return KeepAfterAll(leap, "training has ended", batch);
  leap.state = LeapState::kRollingBack;
  if (!batch.Planted(Mutation::kUndoBeforeDurable)) batch.Write(leap);
  batch.WriteJob(core_.id());
  batch.Decide({.kind = Decision::Kind::kUndoLeap, .job = core_.id(), .leap = leap.leap});
  undo_proposed_ = std::move(leap);
}

void LeapMachine::StartUndoing(const Decision& decision, bool ok, absl::string_view error,
                               Batch& batch) {
  const std::optional<LeapRecord> proposed = std::exchange(undo_proposed_, std::nullopt);
  if (!proposed.has_value() || proposed->leap != decision.leap) return;
  LeapRecord& leap = leaps_.at(decision.leap);
  if (leap.state != LeapState::kApplied) return;
  if (!ok) {
    leap.reason = proposed->reason;
    return KeepAfterAll(leap, absl::StrCat("the ledger cannot be written: ", error), batch);
  }
  leap = *proposed;
  core_.Event(batch, "rollback", leap.reason, Severity::kWarning);
  int undone = 1;
  for (const auto& [number, other] : leaps_) {
    undone += other.state == LeapState::kRolledBack && other.retained_known;
  }
  if (undone >= kMostUndone && !core_.record.leaps.policy_off) {
    SwitchOff(absl::StrCat(undone, " leaps had to be undone"), batch);
  }
}

// The leap was to be undone and is not: it stays part of the weights.
void LeapMachine::KeepAfterAll(LeapRecord& leap, const std::string& why, Batch& batch) {
  leap.state = LeapState::kApplied;
  absl::StrAppend(&leap.reason, "; it could not be undone: ", why);
  leaps_[leap.leap] = leap;
  batch.Write(leap);
  batch.WriteJob(core_.id());
  core_.Event(batch, "rollback-impossible", leap.reason, Severity::kWarning);
}

void LeapMachine::StopUndoing(Batch& batch) {
  undo_proposed_.reset();
  const LeapRecord* const undoing = Undoing();
  if (undoing != nullptr) KeepAfterAll(leaps_.at(undoing->leap), "the job ended first", batch);
}

void LeapMachine::SwitchOff(const std::string& reason, Batch& batch) {
  core_.record.leaps.policy_off = true;
  core_.record.policy_off_reason = reason;
  core_.Event(batch, "policy-off", reason, Severity::kWarning);
  batch.WriteJob(core_.id());
}

}  // namespace leap::machine
