// Whose pieces of predictor state a new epoch goes on from. Each rank of the old epoch offers what
// its ring held: its own shard and the next rank's. Pure: values in, a plan with its reason out,
// the same at every rank.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/layout.h"

namespace leap {

// S_t of a range together with its anchor: θ_t, or θ̂ of the leap that was applied since t.
struct StateOffer {
  int rank = 0;
  int source = 0;       // which of the rank's sources: 0 is its newest
  bool next = false;    // the next rank's shard, not its own
  int64_t step = -1;    // t
  uint64_t leap = 0;    // 0: the anchor is θ_t
  bool here = false;    // the weights that the epoch goes on from are θ_t
  uint64_t digest = 0;  // of state and anchor
  FlatRange range;
};

struct StatePlan {
  int64_t step = -1;  // -1: the state starts over, and `reason` says why
  uint64_t leap = 0;
  bool advance = false;            // to the weights that the epoch goes on from
  std::vector<StateOffer> pieces;  // disjoint, in order, together the whole vector
  std::string reason;
};

// `winner`: a rank whose weights the epoch goes on from. Its newest state counts; if that is not
// complete because only some ranks took the snapshot that the epoch begins at, the one before,
// advanced once more. Nothing offered by the winner: no state, and an empty reason.
StatePlan PlanState(std::span<const StateOffer> offers, int winner, int64_t size);

}  // namespace leap
