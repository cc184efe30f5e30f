#include "engine/state_plan.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kSize = 30;

// Rank r of three holds shard r and the next one's, of the state at `step`.
void Offer(std::vector<StateOffer>& offers, int rank, int64_t step, int source = 0,
           bool here = false, uint64_t leap = 0) {
  for (const bool next : {false, true}) {
    const int64_t shard = next ? (rank + 1) % 3 : rank;
    offers.push_back({.rank = rank,
                      .source = source,
                      .next = next,
                      .step = step,
                      .leap = leap,
                      .here = here,
                      .digest = static_cast<uint64_t>(100 * step + shard),
                      .range = {10 * shard, 10 * shard + 10}});
  }
}

std::vector<int> RanksOf(const StatePlan& plan) {
  std::vector<int> ranks;
  for (const StateOffer& piece : plan.pieces) ranks.push_back(piece.rank);
  return ranks;
}

TEST(PlanState, ANeighbourStandsInForALostRank) {
  std::vector<StateOffer> offers;
  Offer(offers, 0, 40);
  Offer(offers, 2, 40);
  const StatePlan without_1 = PlanState(offers, 0, kSize);
  EXPECT_EQ(without_1.step, 40);
  EXPECT_THAT(RanksOf(without_1), testing::ElementsAre(0, 0, 2));
}

TEST(PlanState, TwoLostNeighboursAreTooMany) {
  std::vector<StateOffer> offers;
  Offer(offers, 0, 40);
  const StatePlan plan = PlanState(offers, 0, kSize);
  EXPECT_THAT(plan.pieces, IsEmpty());
  EXPECT_THAT(plan.reason, HasSubstr("no rank holds the state of step 40 for the floats from 20"));
}

TEST(PlanState, DifferentBitsOfOneShardAreNotUsed) {
  std::vector<StateOffer> offers;
  for (const int rank : {0, 1, 2}) Offer(offers, rank, 40);
  offers[2].digest += 1;  // rank 1's own
  EXPECT_THAT(PlanState(offers, 0, kSize).reason, HasSubstr("ranks 0 and 1 hold different state"));
}

// Rank 0 took the snapshot that the epoch begins at; the others were interrupted before.
TEST(PlanState, TheOneBeforeIsAdvancedIfOnlySomeTookTheNewest) {
  std::vector<StateOffer> offers;
  Offer(offers, 0, 50, 0, /*here=*/true);
  Offer(offers, 0, 40, 1);
  Offer(offers, 1, 40);
  Offer(offers, 2, 40);
  const StatePlan plan = PlanState(offers, 0, kSize);
  EXPECT_EQ(plan.step, 40);
  EXPECT_TRUE(plan.advance);
}

TEST(PlanState, ALeapThatTheWinnerAppliedIsTakenFromWhoHeldIt) {
  std::vector<StateOffer> offers;
  Offer(offers, 0, 40, 0, false, /*leap=*/7);
  Offer(offers, 1, 40);                        // has not applied it
  Offer(offers, 1, 40, 1, false, /*leap=*/7);  // but holds it
  Offer(offers, 2, 40, 0, false, /*leap=*/7);
  const StatePlan plan = PlanState(offers, 0, kSize);
  EXPECT_EQ(plan.leap, 7U);
  EXPECT_FALSE(plan.pieces.empty());
}

TEST(PlanState, NothingOfferedIsNoStateAndNoFault) {
  const StatePlan plan = PlanState({}, 0, kSize);
  EXPECT_THAT(plan.pieces, IsEmpty());
  EXPECT_EQ(plan.reason, "");
}

}  // namespace
}  // namespace leap
