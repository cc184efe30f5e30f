// Commit of a leap and what it saved (protocol.md, "The cycle", steps 6 to 8). Whether it lasted:
// leap_audit.cc; the ledger after a recovery or a restart: leap_restore.cc.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/machine/leap_machine.h"

namespace leap::machine {
namespace {

constexpr int kFewestPoints = 3;  // of the loss curve, for a slope

}  // namespace

std::string LeapMachine::PredictorName(int predictor) const {
  const PredictorSpec& spec = core_.spec().leap.predictors[predictor];
  return spec.form.empty() ? spec.name : absl::StrCat(spec.name, ":", spec.form);
}

const LeapRecord* LeapMachine::Find(uint64_t leap) const {
  const auto found = leaps_.find(leap);
  return found == leaps_.end() ? nullptr : &found->second;
}

Prepare LeapMachine::PrepareOf(const LeapRecord& leap) const {
  return {.job = core_.id(),
          .epoch = leap.epoch,
          .leap = leap.leap,
          .base_step = leap.base_step,
          .predictor = leap.predictor_index,
          .horizon_steps = leap.horizon_steps,
          .scales = leap.scales};
}

void LeapMachine::SendToRanks(const CoordinatorMessage& message, Batch& batch) {
  for (const GroupMember& member : core_.group.members()) {
    batch.Send(member.agent, member.incarnation, message);
  }
}

// ---- PREPARE ----

void LeapMachine::BeginLeap(const Scored& best, Batch& batch) {
  const HeldSnapshot& base = *book_.Find(round_->base_step);
  LeapRecord leap{
      .job = core_.id(),
      .leap = next_leap_++,
      .epoch = core_.group.epoch(),
      .base_step = base.record.step,
      .base_digest = base.record.weights_digest,
      .predictor_index = best.key.predictor,
      .predictor = PredictorName(best.key.predictor),
      .horizon_steps = best.key.horizon_steps,
      .scales = best.scales,
      .reason = best.verdict.sentence,
      .candidate_digest = best.digest,
      .promised_difference = best.verdict.difference,
      .commit_rule = core_.spec().leap.commit_rule == CommitRule::kReplace ? "replace" : "rebase",
      .verifier = best.verifier,
      .create_time = batch.now()};
  leaps_[leap.leap] = leap;
  batch.Write(leap);
  batch.Decide({.kind = Decision::Kind::kPrepareLeap, .job = core_.id(), .leap = leap.leap});
  flight_.emplace(std::move(leap), batch.now());
  if (batch.Planted(Mutation::kPrepareBeforeDurable))
    SendToRanks(PrepareOf(flight_->leap()), batch);
}

void LeapMachine::OnDurable(const Decision& decision, bool ok, absl::string_view error,
                            Batch& batch) {
  if (decision.kind == Decision::Kind::kUndoLeap) {
    return StartUndoing(decision, ok, error, batch);
  }
  if (!flight_.has_value() || flight_->leap().leap != decision.leap || !flight_->preparing())
    return;
  if (!ok) return Abort(absl::StrCat("the ledger cannot be written: ", error), batch);
  LeapRecord& leap = flight_->leap();
  const absl::Duration timeout = absl::Seconds(core_.spec().timeouts.commit_seconds);
  if (decision.kind == Decision::Kind::kPrepareLeap) {
    flight_->Ask(batch.now() + timeout);
    return SendToRanks(PrepareOf(leap), batch);
  }
  leap.state = LeapState::kCommitted;
  leaps_[leap.leap] = leap;
  RecountTotals();
  flight_->set_deadline(batch.now() + timeout);
  SendToRanks(Decide{core_.id(), leap.epoch, leap.leap, true, leap.reason}, batch);
}

void LeapMachine::OnVote(const Agent& agent, const PrepareVote& vote, Batch& batch) {
  const bool counted = flight_.has_value() && (vote.leap == flight_->leap().leap ||
                                               batch.Planted(Mutation::kCountStaleVotes));
  if (!counted) return batch.SendStale(agent, core_.id(), core_.group.epoch(), "prepare-vote");
  if (!flight_->preparing()) return;  // said again
  const int world = core_.group.world_size();
  LeapFlight::Tally tally = flight_->Count(vote, world);
  const int votes = world - static_cast<int>(flight_->Missing(world).size());
  if (batch.Planted(Mutation::kCommitOnMajority) && votes * 2 > world)
    tally = LeapFlight::Tally::kCommit;
  if (batch.Planted(Mutation::kIgnoreVoteDigests) && tally == LeapFlight::Tally::kMismatch) {
    tally = LeapFlight::Tally::kCommit;
  }
  if (tally == LeapFlight::Tally::kWait) return;
  if (tally == LeapFlight::Tally::kCommit) return ProposeCommit(batch);
  if (tally == LeapFlight::Tally::kMismatch) BlameForMismatch(batch);
  Abort(flight_->reason(), batch);
}

// ---- COMMIT ----

// The decision exists once this row is durable; only then do the ranks hear of it.
void LeapMachine::ProposeCommit(Batch& batch) {
  LeapRecord decided = flight_->leap();
  decided.state = LeapState::kCommitted;
  batch.Write(decided);
  batch.Decide({.kind = Decision::Kind::kCommitLeap, .job = core_.id(), .leap = decided.leap});
  if (batch.Planted(Mutation::kCommitBeforeDurable)) {
    SendToRanks(Decide{core_.id(), decided.epoch, decided.leap, true, decided.reason}, batch);
  }
}

void LeapMachine::CloseFlight(LeapState state, std::string reason, Batch& batch) {
  LeapRecord leap = flight_->leap();
  leap.state = state;
  leap.reason = std::move(reason);
  flight_.reset();
  leaps_[leap.leap] = leap;
  batch.Write(std::move(leap));
  RecountTotals();
  batch.WriteJob(core_.id());
}

void LeapMachine::Abort(std::string reason, Batch& batch) {
  const LeapRecord leap = flight_->leap();
  const bool asked = flight_->asked();
  CloseFlight(LeapState::kAborted, reason, batch);
  batch.Count(Metric::kLeaps, {"aborted"});
  core_.Event(batch, "leap-aborted",
              absl::StrCat("leap ", leap.leap, " from step ", leap.base_step, ": ", reason),
              Severity::kWarning);
  if (asked) SendToRanks(Decide{core_.id(), leap.epoch, leap.leap, false, reason}, batch);
}

// The ranks' shards do not add up to what the verifier says it scored. The verifier is suspected
// first; when a second one in a row is contradicted, it is more likely that the ranks' own state
// differs from everybody's, and no leap can be trusted.
void LeapMachine::BlameForMismatch(Batch& batch) {
  const std::string verifier = flight_->leap().verifier;
  if (!mismatch_verifier_.empty() && mismatch_verifier_ != verifier) {
    return SwitchOff(absl::StrCat("the ranks contradict verifier ", verifier, " as they did ",
                                  mismatch_verifier_, " before: ", flight_->reason()),
                     batch);
  }
  mismatch_verifier_ = verifier;
  Quarantine(verifier, "digest", flight_->reason(), batch);
}

// ---- outcome ----

void LeapMachine::OnOutcome(const Agent& agent, const LeapOutcome& outcome, Batch& batch) {
  const bool current =
      flight_.has_value() && !flight_->preparing() && flight_->leap().leap == outcome.leap;
  if (current) {
    return Settle(flight_->Count(outcome, core_.group.world_size()), batch);
  }
  const LeapRecord* const known = Find(outcome.leap);
  const bool applied = known != nullptr && known->state == LeapState::kApplied;
  if (known != nullptr && outcome.applied == applied)
    return;  // said again, or an answer to an abort
  batch.SendStale(agent, core_.id(), core_.group.epoch(), "leap-outcome");
}

void LeapMachine::OnRankEnded(const JobEnded& ended, Batch& batch) {
  if (!flight_.has_value()) return;
  if (flight_->preparing()) return Abort("training ended before every rank had voted", batch);
  const uint64_t leap = flight_->leap().leap;
  const LeapOutcome outcome{.leap = leap, .rank = ended.rank, .applied = ended.last_leap == leap};
  Settle(flight_->Count(outcome, core_.group.world_size()), batch);
}

void LeapMachine::Settle(LeapFlight::Fate fate, Batch& batch) {
  switch (fate) {
    case LeapFlight::Fate::kWait:
      return;
    case LeapFlight::Fate::kApplied:
      return Applied(batch);
    case LeapFlight::Fate::kExpired:
      return Expired("the next snapshot came before every rank held the decision", batch);
    case LeapFlight::Fate::kDisagree:
      // An error of our own. The epoch ends; what the ranks then agree on is what became of the
      // leap.
      if (alarm_.has_value()) return;
      core_.Event(batch, "leap-disagreement", flight_->reason(), Severity::kError);
      SwitchOff(flight_->reason(), batch);
      alarm_ = Alarm{.reason = flight_->reason()};
      return;
  }
}

void LeapMachine::Applied(Batch& batch) {
  flight_->FillOutcome();
  LeapRecord& leap = flight_->leap();
  CountSavings(leap);
  const uint64_t number = leap.leap;
  const absl::Time begun = flight_->begun();
  const std::string reason = leap.reason;
  CloseFlight(LeapState::kApplied, reason, batch);
  const LeapRecord& applied = leaps_.at(number);
  mismatch_verifier_.clear();
  ++applied_count_;
  batch.Count(Metric::kLeaps, {"applied"});
  batch.Count(Metric::kCommitSeconds, {}, absl::ToDoubleSeconds(batch.now() - begun));
  batch.Count(Metric::kPauseSeconds, {}, applied.pause_seconds);
  core_.Event(batch, "leap-applied",
              absl::StrFormat("leap %d (%s, K = %d) from step %d applied at step %d: promised "
                              "%+.6f nats, paused %.1f ms",
                              number, applied.predictor, applied.horizon_steps, applied.base_step,
                              applied.boundary_step, applied.promised_difference,
                              1e3 * applied.pause_seconds));
  OpenAudit(applied, batch);
}

void LeapMachine::Expired(const std::string& reason, Batch& batch) {
  const uint64_t number = flight_->leap().leap;
  CloseFlight(LeapState::kExpired, reason, batch);
  batch.Count(Metric::kLeaps, {"expired"});
  core_.Event(batch, "leap-expired", absl::StrCat("leap ", number, ": ", reason),
              Severity::kWarning);
}

// Three ways (core/savings.h). An unknown boundary counts as δ = 0 discarded steps only for
// `rebase`, which discards none.
void LeapMachine::CountSavings(LeapRecord& leap) {
  const LeapSpec& spec = core_.spec().leap;
  const int64_t age = std::max<int64_t>(leap.boundary_step - leap.base_step, 0);
  leap.booked_steps = static_cast<double>(leap.horizon_steps);
  if (spec.commit_rule == CommitRule::kReplace) {
    leap.net_steps = static_cast<double>(leap.horizon_steps - age);
  } else {
    leap.net_steps = spec.advance_step ? static_cast<double>(leap.horizon_steps) : 0;
  }
  std::vector<LossPoint> untouched;
  for (const SnapshotRecord& record : history_) {
    if (record.scored && record.applied_leap == 0)
      untouched.push_back({record.step, record.gate_loss});
  }
  // A policy that leaps in every interval leaves none untouched; then the whole curve has to do.
  const bool enough = untouched.size() >= kFewestPoints;
  const std::optional<double> steps =
      EquivalentSteps(enough ? untouched : curve_, leap.base_step, -leap.promised_difference);
  leap.equivalent_known = steps.has_value();
  leap.equivalent_steps = steps.value_or(0);
}

void LeapMachine::RecountTotals() {
  LeapSummary& summary = core_.record.leaps;
  summary.committed = summary.aborted = summary.rolled_back = 0;
  summary.booked_steps = summary.net_steps = summary.equivalent_steps = 0;
  summary.equivalent_known = false;
  for (const auto& [number, leap] : leaps_) {
    const bool decided = leap.state != LeapState::kPreparing && leap.state != LeapState::kAborted;
    if (leap.state == LeapState::kRolledBack) summary.net_steps += leap.net_steps;
    summary.committed += decided;
    summary.aborted += leap.state == LeapState::kAborted;
    summary.rolled_back += leap.state == LeapState::kRolledBack;
    if (leap.state != LeapState::kApplied && leap.state != LeapState::kRollingBack) continue;
    summary.booked_steps += leap.booked_steps;
    summary.net_steps += leap.net_steps;
    summary.equivalent_steps += leap.equivalent_steps;
    summary.equivalent_known = summary.equivalent_known || leap.equivalent_known;
  }
}

void LeapMachine::OnJobEnded(Batch& batch) {
  StopUndoing(batch);
  if (!flight_.has_value()) return;
  if (flight_->preparing()) return Abort("the job ended", batch);
  const std::optional<bool> applied = flight_->SaidApplied();
  if (applied.value_or(false)) return Applied(batch);
  if (applied.has_value() || batch.Planted(Mutation::kExpireAtEnd)) {
    return Expired("a rank dropped it before every rank held the decision", batch);
  }
  const uint64_t number = flight_->leap().leap;
  const std::string reason =
      "decided; the job ended before any rank said whether it had applied it or dropped it";
  CloseFlight(LeapState::kCommitted, reason, batch);
  core_.Event(batch, "leap-unsettled", absl::StrCat("leap ", number, ": ", reason),
              Severity::kWarning);
}

}  // namespace leap::machine
