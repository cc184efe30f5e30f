// The snapshots of one job's epoch: puts the ranks' shards together, remembers which complete ones
// the rings still hold, and who else has fetched them. A snapshot counts only when every rank of
// the epoch reported its shard.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/machine/corruption.h"
#include "coordinator/machine/group.h"
#include "coordinator/machine/message.h"
#include "coordinator/machine/record.h"

namespace leap::machine {

struct HeldSnapshot {
  SnapshotRecord record;
  std::vector<ShardSource> verifiers;  // whole copies, in the order in which they were fetched
};

// What a rank's report led to.
struct ShardAdded {
  HeldSnapshot* complete = nullptr;  // this report completed it
  std::string
      problem;  // the shards do not fit together (our own bug, or a broken rank); else empty
  std::optional<Corruption> corruption;
};

class SnapshotBook {
 public:
  // `ring_depth`: how many the ranks keep. `interval_steps`: Δ.
  SnapshotBook(int64_t ring_depth, int64_t interval_steps)
      : depth_(ring_depth), interval_(interval_steps) {}

  // A shard of a member of `group`'s epoch, whose rank was checked. Reports of a step that is
  // complete or given up are ignored. Pointers stay good until the next Add or Clear.
  ShardAdded Add(const SnapshotTaken& shard, const Group& group, absl::string_view job,
                 absl::Time now);

  // The newest snapshot that some ranks have reported and others not.
  struct Incomplete {
    int64_t step = 0;
    absl::Time since = absl::InfinitePast();  // the first report
    std::vector<int> missing;                 // ranks
  };
  std::optional<Incomplete> NewestIncomplete(int world_size) const;

  HeldSnapshot* Newest() { return held_.empty() ? nullptr : &held_.back(); }
  const HeldSnapshot* Newest() const { return held_.empty() ? nullptr : &held_.back(); }
  HeldSnapshot* Find(int64_t step);
  // How many of the newest are consecutive (Δ apart on the trajectory), the newest included.
  int Consecutive() const;
  // `count` snapshots, the one at `step` first, then older ones in order.
  std::vector<SnapshotRef> Refs(int64_t step, int count) const;
  // A verifier has fetched the whole snapshot at `step`.
  void AddHolder(int64_t step, absl::string_view data_address);
  void RemoveHolder(absl::string_view data_address);

  // The epoch is over: its rings are no longer what they were.
  void Clear();
  // Back from the ledger, oldest first, all of the standing epoch.
  void Restore(std::vector<SnapshotRecord> records);

 private:
  struct Partial {
    std::map<int, SnapshotTaken> shards;  // by rank
    absl::Time since = absl::InfinitePast();
  };
  static SnapshotRef RefOf(const HeldSnapshot& held);

  int64_t depth_;
  int64_t interval_;
  std::map<int64_t, Partial> partial_;  // by step; at most depth_
  std::deque<HeldSnapshot> held_;       // by rising step; at most depth_
};

}  // namespace leap::machine
