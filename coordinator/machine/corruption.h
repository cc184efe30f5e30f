// Silent corruption: at every snapshot each rank digests its own shard, the next rank's and a third
// one's in turn, all from its own replica of the weights. Replicas are equal, so two digests of one
// shard that differ mean that a bit has flipped in somebody's memory; whoever is left out to make
// all others agree is the one. Two opinions of a shard have two suspects: nobody can tell.
// Pure; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "coordinator/machine/message.h"

namespace leap::machine {

struct Corruption {
  int odd_rank = -1;   // -1: cannot be told
  std::string reason;  // "rank 2 digests shard 0 differently from ranks 0 and 1"
};

// `shards`: what every rank of the epoch reported of one snapshot, by rank. Empty: all agree.
std::optional<Corruption> FindCorruption(const std::map<int, SnapshotTaken>& shards);

}  // namespace leap::machine
