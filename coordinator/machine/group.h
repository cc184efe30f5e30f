// The main group of one job: which epoch it is in, who is in it, and how far the forming of it has
// come. Bookkeeping only; what to do about it is JobMachine's business, by the rules of
// membership.h.
//
//      kNone --propose--> kProposed --durable--> kForming --all ready and equal--> kFormed
//                            ^  |not durable        | loss, time-out, unequal         | loss,
//                            error, rollback |  v                   v v kBroken
//                            <----------------------------------------------------
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/machine/membership.h"
#include "coordinator/machine/message.h"
#include "coordinator/machine/record.h"
#include "coordinator/machine/registry.h"

namespace leap::machine {

struct GroupMember {
  std::string agent;
  uint64_t incarnation = 0;
  Role role =
      Role::kWorker;  // what it said in its Hello; a verifier here is a spare that took a rank
  std::string data_address;
  std::string store_address;
  bool live = false;      // holds the job's state
  bool dead = false;      // known to be gone (membership.h)
  bool expelled = false;  // its state is corrupt: dead, also if it comes back
  bool ended = false;     // said JobEnded(ok) in this epoch
  std::optional<EpochReady> ready;
  int64_t step = 0;  // newest heard
};

class Group {
 public:
  enum class Phase { kNone, kProposed, kForming, kFormed, kBroken };

  Phase phase() const { return phase_; }
  bool Formed() const { return phase_ == Phase::kFormed; }
  // An epoch that ranks have been told of stands or is being formed.
  bool Stands() const { return phase_ == Phase::kForming || phase_ == Phase::kFormed; }
  uint64_t epoch() const { return epoch_; }
  bool from_checkpoint() const { return from_checkpoint_; }
  // The leap before which the epoch begins if its ranks kept that state; 0: none.
  uint64_t undo_leap() const { return undo_leap_; }
  const std::vector<GroupMember>& members() const { return members_; }
  std::vector<GroupMember>& members() { return members_; }
  int world_size() const { return static_cast<int>(members_.size()); }
  // Newest step any member of the epoch reported.
  int64_t step() const;

  GroupMember* Find(absl::string_view agent, uint64_t incarnation);
  const GroupMember* Find(absl::string_view agent, uint64_t incarnation) const;
  // -1 if not a member.
  int RankOf(absl::string_view agent, uint64_t incarnation) const;

  // A new epoch with these members (in order of rank), not yet durable.
  void Propose(std::vector<GroupMember> members, bool from_checkpoint, uint64_t undo_leap,
               bool reuse_number);
  // Its row is durable: the ranks are being told.
  void StartForming(absl::Time deadline);
  // The proposal could not be written: back to `former`, the members before it. Its number is not
  // used again.
  void TakeBack(std::vector<GroupMember> former);
  bool AllReady() const;
  // Why the ranks' reports do not fit together; empty: they do.
  std::string Disagreement() const;
  void Form();
  void Break(absl::Time now);

  // A rank's collective failed; the first report counts.
  void CollectiveFailed(absl::Time now);
  // The coordinator stood still for so long: whoever is waited for gets as much longer.
  void StoodStill(absl::Duration gap);
  bool collective_failed() const { return collective_failed_.has_value(); }

  absl::Time deadline() const { return deadline_; }  // of kForming
  absl::Time broken() const { return broken_; }      // since when there is no group
  int failures() const { return failures_; }         // epochs in a row that never formed

  // Every member's session is open and its lease fresh, and no collective failed: there is nothing
  // to decide.
  bool Healthy(const AgentRegistry& agents, absl::Time now, absl::Duration lease) const;
  // What the pure rules look at.
  std::vector<FormerMember> Presences(const AgentRegistry& agents, absl::Time now,
                                      absl::Duration lease) const;
  StandingEpoch Standing(const AgentRegistry& agents, absl::Time now, absl::Duration lease) const;

  // The epoch's row as of now, and back from it.
  EpochRecord Row(absl::string_view job) const;
  void Restore(const EpochRecord& row, absl::Time now);

  std::string reason;       // of the epoch, for its row
  int64_t formed_step = 0;  // what the ranks agreed on when it formed
  int64_t leaps_applied = 0;
  uint64_t weights_digest = 0;
  absl::Time create_time = absl::InfinitePast();
  absl::Time formed_time = absl::InfinitePast();

 private:
  Phase phase_ = Phase::kNone;
  uint64_t epoch_ = 0;
  bool from_checkpoint_ = false;
  uint64_t undo_leap_ = 0;
  std::vector<GroupMember> members_;
  std::optional<absl::Time> collective_failed_;
  absl::Time deadline_ = absl::InfiniteFuture();
  absl::Time broken_ = absl::InfinitePast();
  int failures_ = 0;
};

}  // namespace leap::machine
