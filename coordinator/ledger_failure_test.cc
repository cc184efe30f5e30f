// A ledger that cannot be written while the coordinator runs: nothing undurable is acted on,
// training goes on, and everything heals when the ledger does.
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "coordinator/paper_cluster.h"
#include "coordinator/sqlite.h"
#include "coordinator/test_cluster.h"
#include "gtest/gtest.h"
#include "service/test_dir.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

class LedgerFailureTest : public testing::Test {
 protected:
  // Another process that has the ledger for itself, until it is destroyed.
  std::unique_ptr<SqliteConnection> Locked() {
    auto other =
        SqliteConnection::Open(dir_.path() + "/ledger.db", SqliteConnection::Mode::kReadWrite);
    EXPECT_OK(other.status());
    EXPECT_OK((*other)->Execute("BEGIN EXCLUSIVE"));
    return *std::move(other);
  }

  TestDir dir_;
};

TEST_F(LedgerFailureTest, AJobThatCannotBeWrittenIsNotQueued) {
  TestCoordinator coordinator({.state_dir = dir_.path()});
  TestClient client(coordinator.address());
  auto lock = Locked();
  const auto refused = client.Create(PaperJob("a"), "r1");
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("ledger")));
  EXPECT_EQ(client.List(10)->jobs_size(), 0);
  lock.reset();
  EXPECT_OK(client.Create(PaperJob("a"), "r1"));
}

TEST_F(LedgerFailureTest, NoRankIsToldOfAnEpochThatIsNotDurable) {
  TestCoordinator coordinator({.state_dir = dir_.path()});
  TestClient client(coordinator.address());
  ASSERT_OK_AND_ASSIGN(v1::Job job, client.Create(PaperJob("a")));
  auto lock = Locked();
  PaperAgent worker(coordinator.address(), "w0", v1::ROLE_WORKER);
  ASSERT_TRUE(worker.WaitConnected());
  ASSERT_OK_AND_ASSIGN(job, client.WaitUntil(job.job(), [](const v1::Job& j) {
    return absl::StrContains(j.state_reason(), "ledger");
  }));
  EXPECT_TRUE(worker.WaitFor(v1::CoordinatorMessage::kAssignWorker, 0).empty());
  lock.reset();
  EXPECT_OK(client.WaitFor(job.job(), v1::Job::RUNNING));
}

TEST_F(LedgerFailureTest, TrainingGoesOnAndNoLeapIsCommittedWhileTheLedgerIsLocked) {
  TestCoordinator coordinator({.state_dir = dir_.path()});
  TestClient client(coordinator.address());
  PaperAgent worker(coordinator.address(), "w0", v1::ROLE_WORKER);
  PaperAgent verifier(coordinator.address(), "v0", v1::ROLE_VERIFIER);
  ASSERT_OK_AND_ASSIGN(
      v1::Job job,
      client.Create(PaperJob("a",
                             "  verifiers: {min_replicas: 1}\n"
                             "  leap: {policy: line-search, interval_steps: 50, warmup_steps: 0,\n"
                             "         regimes: [unknown, chaotic, transition, stable]}\n")));
  ASSERT_OK(client.WaitFor(job.job(), v1::Job::RUNNING));
  auto lock = Locked();
  for (int64_t step = 50; step <= 300; step += 50) {
    const size_t tasks = verifier.WaitFor(v1::CoordinatorMessage::kTask, 0).size();
    worker.Snapshot(step);
    verifier.WaitFor(v1::CoordinatorMessage::kTask, tasks + 1);
  }
  ASSERT_OK_AND_ASSIGN(
      job, client.WaitUntil(job.job(), [](const v1::Job& j) { return j.progress().step() > 303; }));
  EXPECT_EQ(job.state(), v1::Job::RUNNING);
  EXPECT_TRUE(worker.WaitFor(v1::CoordinatorMessage::kPrepare, 0).empty())
      << "PREPARING must be durable first";
  EXPECT_TRUE(worker.WaitFor(v1::CoordinatorMessage::kDecide, 0).empty());
  EXPECT_THAT(coordinator.MetricsText(),
              HasSubstr("leap_ledger_transactions_total{result=\"failed\"}"));
  lock.reset();
  for (int64_t step = 350; step <= 600 && job.leaps().committed() == 0; step += 50) {
    const size_t tasks = verifier.WaitFor(v1::CoordinatorMessage::kTask, 0).size();
    worker.Snapshot(step);
    verifier.WaitFor(v1::CoordinatorMessage::kTask, tasks + 1);
    ASSERT_OK_AND_ASSIGN(job, client.WaitUntil(job.job(), [&](const v1::Job& j) {
      return j.leaps().committed() > 0 || j.progress().step() > step;
    }));
  }
  EXPECT_GT(job.leaps().committed(), 0);
}

// Its schema, by another program: SQLite reads it again before the next statement.
TEST_F(LedgerFailureTest, ADamagedLedgerIsNamedWithWhatToDoAndTrainingGoesOn) {
  TestCoordinator coordinator({.state_dir = dir_.path()});
  TestClient client(coordinator.address());
  PaperAgent worker(coordinator.address(), "w0", v1::ROLE_WORKER);
  ASSERT_OK_AND_ASSIGN(v1::Job job, client.Create(PaperJob("a")));
  ASSERT_OK_AND_ASSIGN(job, client.WaitFor(job.job(), v1::Job::RUNNING));
  ASSERT_OK_AND_ASSIGN(
      const auto other,
      SqliteConnection::Open(dir_.path() + "/ledger.db", SqliteConnection::Mode::kReadWrite));
  ASSERT_OK(other->Execute(
      "PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql='damaged' WHERE name='jobs';"
      "PRAGMA schema_version=4711;"));
  const auto refused = client.Create(PaperJob("b"));
  EXPECT_THAT(refused, HasReason(ErrorReason::kLedgerUnavailable));
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kFailedPrecondition,
                                HasSubstr("restore it from a backup")));
  EXPECT_THAT(client.Cancel(job.job()), HasReason(ErrorReason::kLedgerUnavailable))
      << "an end that is not durable is none";
  const int64_t step = job.progress().step();
  ASSERT_OK_AND_ASSIGN(job, client.WaitUntil(job.job(), [&](const v1::Job& now) {
    return now.progress().step() > step + 2 && now.waits_size() > 0 &&
           now.waits(0).what() == "ledger";
  }));
  EXPECT_EQ(job.state(), v1::Job::RUNNING);
  EXPECT_THAT(job.waits(0).reason(), HasSubstr("malformed database schema"));
}

TEST_F(LedgerFailureTest, AFullDiskIsSaidToWhoeverSubmits) {
  TestCoordinator coordinator({.state_dir = dir_.path(), .store = {.max_pages = 24}});
  TestClient client(coordinator.address());
  absl::StatusOr<v1::Job> answer;
  for (int i = 0; i < 100 && (i == 0 || answer.ok()); ++i) answer = client.Create(PaperJob("a"));
  EXPECT_THAT(answer, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("free space")));
  EXPECT_OK(client.List(10)) << "reading goes on";
}

// A disk that stays full over night: what waits for it is bounded, decisions among it are kept.
TEST(LongLedgerFailure, KeepsNoMoreThanItsBound) {
  constexpr size_t kBound = 50;
  PaperCluster cluster(1, {}, {.max_unwritten = kBound});
  cluster.Play(25);
  ASSERT_EQ(cluster.job().record.state, machine::JobState::kRunning);
  cluster.set_ledger_error("disk full");
  cluster.Play(200 * PaperCluster::kInterval);
  EXPECT_LT(cluster.most_records(), 2 * kBound);  // with the rows of one event
  cluster.set_ledger_error("");
  const size_t applied = cluster.applied().size();
  cluster.Play(10 * PaperCluster::kInterval);
  EXPECT_GT(cluster.applied().size(), applied);
}

}  // namespace
}  // namespace leap
