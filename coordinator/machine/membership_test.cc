#include "coordinator/machine/membership.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap::machine {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const absl::Time kFormed = absl::FromUnixSeconds(1000);
constexpr absl::Duration kGrowAfter = absl::Seconds(10);

std::string Grow(int world_size, int idle, absl::Duration age = kGrowAfter) {
  return DecideGrow(
      kFormed + age,
      {.world_size = world_size, .replicas = 4, .idle_workers = idle, .formed = kFormed},
      kGrowAfter);
}

TEST(DecideGrow, MakesPlaceForAsManyAsTheJobAsksFor) {
  EXPECT_EQ(Grow(2, 1), "grows from 2 to 3 of 4 main workers: 1 came free");
  EXPECT_THAT(Grow(2, 9), HasSubstr("to 4 of 4"));
}

TEST(DecideGrow, AFullGroupOrNobodyIdleStaysAsItIs) {
  EXPECT_THAT(Grow(4, 3), IsEmpty());
  EXPECT_THAT(Grow(3, 0), IsEmpty());
}

TEST(DecideGrow, AnEpochStandsForAWhileFirst) {
  EXPECT_THAT(Grow(2, 2, kGrowAfter - absl::Milliseconds(1)), IsEmpty());
  EXPECT_THAT(Grow(2, 2, kGrowAfter), Not(IsEmpty()));
}

// v0 stood in for w1, which has been back for a while, and is started again.
TEST(DecideMembers, AWorkerThatWaitsTakesTheRankOfAVerifierThatLeaves) {
  const FormerMember w0{.agent = "w0", .incarnation = 1, .live = true};
  const FormerMember v0{.agent = "v0", .incarnation = 2, .presence = Presence::kDead, .live = true};
  const MembershipDecision decision = DecideMembers(
      kFormed,
      {.replicas = 2, .former = {w0, v0}, .spares = {{"w1", 3}, {"v1", 4}}, .broken = kFormed}, {});
  ASSERT_TRUE(decision.form);
  EXPECT_EQ(decision.reason, "2 main workers, new: w1, state from a peer");
}

}  // namespace
}  // namespace leap::machine
