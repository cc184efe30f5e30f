#include "coordinator/machine/leap_flight.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

namespace leap::machine {
namespace {

bool Hearsay(const LeapOutcome& outcome) { return outcome.applied && outcome.weights_digest == 0; }

}  // namespace

LeapFlight::Tally LeapFlight::Count(const PrepareVote& vote, int world_size) {
  if (!vote.ok) {
    reason_ = absl::StrFormat("rank %d cannot prepare: %s", vote.rank, vote.reason);
    return Tally::kAbort;
  }
  votes_[vote.rank] = vote.shard_digest;
  if (static_cast<int>(votes_.size()) < world_size) return Tally::kWait;
  uint64_t sum = 0;
  for (const auto& [rank, digest] : votes_) sum += digest;
  if (sum == leap_.candidate_digest) return Tally::kCommit;
  reason_ = absl::StrFormat("digest mismatch: the ranks computed %016x, verifier %s scored %016x",
                            sum, leap_.verifier, leap_.candidate_digest);
  return Tally::kMismatch;
}

std::vector<int> LeapFlight::Missing(int world_size) const {
  std::vector<int> missing;
  for (int rank = 0; rank < world_size; ++rank) {
    if (!votes_.contains(rank)) missing.push_back(rank);
  }
  return missing;
}

std::vector<int> LeapFlight::Silent(int world_size) const {
  std::vector<int> silent;
  for (int rank = 0; rank < world_size; ++rank) {
    if (!outcomes_.contains(rank)) silent.push_back(rank);
  }
  return silent;
}

LeapFlight::Fate LeapFlight::Count(const LeapOutcome& outcome, int world_size) {
  outcomes_.try_emplace(outcome.rank, outcome);
  return Settle(world_size);
}

void LeapFlight::HearApplied(int world_size) {
  for (int rank = 0; rank < world_size; ++rank) {
    outcomes_.try_emplace(rank, LeapOutcome{.leap = leap_.leap, .rank = rank, .applied = true});
  }
}

LeapFlight::Fate LeapFlight::Settle(int world_size) {
  reason_ = Disagreement(world_size);
  if (!reason_.empty()) return Fate::kDisagree;
  if (static_cast<int>(outcomes_.size()) < world_size) return Fate::kWait;
  return outcomes_.begin()->second.applied ? Fate::kApplied : Fate::kExpired;
}

std::string LeapFlight::Disagreement(int world_size) const {
  const LeapOutcome* seen = nullptr;
  uint64_t sum = 0;
  int detailed = 0;
  for (const auto& [rank, outcome] : outcomes_) {
    if (outcome.applied != outcomes_.begin()->second.applied) {
      return absl::StrFormat("leap %d: rank %d says %s, rank %d says otherwise", leap_.leap, rank,
                             outcome.applied ? "applied" : "expired", outcomes_.begin()->first);
    }
    if (!outcome.applied || Hearsay(outcome)) continue;
    sum += outcome.shard_digest;
    ++detailed;
    if (seen != nullptr && (outcome.boundary_step != seen->boundary_step ||
                            outcome.weights_digest != seen->weights_digest)) {
      return absl::StrFormat(
          "leap %d: rank %d applied it at step %d (digest %016x), rank %d at step %d (%016x)",
          leap_.leap, rank, outcome.boundary_step, outcome.weights_digest, seen->rank,
          seen->boundary_step, seen->weights_digest);
    }
    seen = &outcome;
  }
  const bool complete = seen != nullptr && detailed == world_size;
  if (complete && sum != seen->weights_digest) {
    return absl::StrFormat("leap %d: the shards add up to %016x, the weights are %016x", leap_.leap,
                           sum, seen->weights_digest);
  }
  if (seen != nullptr && leap_.commit_rule == "replace" &&
      seen->weights_digest != leap_.candidate_digest) {
    return absl::StrFormat("leap %d: the weights became %016x, not %016x that was verified",
                           leap_.leap, seen->weights_digest, leap_.candidate_digest);
  }
  return "";
}

std::optional<bool> LeapFlight::SaidApplied() const {
  if (outcomes_.empty()) return std::nullopt;
  return std::ranges::any_of(outcomes_, [](const auto& entry) { return entry.second.applied; });
}

void LeapFlight::FillOutcome() {
  for (const auto& [rank, outcome] : outcomes_) {
    if (!outcome.applied || Hearsay(outcome)) continue;
    leap_.boundary_step = outcome.boundary_step;
    leap_.step_after = outcome.step;
    leap_.weights_digest = outcome.weights_digest;
    leap_.pause_seconds = std::max(leap_.pause_seconds, outcome.pause_seconds);
  }
}

}  // namespace leap::machine
