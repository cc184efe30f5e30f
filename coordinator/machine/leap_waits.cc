// What leaps wait for (LeapMachine::AddWaits), as far as it is known here: the rest is the job's.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/machine/leap_machine.h"

namespace leap::machine {
namespace {

// By what the planner said stands against leaping.
const char* ResolutionOf(VerdictReason reason) {
  switch (reason) {
    case VerdictReason::kWarmup:
      return "training gets there by itself";
    case VerdictReason::kRegime:
      return "the regime changes, as the next snapshots will tell, or the job file's leap.regimes "
             "lists this one";
    case VerdictReason::kHorizonTooShort:
      return "verdicts come sooner (more verifiers), or the job file has longer horizons";
    case VerdictReason::kPolicyOff:
      return "nothing: training goes on without leaps";
    default:
      return "the next snapshot is planned for anew";
  }
}

}  // namespace

std::string LeapMachine::NamesOf(const std::vector<int>& ranks) const {
  return absl::StrJoin(ranks, ", ", [&](std::string* out, int rank) {
    absl::StrAppend(out, "rank ", rank, " (", core_.group.members()[rank].agent, ")");
  });
}

// "v0 at the baseline of step 50, v1 at a candidate of step 50".
std::string LeapMachine::BusyVerifiers() const {
  std::vector<std::string> busy;
  for (const auto& [name, scorer] : board_.verifiers()) {
    if (scorer.task == 0) continue;
    busy.push_back(absl::StrCat(name, " at the ", TaskKindName(scorer.item.kind), " of step ",
                                scorer.item.base_step));
  }
  return absl::StrJoin(busy, ", ");
}

void LeapMachine::AddFlightWait(std::vector<Wait>& waits) const {
  if (!flight_.has_value()) return;
  const LeapRecord& leap = flight_->leap();
  const int world = core_.group.world_size();
  Wait wait{.what = "votes", .since = flight_->begun(), .until = flight_->deadline()};
  if (!flight_->asked() && flight_->preparing()) {
    wait.what = "ledger";
    wait.reason = absl::StrCat("leap ", leap.leap, " is being written to the ledger");
    wait.resolution = "it is durable, or the leap is dropped";
  } else if (flight_->preparing()) {
    wait.reason = absl::StrCat("leap ", leap.leap, " from step ", leap.base_step,
                               " waits for the votes of ", NamesOf(flight_->Missing(world)));
    wait.resolution =
        "they vote; after timeouts.commit_seconds, or at the next snapshot, the leap "
        "is aborted";
  } else {
    wait.what = "outcome";
    wait.reason = absl::StrCat("leap ", leap.leap, " from step ", leap.base_step,
                               " is decided; waits to hear at which boundary ",
                               NamesOf(flight_->Silent(world)), " applied it");
    wait.resolution =
        "they report it, or that the next snapshot came first; the decision is said "
        "again after timeouts.commit_seconds";
  }
  waits.push_back(std::move(wait));
}

void LeapMachine::AddRoundWait(std::vector<Wait>& waits) const {
  const int64_t interval = core_.spec().leap.interval_steps;
  const auto incomplete = book_.NewestIncomplete(core_.group.world_size());
  const bool scoring = round_.has_value() && !round_->judged &&
                       (round_->baseline.empty() || round_->outstanding > 0) &&
                       (board_.Waiting() || board_.busy() > 0);
  if (incomplete.has_value()) {
    waits.push_back({.what = "snapshot",
                     .reason = absl::StrCat("the snapshot at step ", incomplete->step,
                                            " is not complete: waits for the shard of ",
                                            NamesOf(incomplete->missing)),
                     .resolution = "it is reported, or the next snapshot takes its place",
                     .since = incomplete->since});
  } else if (scoring) {
    absl::Time since = absl::InfiniteFuture(), until = absl::InfiniteFuture();
    for (const auto& [name, scorer] : board_.verifiers()) {
      if (scorer.task == 0) continue;
      since = std::min(since, scorer.given);
      until = std::min(until, scorer.deadline);
    }
    const std::string busy = BusyVerifiers();
    waits.push_back(
        {.what = "scores",
         .reason = absl::StrCat("the snapshot at step ", round_->base_step,
                                " is being scored: ", busy.empty() ? "nobody is at it" : busy, "; ",
                                board_.waiting(), " more tasks wait for a free verifier"),
         .resolution = "results come in; a task past its deadline goes to another verifier; more "
                       "verifiers are faster",
         .since = since == absl::InfiniteFuture() ? absl::InfinitePast() : since,
         .until = until});
  } else {
    const HeldSnapshot* const newest = book_.Newest();
    waits.push_back(
        {.what = "snapshot",
         .reason = absl::StrCat("the next snapshot: one is taken every ", interval,
                                " steps; training is at step ", core_.group.step()),
         .resolution = "training gets there by itself",
         .since = newest == nullptr ? core_.group.formed_time : newest->record.create_time});
  }
}

void LeapMachine::AddWaits(std::vector<Wait>& waits) const {
  if (const LeapRecord* const undoing = Undoing(); undoing != nullptr) {
    waits.push_back({.what = "rollback",
                     .reason = undoing->reason,
                     .resolution = "the next epoch begins before that leap"});
  }
  AddFlightWait(waits);
  const LeapSpec& leap = core_.spec().leap;
  if (!leap.enabled) return;
  if (core_.record.leaps.policy_off) {
    waits.push_back(
        {.what = "policy-off",
         .reason = absl::StrCat("leaps are switched off: ", core_.record.policy_off_reason),
         .resolution = "nothing: training goes on without leaps; another policy takes "
                       "another job"});
    return;
  }
  if (!leap.commit) {
    waits.push_back({.what = "observing",
                     .reason = "the policy only observes: leap.commit is false",
                     .resolution = "nothing: a job whose file says leap.commit: true commits",
                     .since = core_.record.start_time});
  }
  if (!pause_reason_.empty()) {
    waits.push_back({.what = "policy",
                     .reason = absl::StrCat("no candidate is tried: ", pause_reason_),
                     .resolution = ResolutionOf(pause_)});
  }
  if (board_.size() > 0) AddRoundWait(waits);
}

std::string LeapMachine::Unfinished() const {
  std::vector<std::string> parts;
  if (flight_.has_value())
    parts.push_back(absl::StrCat("the outcome of leap ", flight_->leap().leap));
  if (board_.busy() > 0) parts.push_back(BusyVerifiers());
  if (board_.Waiting())
    parts.push_back(absl::StrCat(board_.waiting(), " tasks that nobody has yet"));
  const HeldSnapshot* const newest = book_.Newest();
  if (audits_.Open(newest == nullptr ? 0 : newest->record.data_position)) {
    parts.push_back("an audit");
  }
  return absl::StrJoin(parts, ", ");
}

}  // namespace leap::machine
