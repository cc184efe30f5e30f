// One leap on its way, from PREPARE to what became of it: collects the ranks' votes and outcomes
// and says what they add up to. At most one is in flight per job. It sends nothing and writes
// nothing; LeapMachine does, by its answers.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/machine/message.h"
#include "coordinator/machine/record.h"

namespace leap::machine {

class LeapFlight {
 public:
  // `leap` in state PREPARING (not decided) or COMMITTED (back from the ledger).
  LeapFlight(LeapRecord leap, absl::Time now) : leap_(std::move(leap)), begun_(now) {}

  LeapRecord& leap() { return leap_; }
  const LeapRecord& leap() const { return leap_; }
  bool preparing() const { return leap_.state == LeapState::kPreparing; }
  absl::Time begun() const { return begun_; }

  // The ranks are being asked; until then no vote is expected.
  void Ask(absl::Time deadline) {
    asked_ = true;
    deadline_ = deadline;
  }
  bool asked() const { return asked_; }
  absl::Time deadline() const { return deadline_; }
  void set_deadline(absl::Time deadline) { deadline_ = deadline; }

  // Counts a rank's vote. kCommit: every rank recomputed its shard, and the shards add up to the
  // digest that was verified.
  enum class Tally { kWait, kCommit, kAbort, kMismatch };
  Tally Count(const PrepareVote& vote, int world_size);
  bool Voted(int rank) const { return votes_.contains(rank); }
  std::vector<int> Missing(int world_size) const;  // ranks that have not voted

  std::vector<int> Silent(int world_size) const;  // ranks that have not said what became of it

  // Counts what became of the decided leap on a rank. The first word of a rank counts.
  enum class Fate { kWait, kApplied, kExpired, kDisagree };
  Fate Count(const LeapOutcome& outcome, int world_size);
  // The ranks agree that it was applied, without details (a snapshot says so).
  void HearApplied(int world_size);
  Fate Settle(int world_size);
  // What the ranks heard of so far say (one boundary, so one answer); nothing: no word yet.
  std::optional<bool> SaidApplied() const;
  // Boundary, digest and pause from the outcomes into the record.
  void FillOutcome();

  const std::string& reason() const { return reason_; }  // of kAbort, kMismatch, kDisagree

 private:
  std::string Disagreement(int world_size) const;

  LeapRecord leap_;
  absl::Time begun_;
  bool asked_ = false;
  absl::Time deadline_ = absl::InfiniteFuture();
  std::map<int, uint64_t> votes_;        // by rank: shard digests
  std::map<int, LeapOutcome> outcomes_;  // by rank; weights_digest 0: hearsay
  std::string reason_;
};

}  // namespace leap::machine
