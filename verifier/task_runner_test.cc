#include "verifier/task_runner.h"

#include <cmath>

#include "base/fake_clock.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "verifier/fake_cluster.h"

namespace leap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct TaskRunnerTest : ::testing::Test {
  TaskRunnerTest() {
    JobSpec spec;
    spec.train.steps = 1000;
    spec.leap.predictors = {{.name = "linear", .horizons_steps = {50}}};
    auto fake = std::make_unique<FakeScorer>();
    scorer = fake.get();
    runner = *TaskRunner::Create("job", spec, std::move(fake), &store, cluster.Fetcher(), 0);
    cluster.Set(50, v1::BUFFER_WEIGHTS, 1.0f);
    cluster.Set(100, v1::BUFFER_WEIGHTS, 3.0f);
    cluster.Set(150, v1::BUFFER_WEIGHTS, 4.0f);
  }
  FakeClock clock;
  TaskControl control{clock, clock.Now() + absl::Seconds(5)};
  FakeCluster cluster;
  SnapshotStore store;
  FakeScorer* scorer = nullptr;
  std::unique_ptr<TaskRunner> runner;
};

TEST_F(TaskRunnerTest, BaselineOfTheFirstSnapshotHasNoSimilarity) {
  const v1::TaskResult result = runner->Run(cluster.Task(v1::Task::BASELINE, {50}), control);
  EXPECT_TRUE(result.ok()) << result.error();
  EXPECT_TRUE(std::isnan(result.similarity()));
  EXPECT_TRUE(std::isnan(result.report_loss()));
  EXPECT_THAT(result.gate_losses(), ElementsAre(1.0f, 2.0f));
  EXPECT_EQ(result.digest(), cluster.Digest(50, v1::BUFFER_WEIGHTS));
}

TEST_F(TaskRunnerTest, BaselineComparesFingerprintsAndCachesThem) {
  v1::Task task = cluster.Task(v1::Task::BASELINE, {100, 50});
  task.set_report(true);
  const v1::TaskResult result = runner->Run(task, control);
  EXPECT_TRUE(result.ok()) << result.error();
  // cos((3,1), (1,1)) = 4 / (sqrt 10 * sqrt 2)
  EXPECT_NEAR(result.similarity(), 4 / std::sqrt(20.0), 1e-6);
  EXPECT_THAT(result.gate_losses(),
              ElementsAre(3.0f, 4.0f));  // of the base, not of its predecessor
  EXPECT_EQ(result.report_loss(), 13.0);
  EXPECT_EQ(scorer->fingerprints, 2);
  runner->Run(cluster.Task(v1::Task::BASELINE, {150, 100}), control);
  EXPECT_EQ(scorer->fingerprints, 3);
}

TEST_F(TaskRunnerTest, ABaselineWhosePredecessorIsGoneIsStillScored) {
  v1::Task task = cluster.Task(v1::Task::BASELINE, {100, 50});
  cluster.Forget(50, v1::BUFFER_WEIGHTS);
  const v1::TaskResult result = runner->Run(task, control);
  EXPECT_TRUE(result.ok()) << result.error();
  EXPECT_TRUE(std::isnan(result.similarity()));
}

TEST_F(TaskRunnerTest, CandidateIsScoredAndNamedByItsDigest) {
  v1::Task task = cluster.Task(v1::Task::CANDIDATE, {100, 50});
  task.set_horizon_steps(50);
  const v1::TaskResult result = runner->Run(task, control);
  EXPECT_TRUE(result.ok()) << result.error();
  EXPECT_THAT(result.gate_losses(), ElementsAre(5.0f, 6.0f));
  std::vector<float> expected(static_cast<size_t>(SmallLayout().size));
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = 5.0f * static_cast<float>(1 + i % 7);
  EXPECT_EQ(result.digest(), DigestOf(expected, {0, SmallLayout().size}));
}

TEST_F(TaskRunnerTest, AuditTrainsFromThePositionOfTheMainRun) {
  cluster.Set(100, v1::BUFFER_EXP_AVG, 0.0f);
  cluster.Set(100, v1::BUFFER_EXP_AVG_SQ, 0.0f);
  v1::Task task = cluster.Task(v1::Task::AUDIT, {100});
  task.set_data_position(97);
  task.set_adam_step(90);
  task.set_audit_steps(4);
  const v1::TaskResult result = runner->Run(task, control);
  EXPECT_TRUE(result.ok()) << result.error();
  EXPECT_THAT(result.gate_losses(), ElementsAre(7.0f, 8.0f));
  EXPECT_EQ(scorer->audit_start.step, 100);
  EXPECT_EQ(scorer->audit_start.data_position, 97);
  EXPECT_EQ(scorer->audit_start.adam_step, 90);
}

TEST_F(TaskRunnerTest, ErrorsAreResultsThatSayWhy) {
  v1::Task task = cluster.Task(v1::Task::AUDIT, {100});
  EXPECT_THAT(runner->Run(task, control).error(), HasSubstr("an audit of no steps"));
  task.set_kind(v1::Task::KIND_UNSPECIFIED);
  EXPECT_THAT(runner->Run(task, control).error(), HasSubstr("is not known here"));
  clock.Advance(absl::Seconds(6));
  const v1::TaskResult late = runner->Run(cluster.Task(v1::Task::BASELINE, {50}), control);
  EXPECT_FALSE(late.ok());
  EXPECT_THAT(late.error(), HasSubstr("DEADLINE_EXCEEDED"));
  EXPECT_EQ(late.task(), 1u);
}

}  // namespace
}  // namespace leap
