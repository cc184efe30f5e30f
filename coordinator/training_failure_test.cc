// Training that comes to NaN again and again, under rules without a limit: the job ends when
// nothing changes from one time to the next, and only then.
#include "absl/strings/str_cat.h"
#include "coordinator/paper_cluster.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

class TrainingFailureTest : public ::testing::Test {
 protected:
  explicit TrainingFailureTest(int64_t budget = 0)
      : cluster_(1, {.workers = 3, .verifiers = 0, .change = [budget](JobSpec& spec) {
                       spec.leap.enabled = false;
                       spec.failure.insert(spec.failure.begin(), {.role = "training",
                                                                  .cause = "nan-loss",
                                                                  .action = "ignore",
                                                                  .budget = budget});
                     }}) {
    cluster_.set_ears([this](const std::string& agent, const v1::AgentMessage& message) {
      v1::AgentMessage said = message;
      if (said.has_epoch_ready()) said.mutable_epoch_ready()->set_step(step_);
      return PaperCluster::Said{{agent, said}};
    });
    cluster_.Play(5);
  }

  // Rank 0 comes to NaN; what becomes of the job.
  machine::JobRecord NotANumber() {
    v1::AgentMessage message;
    v1::JobEnded* const ended = message.mutable_job_ended();
    ended->set_job("a-1");
    ended->set_epoch(cluster_.job().record.epoch);
    ended->set_cause("nan-loss");
    ended->set_reason("step 101: the training loss is not finite");
    cluster_.Hear("w0", message);
    cluster_.Play(5);
    return cluster_.job().record;
  }

  int64_t step_ = 100;  // at which each epoch begins
  PaperCluster cluster_;
};

TEST_F(TrainingFailureTest, TheThirdTimeInARowIsTheLast) {
  EXPECT_EQ(NotANumber().state, machine::JobState::kRunning);
  EXPECT_EQ(NotANumber().state, machine::JobState::kRunning);
  const machine::JobRecord end = NotANumber();
  EXPECT_EQ(end.state, machine::JobState::kFailed);
  EXPECT_THAT(
      end.state_reason,
      HasSubstr("step 101: the training loss is not finite; 3 times in a row training came "
                "to this from step 100 with nothing changed, so it would for ever; mend the "
                "cause and submit again"));
}

TEST_F(TrainingFailureTest, StepsThatWereTrainedAreAChange) {
  for (int i = 0; i < 10; ++i) {
    ++step_;
    EXPECT_EQ(NotANumber().state, machine::JobState::kRunning) << i;
  }
}

TEST_F(TrainingFailureTest, AnotherWorkerIsAChange) {
  NotANumber();
  NotANumber();
  cluster_.Kill("w1");
  cluster_.Play(40);  // w2 has its rank
  EXPECT_EQ(NotANumber().state, machine::JobState::kRunning);
  EXPECT_EQ(NotANumber().state, machine::JobState::kRunning);
  EXPECT_EQ(NotANumber().state, machine::JobState::kFailed);
}

class WithABudget : public TrainingFailureTest {
 protected:
  WithABudget() : TrainingFailureTest(5) {}
};

TEST_F(WithABudget, TheJobFileDecides) {
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(NotANumber().state, machine::JobState::kRunning) << i;
  }
  EXPECT_THAT(NotANumber().state_reason, HasSubstr("nan-loss (5) is used up"));
}

}  // namespace
}  // namespace leap
