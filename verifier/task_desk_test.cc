#include "verifier/task_desk.h"

#include "base/fake_clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

v1::AssignVerifier Assignment(const std::string& job) {
  v1::AssignVerifier assign;
  assign.set_job(job);
  assign.set_epoch(1);
  return assign;
}

v1::Task Task(uint64_t id, const std::string& job = "job") {
  v1::Task task;
  task.set_job(job);
  task.set_epoch(1);
  task.set_task(id);
  task.set_deadline_seconds(10);
  return task;
}

v1::TaskResult ResultOf(const v1::Task& task) {
  v1::TaskResult result;
  result.set_job(task.job());
  result.set_task(task.task());
  result.set_ok(true);
  return result;
}

struct TaskDeskTest : ::testing::Test {
  TaskDeskTest() {
    EXPECT_TRUE(desk.Assign(Assignment("job")));
    EXPECT_TRUE(desk.Next(absl::ZeroDuration()).has_value());
  }
  QueuedTask NextTask() {
    std::optional<Work> work = desk.Next(absl::ZeroDuration());
    EXPECT_TRUE(work.has_value() && std::holds_alternative<QueuedTask>(*work));
    return std::get<QueuedTask>(*work);
  }
  FakeClock clock;
  TaskDesk desk{clock, 2};
};

TEST_F(TaskDeskTest, TasksComeOffInOrder) {
  EXPECT_FALSE(desk.Admit(Task(1)).has_value());
  EXPECT_FALSE(desk.Admit(Task(2)).has_value());
  EXPECT_EQ(NextTask().task.task(), 1u);
  EXPECT_EQ(NextTask().task.task(), 2u);
}

TEST_F(TaskDeskTest, ATaskThatComesTwiceIsDoneOnce) {
  EXPECT_FALSE(desk.Admit(Task(1)).has_value());
  EXPECT_FALSE(desk.Admit(Task(1)).has_value());
  EXPECT_EQ(desk.open_tasks(), 1u);
  NextTask();
  EXPECT_FALSE(desk.Admit(Task(1)).has_value());  // still running
  EXPECT_FALSE(desk.Next(absl::ZeroDuration()).has_value());
  desk.Finish(ResultOf(Task(1)));
  const auto again = desk.Admit(Task(1));
  ASSERT_TRUE(again.has_value());
  EXPECT_TRUE(again->ok());
}

TEST_F(TaskDeskTest, AFullDeskRefuses) {
  desk.Admit(Task(1));
  desk.Admit(Task(2));
  const auto answer = desk.Admit(Task(3));
  ASSERT_TRUE(answer.has_value());
  EXPECT_FALSE(answer->ok());
  EXPECT_THAT(answer->error(), HasSubstr("RESOURCE_EXHAUSTED"));
}

TEST_F(TaskDeskTest, AnotherJobsTaskIsRefused) {
  const auto answer = desk.Admit(Task(1, "other"));
  ASSERT_TRUE(answer.has_value());
  EXPECT_THAT(answer->error(), HasSubstr("scores for job 'job', not 'other'"));
}

TEST_F(TaskDeskTest, DeadlinesRunFromReceipt) {
  desk.Admit(Task(1));
  const QueuedTask queued = NextTask();
  clock.Advance(absl::Seconds(10));
  EXPECT_TRUE(queued.control->Check().ok());
  clock.Advance(absl::Seconds(1));
  EXPECT_EQ(queued.control->Check().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(TaskDeskTest, CancelReachesWaitingAndRunningTasks) {
  desk.Admit(Task(1));
  desk.Admit(Task(2));
  const QueuedTask running = NextTask();
  for (const uint64_t id : {1, 2, 99}) {
    v1::CancelTask cancel;
    cancel.set_job("job");
    cancel.set_task(id);
    cancel.set_reason("superseded");
    desk.Cancel(cancel);
  }
  EXPECT_EQ(running.control->Check(), absl::CancelledError("superseded"));
  EXPECT_EQ(NextTask().control->Check(), absl::CancelledError("superseded"));
}

TEST_F(TaskDeskTest, ReleaseCancelsAndAnOlderJobsReleaseDoesNot) {
  desk.Admit(Task(1));
  const QueuedTask running = NextTask();
  v1::Release release;
  release.set_job("older");
  EXPECT_TRUE(desk.Release(release));
  EXPECT_TRUE(running.control->Check().ok());
  release.set_job("job");
  EXPECT_TRUE(desk.Release(release));
  EXPECT_EQ(running.control->Check().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(desk.Admit(Task(2)).has_value());  // refused: no job
}

TEST_F(TaskDeskTest, ANewEpochOfTheJobKeepsItsTasks) {
  desk.Admit(Task(1));
  const QueuedTask running = NextTask();
  EXPECT_TRUE(desk.Assign(Assignment("job")));
  EXPECT_TRUE(running.control->Check().ok());
  EXPECT_TRUE(desk.Assign(Assignment("next")));
  EXPECT_EQ(running.control->Check().code(), absl::StatusCode::kCancelled);
}

TEST_F(TaskDeskTest, RemembersOnlyTheLastResults) {
  for (uint64_t id = 1; id <= 3; ++id) desk.Finish(ResultOf(Task(id)));
  ASSERT_EQ(desk.Finished().size(), 2u);
  EXPECT_EQ(desk.Finished()[0].task(), 2u);
}

}  // namespace
}  // namespace leap
