#include "engine/state_plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace leap {
namespace {

// The pieces of (step, leap) that cover the whole vector; none, and why, if they do not.
StatePlan Cover(std::span<const StateOffer> offers, int64_t step, uint64_t leap, int64_t size) {
  StatePlan plan{.step = step, .leap = leap};
  int64_t end = 0;
  while (end < size) {
    const StateOffer* found = nullptr;
    for (const StateOffer& offer : offers) {
      const bool fits = offer.step == step && offer.leap == leap && offer.range.begin == end &&
                        offer.range.end > end;
      if (!fits) continue;
      if (found != nullptr && found->range == offer.range && found->digest != offer.digest) {
        return {.reason = absl::StrCat("ranks ", found->rank, " and ", offer.rank,
                                       " hold different state of step ", step, " for floats [", end,
                                       ", ", offer.range.end, ")")};
      }
      if (found == nullptr) found = &offer;
    }
    if (found == nullptr) {
      return {.reason = absl::StrCat("no rank holds the state of step ", step,
                                     " for the floats from ", end, " of ", size, " on")};
    }
    plan.pieces.push_back(*found);
    end = found->range.end;
  }
  return plan;
}

}  // namespace

StatePlan PlanState(std::span<const StateOffer> offers, int winner, int64_t size) {
  const StateOffer* newest = nullptr;
  const StateOffer* before = nullptr;
  for (const StateOffer& offer : offers) {
    if (offer.rank != winner || offer.next) continue;
    if (offer.source == 0) newest = &offer;
    if (newest != nullptr && offer.step < newest->step) before = &offer;
  }
  if (newest == nullptr) return {};
  StatePlan plan = Cover(offers, newest->step, newest->leap, size);
  if (!plan.pieces.empty() || !newest->here || before == nullptr) return plan;
  StatePlan older = Cover(offers, before->step, before->leap, size);
  if (older.pieces.empty()) return plan;
  older.advance = true;
  return older;
}

}  // namespace leap
