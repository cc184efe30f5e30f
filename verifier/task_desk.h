// The verifier's desk: what the coordinator asked for, in the order in which it came, and what
// became of it. The session thread puts things on it, the scoring thread takes them off one at a
// time.
//
// Every message may come twice and in spite of a reconnect: a task that is on the desk is not
// queued again, and one that was answered lately is answered again with the same result.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/bounded_queue.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "leap/v1/agent.pb.h"
#include "verifier/task_control.h"

namespace leap {

struct QueuedTask {
  v1::Task task;
  std::shared_ptr<TaskControl> control;
};
// What the scoring thread does next: take a job, score, or drop a job.
using Work = std::variant<v1::AssignVerifier, QueuedTask, v1::Release>;

// Thread-safe.
class TaskDesk {
 public:
  // `capacity`: things waiting at most, and answers remembered at most. `clock` must outlive this.
  TaskDesk(Clock& clock, size_t capacity) : clock_(clock), capacity_(capacity), queue_(capacity) {}

  // Queues `task`; its deadline runs from now. Returns what to answer at once: nothing (queued, or
  // already on the desk), the result it had before, or a refusal (queue full, not the job held).
  std::optional<v1::TaskResult> Admit(const v1::Task& task) ABSL_LOCKS_EXCLUDED(mutex_);

  // A new assignment or the end of one; tasks of any other job (of every job, for a Release) are
  // cancelled. False: the queue is full or closed.
  bool Assign(const v1::AssignVerifier& assign) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Release(const v1::Release& release) ABSL_LOCKS_EXCLUDED(mutex_);

  // Cancels a task wherever it is; one that is unknown or done is none of our business.
  void Cancel(const v1::CancelTask& cancel) ABSL_LOCKS_EXCLUDED(mutex_);

  // The scoring thread: the next thing to do; nothing within `timeout`, or the desk is closed and
  // empty.
  std::optional<Work> Next(absl::Duration timeout) { return queue_.Pop(timeout); }

  // The scoring thread: `result` is what became of its task; remembered for repetition.
  void Finish(const v1::TaskResult& result) ABSL_LOCKS_EXCLUDED(mutex_);

  // The results remembered, oldest first: sent again after a reconnect, as any of them may have
  // been lost.
  std::vector<v1::TaskResult> Finished() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Cancels everything and lets nothing in any more.
  void Close(const std::string& reason) ABSL_LOCKS_EXCLUDED(mutex_);

  bool closed() const { return queue_.closed(); }

  // Tasks waiting or running.
  size_t open_tasks() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using TaskKey = std::pair<std::string, uint64_t>;  // job, task

  void CancelAll(const std::string& except_job, const std::string& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Clock& clock_;
  const size_t capacity_;
  BoundedQueue<Work> queue_;

  mutable Mutex mutex_;
  std::string job_ ABSL_GUARDED_BY(mutex_);  // assigned last; empty: none
  std::map<TaskKey, std::shared_ptr<TaskControl>> open_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::TaskResult> finished_ ABSL_GUARDED_BY(mutex_);
};

// A result that says no: `task` was not, or could not be, scored.
v1::TaskResult Refusal(const v1::Task& task, const absl::Status& why);

}  // namespace leap
