// A coordinator that stands still for longer than a lease (a slow disk, a machine that sleeps,
// SIGSTOP) finds its clock far ahead and its agents unheard. They were not silent: it did not
// listen.
#include "coordinator/paper_cluster.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class StoodStillTest : public ::testing::Test {
 protected:
  StoodStillTest() { cluster_.Play(5); }
  void LongerThanEveryLease() { cluster_.StandStill(absl::Minutes(10)); }

  PaperCluster cluster_{1};
};

TEST_F(StoodStillTest, TakesNobodyForLost) {
  ASSERT_EQ(cluster_.job().record.state, machine::JobState::kRunning);
  LongerThanEveryLease();
  cluster_.Play(20);
  EXPECT_EQ(cluster_.job().record.epoch, 1U);
  EXPECT_EQ(cluster_.job().record.leaps.verifiers, 2);
  EXPECT_THAT(cluster_.events(), Not(Contains(HasSubstr("no sign of life"))));
}

// One of two was heard before the first tick: the other one looked like a minority that is gone.
TEST_F(StoodStillTest, TakesNobodyForLostThoughAnotherWasHeardFirst) {
  LongerThanEveryLease();
  v1::AgentMessage beat;
  beat.mutable_heartbeat()->set_job("a-1");
  beat.mutable_heartbeat()->set_epoch(1);
  cluster_.Hear("w0", beat);
  cluster_.Play(20);
  EXPECT_EQ(cluster_.job().record.epoch, 1U);
}

TEST_F(StoodStillTest, StillFindsWhoIsSilentFromThenOn) {
  LongerThanEveryLease();
  cluster_.Stop("w1");
  cluster_.Play(60);
  EXPECT_THAT(cluster_.events(), Contains(StartsWith("worker-lost: rank 1 (w1): no sign of life")));
}

TEST(StoodStillWhileAnEpochForms, NobodyIsLate) {
  PaperCluster cluster(1);
  cluster.set_ears([](const std::string& agent, const v1::AgentMessage& message) {
    return message.has_epoch_ready() ? PaperCluster::Said{} : PaperCluster::Said{{agent, message}};
  });
  cluster.Play(3);
  ASSERT_EQ(cluster.job().record.state, machine::JobState::kStarting);
  cluster.StandStill(absl::Hours(1));
  cluster.Play(2);
  EXPECT_EQ(cluster.job().record.state, machine::JobState::kStarting);
  EXPECT_EQ(cluster.job().record.epoch, 1U);
}

}  // namespace
}  // namespace leap
