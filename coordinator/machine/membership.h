// Who makes up a job's main group: pure functions of (now, what is known, options), each with its
// reason.
//
// Presence of a member of the last epoch:
//   alive   its session is open and its lease fresh
//   away    its session closed, its lease is still fresh: it may come back, so it is waited for
//   silent  its lease is over and nothing else is known: dead, stopped, or cut off from us (maybe
//           not from its peers)
//   dead    known to be gone: another process has its name, it said Goodbye, it was expelled, or
//           its machine closed the session and a peer's collective failed (should that one come
//           back before a new epoch, it is what it was)
// Dead by lease or by a collective's error, whichever is first; a closed session alone is no death.
//
// The guard (protocol.md, "network splits the group"; docs/decisions, "The coordinator has the
// casting vote"): a new epoch needs survivors * 2 >= members of the last epoch that are not dead.
// In a tie the coordinator's side goes ahead. A silent group is never replaced by a group of
// strangers: if nobody who holds the job's state is here and somebody silent may hold it, the job
// waits, at most `silent_death`, after which silence is taken for death.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/machine/wait.h"

namespace leap::machine {

enum class Presence { kAlive, kAway, kSilent, kDead };
const char* PresenceName(Presence presence);

// A member of the last epoch, in order of rank.
struct FormerMember {
  std::string agent;
  uint64_t incarnation = 0;
  Presence presence = Presence::kAlive;
  bool live = false;    // holds the job's state: was ready in an epoch, and not released since
  bool closed = false;  // its machine closed the session (it was not mere silence)
  absl::Time last_seen = absl::InfinitePast();  // last sign of life, or when the session closed
};

// Somebody who can take a rank.
struct Spare {
  std::string agent;
  uint64_t incarnation = 0;
};

struct MembershipState {
  int replicas = 1;
  int min_replicas = 1;
  std::vector<FormerMember> former;  // empty: the job's first epoch
  std::vector<Spare> spares;  // the best first: idle workers, then verifiers that can stand in
  absl::Time broken = absl::InfinitePast();  // since when there is no group
};

struct MembershipOptions {
  bool replace = true;   // fill the rank of a lost member; false: shrink at once
  absl::Duration grace;  // how long to wait for a replacement before going on with fewer
  absl::Duration
      reconnect_grace;  // how long to wait for a closed session while a live member is here
  absl::Duration silent_death;
  bool guard = true;  // false only as a planted bug
};

struct Seat {
  std::string agent;
  uint64_t incarnation = 0;
  bool live = false;
};

struct MembershipDecision {
  bool form = false;        // false: wait
  std::vector<Seat> seats;  // form: in order of rank
  bool from_checkpoint = false;
  std::string reason;  // form: what changed
  Wait wait;           // not form: for what
};

// The next epoch's members while no epoch stands.
MembershipDecision DecideMembers(absl::Time now, const MembershipState& state,
                                 const MembershipOptions& options);

// An epoch that stands: must it be given up?
struct StandingEpoch {
  std::vector<FormerMember> members;
  std::optional<absl::Time> collective_failed;  // when a rank first reported it
};
struct BreakDecision {
  bool broken = false;
  std::vector<int> lost;     // ranks, as indices into members; empty: nobody is known to be lost
  std::string cause;         // "worker-lost" | "collective-failed"
  std::string reason;        // broken: why
  std::optional<Wait> wait;  // not broken: what is amiss; nothing: all is well
};
BreakDecision DecideBreak(absl::Time now, const StandingEpoch& epoch,
                          absl::Duration collective_grace, bool guard = true);

// An epoch that stands with fewer ranks than the job asks for, and idle workers: why it should make
// place for them now; empty: not yet, or never. A new epoch costs a moment of training, so it has
// to stand for `grow_after` first: workers that come one by one are let in together.
struct SmallEpoch {
  int world_size = 0;
  int replicas = 0;
  int idle_workers = 0;
  absl::Time formed = absl::InfinitePast();
};
std::string DecideGrow(absl::Time now, const SmallEpoch& epoch, absl::Duration grow_after);

}  // namespace leap::machine
