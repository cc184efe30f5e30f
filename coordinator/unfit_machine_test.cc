// A machine that cannot do a rank's work (its disk is full, the text is not there) costs the job
// nothing while another rank holds its state: it is put aside, and another one takes its place.
#include <string>

#include "coordinator/paper_cluster.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

class UnfitMachine : public ::testing::Test {
 protected:
  explicit UnfitMachine(int workers = 3, int min_replicas = 2)
      : cluster_(1, {.workers = workers, .verifiers = 0, .change = [=](JobSpec& spec) {
                       spec.leap.enabled = false;
                       spec.workers.min_replicas = min_replicas;
                     }}) {}

  // From now on this one says, instead of being ready, that it cannot.
  void CannotJoin(const std::string& agent) {
    cluster_.set_ears([agent](const std::string& who, const v1::AgentMessage& message) {
      if (who != agent || !message.has_epoch_ready()) return PaperCluster::Said{{who, message}};
      const v1::EpochReady& ready = message.epoch_ready();
      return PaperCluster::Said{{who, Stopped(ready.epoch(), ready.rank())}};
    });
  }
  static v1::AgentMessage Stopped(uint64_t epoch, int rank) {
    v1::AgentMessage message;
    v1::JobEnded* const ended = message.mutable_job_ended();
    ended->set_job("a-1");
    ended->set_epoch(epoch);
    ended->set_rank(rank);
    ended->set_cause("internal");
    ended->set_reason("cannot write /corpus: No space left on device");
    return message;
  }
  std::string StateOf(const std::string& agent) {
    for (const machine::AgentView& view : cluster_.machine().ListAgents()) {
      if (view.agent == agent) return view.state;
    }
    return "";
  }

  PaperCluster cluster_;
};

TEST_F(UnfitMachine, ThatIsToReplaceALostOneIsPutAside) {
  cluster_.Play(45);
  CannotJoin("w2");
  cluster_.Kill("w1");
  cluster_.Play(100);
  EXPECT_EQ(cluster_.job().record.state, machine::JobState::kRecovering);
  EXPECT_EQ(StateOf("w2"), "quarantined");
  EXPECT_THAT(
      cluster_.events(),
      Contains("worker-quarantined: w2: rank 1 stopped (internal): cannot write /corpus: No "
               "space left on device; mend it and start it again"));
  ASSERT_FALSE(cluster_.job().waits.empty());
  EXPECT_THAT(cluster_.job().waits.front().reason,
              HasSubstr("1 of 2 is here (w1 is lost, w2 is in quarantine)"));

  cluster_.AddAgent("w3", v1::ROLE_WORKER);
  cluster_.Play(100);
  EXPECT_EQ(cluster_.job().record.state, machine::JobState::kRunning);
}

TEST_F(UnfitMachine, ThatFailsInMidTrainingIsReplaced) {
  cluster_.Play(45);
  cluster_.Hear("w1", Stopped(1, 1));
  cluster_.Play(100);
  EXPECT_EQ(cluster_.job().record.state, machine::JobState::kRunning);
  EXPECT_EQ(cluster_.job().record.epoch, 2u);
  EXPECT_EQ(StateOf("w1"), "quarantined");
  EXPECT_EQ(StateOf("w2"), "assigned");
}

TEST_F(UnfitMachine, AtTheStartIsTheJobsFaultForNobodyHoldsItsStateYet) {
  CannotJoin("w1");
  cluster_.Play(45);
  EXPECT_EQ(cluster_.job().record.state, machine::JobState::kFailed);
  EXPECT_THAT(cluster_.job().record.state_reason, HasSubstr("rank 1 stopped (internal)"));
  EXPECT_NE(StateOf("w1"), "quarantined");
}

class UnfitPair : public UnfitMachine {
 protected:
  UnfitPair() : UnfitMachine(2, 1) {}
};

// What both of them come to is not the machines'.
TEST_F(UnfitPair, TheLastOneThatHoldsTheStateEndsTheJob) {
  cluster_.Play(45);
  cluster_.Hear("w1", Stopped(1, 1));
  cluster_.Play(100);
  ASSERT_EQ(cluster_.job().record.state, machine::JobState::kRunning) << "with one of two";
  cluster_.Hear("w0", Stopped(2, 0));
  cluster_.Play(1);
  EXPECT_EQ(cluster_.job().record.state, machine::JobState::kFailed);
  EXPECT_THAT(cluster_.job().record.state_reason, HasSubstr("rank 0 stopped (internal)"));
}

}  // namespace
}  // namespace leap
