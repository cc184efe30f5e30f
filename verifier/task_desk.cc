#include "verifier/task_desk.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"

namespace leap {

v1::TaskResult Refusal(const v1::Task& task, const absl::Status& why) {
  v1::TaskResult result;
  result.set_job(task.job());
  result.set_epoch(task.epoch());
  result.set_task(task.task());
  result.set_base_step(task.base_step());
  result.set_ok(false);
  result.set_error(why.ToString(absl::StatusToStringMode::kWithNoExtraData));
  result.set_report_loss(std::numeric_limits<double>::quiet_NaN());
  result.set_similarity(std::numeric_limits<double>::quiet_NaN());
  return result;
}

std::optional<v1::TaskResult> TaskDesk::Admit(const v1::Task& task) {
  MutexLock lock(&mutex_);
  const TaskKey key(task.job(), task.task());
  if (open_.contains(key)) return std::nullopt;
  for (const v1::TaskResult& result : finished_) {
    if (result.job() == task.job() && result.task() == task.task()) return result;
  }
  if (task.job() != job_) {
    return Refusal(task, absl::FailedPreconditionError(absl::StrCat(
                             "this verifier scores for job '", job_, "', not '", task.job(), "'")));
  }
  const absl::Time deadline = task.deadline_seconds() > 0
                                  ? clock_.Now() + absl::Seconds(task.deadline_seconds())
                                  : absl::InfiniteFuture();
  auto control = std::make_shared<TaskControl>(clock_, deadline);
  if (!queue_.TryPush(QueuedTask{task, control})) {
    return Refusal(task, MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kVerifierBusy,
                                   absl::StrCat(queue_.size(), " things wait at this verifier")));
  }
  open_.emplace(key, std::move(control));
  return std::nullopt;
}

bool TaskDesk::Assign(const v1::AssignVerifier& assign) {
  MutexLock lock(&mutex_);
  CancelAll(assign.job(), absl::StrCat("this verifier was given job '", assign.job(), "'"));
  if (!queue_.TryPush(assign)) return false;
  job_ = assign.job();
  return true;
}

bool TaskDesk::Release(const v1::Release& release) {
  MutexLock lock(&mutex_);
  if (release.job() != job_) return true;  // an older job's; that one is gone already
  CancelAll("", absl::StrCat("released: ", release.reason()));
  job_.clear();
  return queue_.TryPush(release);
}

void TaskDesk::Cancel(const v1::CancelTask& cancel) {
  MutexLock lock(&mutex_);
  const auto found = open_.find({cancel.job(), cancel.task()});
  if (found != open_.end()) found->second->Cancel(cancel.reason());
}

void TaskDesk::Finish(const v1::TaskResult& result) {
  MutexLock lock(&mutex_);
  open_.erase({result.job(), result.task()});
  finished_.push_back(result);
  if (finished_.size() > capacity_) finished_.pop_front();
}

std::vector<v1::TaskResult> TaskDesk::Finished() const {
  MutexLock lock(&mutex_);
  return {finished_.begin(), finished_.end()};
}

void TaskDesk::Close(const std::string& reason) {
  MutexLock lock(&mutex_);
  CancelAll("", reason);
  queue_.Close();
}

size_t TaskDesk::open_tasks() const {
  MutexLock lock(&mutex_);
  return open_.size();
}

void TaskDesk::CancelAll(const std::string& except_job, const std::string& reason) {
  for (auto& [key, control] : open_) {
    if (except_job.empty() || key.first != except_job) control->Cancel(reason);
  }
}

}  // namespace leap
