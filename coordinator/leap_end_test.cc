// A job that ends while a decided leap is open: the ledger says of the leap what the ranks have
// said, and that it does not know where they have said nothing. They may have applied it.
#include <string>

#include "coordinator/paper_cluster.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using machine::LeapState;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class LeapAtTheEnd : public ::testing::Test {
 protected:
  // A leap is decided, and the coordinator does not hear what becomes of it.
  void DecideALeap() {
    cluster_.set_ears([this](const std::string& agent, const v1::AgentMessage& message) {
      if (!message.has_leap_outcome()) return PaperCluster::Said{{agent, message}};
      outcome_ = message;
      return PaperCluster::Said{};
    });
    while (cluster_.committed().empty()) cluster_.Play(1);
    ASSERT_EQ(cluster_.leap().state, LeapState::kCommitted);
  }

  // One of the two ranks is heard after all.
  void Rank1Says(bool applied) {
    outcome_.mutable_leap_outcome()->set_applied(applied);
    outcome_.mutable_leap_outcome()->set_rank(1);
    cluster_.Hear("w1", outcome_);
  }

  v1::AgentMessage Ended(bool ok) {
    v1::AgentMessage message;
    v1::JobEnded* const ended = message.mutable_job_ended();
    ended->set_job("a-1");
    ended->set_epoch(cluster_.job().record.epoch);
    ended->set_ok(ok);
    if (!ok) ended->set_cause("nan-loss");
    return message;
  }

  v1::AgentMessage outcome_;
  PaperCluster cluster_{1};
};

TEST_F(LeapAtTheEnd, IsNotKnownIfNobodyHasSaidWhatBecameOfIt) {
  DecideALeap();
  cluster_.Cancel();
  EXPECT_EQ(cluster_.job().record.state, machine::JobState::kCancelled);
  EXPECT_EQ(cluster_.leap().state, LeapState::kCommitted);
  EXPECT_THAT(cluster_.leap().reason, HasSubstr("the job ended before any rank said"));
  EXPECT_THAT(cluster_.events(), Contains(StartsWith("leap-unsettled: leap 1: decided; the job")));
  EXPECT_EQ(cluster_.job().record.leaps.booked_steps, 0);
}

TEST_F(LeapAtTheEnd, IsNotKnownEitherIfTheJobFails) {
  DecideALeap();
  cluster_.Hear("w0", Ended(/*ok=*/false));
  EXPECT_EQ(cluster_.job().record.state, machine::JobState::kFailed);
  EXPECT_EQ(cluster_.leap().state, LeapState::kCommitted);
}

// All apply it at one boundary, or none does: one word is enough.
TEST_F(LeapAtTheEnd, IsAppliedIfOneRankSaysSo) {
  DecideALeap();
  Rank1Says(/*applied=*/true);
  cluster_.Cancel();
  EXPECT_EQ(cluster_.leap().state, LeapState::kApplied);
}

TEST_F(LeapAtTheEnd, HasExpiredIfOneRankDroppedIt) {
  DecideALeap();
  Rank1Says(/*applied=*/false);
  cluster_.Cancel();
  EXPECT_EQ(cluster_.leap().state, LeapState::kExpired);
  EXPECT_THAT(cluster_.leap().reason, HasSubstr("a rank dropped it"));
}

// Who trained to the end says which leap is the last in its weights.
TEST_F(LeapAtTheEnd, IsSettledByRanksThatHaveTrainedToTheEnd) {
  DecideALeap();
  for (int rank = 0; rank < 2; ++rank) {
    v1::AgentMessage ended = Ended(/*ok=*/true);
    ended.mutable_job_ended()->set_rank(rank);
    ended.mutable_job_ended()->set_last_leap(1);
    cluster_.Hear(rank == 0 ? "w0" : "w1", ended);
  }
  EXPECT_EQ(cluster_.leap().state, LeapState::kApplied);
}

// Of an epoch that ends: the state that the next one begins with says what became of it; where it
// does not have it, a leap that a rank had applied is rolled back, and has not expired.
TEST_F(LeapAtTheEnd, IsRolledBackIfWhatARankHadAppliedIsLost) {
  DecideALeap();
  Rank1Says(/*applied=*/true);
  cluster_.set_ears([](const std::string& agent, const v1::AgentMessage& message) {
    v1::AgentMessage said = message;
    if (said.has_epoch_ready()) {
      said.mutable_epoch_ready()->set_last_leap(0);
      said.mutable_epoch_ready()->set_leaps_applied(0);
    }
    return PaperCluster::Said{{agent, said}};
  });
  cluster_.AddAgent("w2", v1::ROLE_WORKER);
  cluster_.Kill("w1");
  while (cluster_.job().record.epoch == 1) cluster_.Play(1);
  cluster_.Play(2);
  const machine::LeapRecord& leap = cluster_.machine().Machine("a-1")->leaps().leaps().at(1);
  EXPECT_EQ(leap.state, LeapState::kRolledBack);
  EXPECT_THAT(leap.reason, HasSubstr("the run went back to step"));
  EXPECT_EQ(leap.booked_steps, 0);
}

TEST_F(LeapAtTheEnd, IsAbortedIfItWasNeverDecided) {
  cluster_.set_ears([](const std::string& agent, const v1::AgentMessage& message) {
    return message.has_prepare_vote() ? PaperCluster::Said{} : PaperCluster::Said{{agent, message}};
  });
  while (cluster_.leap().leap == 0) cluster_.Play(1);
  cluster_.Cancel();
  EXPECT_EQ(cluster_.leap().state, LeapState::kAborted);
}

}  // namespace
}  // namespace leap
