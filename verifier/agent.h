// The verifier as an agent: between the coordinator's session (service/agent_session.h) and the
// scoring thread.
//
// Threads: callbacks run on the session's threads and only put things on the desk; one scoring
// thread, owned here, does the work (LibTorch is touched by it alone). Start order: the server, the
// agent, the session; stop order: Stop, the session, the server.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "leap/v1/agent.pb.h"
#include "service/agent_session.h"
#include "service/metrics.h"
#include "verifier/scorer.h"
#include "verifier/snapshot_store.h"
#include "verifier/task_desk.h"
#include "verifier/task_runner.h"

namespace leap {

struct VerifierOptions {
  std::string name;  // stable name of this agent
  uint64_t incarnation = 0;
  std::string version;
  std::string data_address;  // of its SnapshotService, as others dial it
  std::string
      store_address;  // of its rendezvous store, if it can stand in for a main worker; else empty
  std::string state_dir;  // token cache
  int nice = 0;           // of the scoring thread: on a shared machine training comes first
  size_t desk_size = 32;  // tasks waiting at most
};

// What it works with; all must outlive the agent.
struct VerifierParts {
  SnapshotStore* store = nullptr;
  Metrics* metrics = nullptr;
  Clock* clock = nullptr;
  BufferFetcher fetch;
  // MakeScorer, or a test's; called on the scoring thread with the spec and the state folder.
  std::function<absl::StatusOr<std::unique_ptr<Scorer>>(const JobSpec&, const std::string&)>
      make_scorer;
};

class VerifierAgent {
 public:
  VerifierAgent(const VerifierOptions& options, VerifierParts parts);
  ~VerifierAgent();
  VerifierAgent(const VerifierAgent&) = delete;
  VerifierAgent& operator=(const VerifierAgent&) = delete;

  // Hand these to AgentSession::Start, then call Attach with the session; it must live until
  // Detach.
  AgentSessionCallbacks Callbacks();
  void Attach(AgentSession* session) ABSL_LOCKS_EXCLUDED(mutex_);
  void Detach() ABSL_LOCKS_EXCLUDED(mutex_);

  // Drops its job and all that is on the desk, without an answer: this process is about to do
  // something else. Any thread.
  void StepAside(const std::string& reason) ABSL_LOCKS_EXCLUDED(mutex_);

  // Cancels what is running and joins the scoring thread. Idempotent.
  void Stop(const std::string& reason);

 private:
  v1::Hello MakeHello() const ABSL_LOCKS_EXCLUDED(mutex_);
  v1::Heartbeat MakeHeartbeat() const ABSL_LOCKS_EXCLUDED(mutex_);
  void OnMessage(const v1::CoordinatorMessage& message);
  void OnConnected();
  void OnDisconnected(const absl::Status& status);
  void OnAssign(const v1::AssignVerifier& assign) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnTask(const v1::Task& task);
  bool Send(const v1::TaskResult& result) ABSL_LOCKS_EXCLUDED(mutex_);

  // Scoring thread.
  void Score();
  void TakeJob(const v1::AssignVerifier& assign);
  void DropJob(const v1::Release& release);
  void RunTask(const QueuedTask& queued);
  void Record(const v1::Task& task, const v1::TaskResult& result);

  const VerifierOptions options_;
  const VerifierParts parts_;
  TaskDesk desk_;
  std::atomic<bool> was_connected_ = false;

  // Scoring thread alone.
  std::unique_ptr<TaskRunner> runner_;  // null: no job, or `job_error_` says why not
  absl::Status job_error_;
  std::string runner_job_;

  mutable Mutex mutex_;
  AgentSession* session_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::string job_ ABSL_GUARDED_BY(mutex_);
  uint64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t step_ ABSL_GUARDED_BY(mutex_) = 0;                      // newest base step scored
  double busy_seconds_ ABSL_GUARDED_BY(mutex_) = 0;               // for this job
  std::optional<absl::Time> task_since_ ABSL_GUARDED_BY(mutex_);  // a task is running

  std::thread scoring_thread_;  // last: it uses everything above
};

}  // namespace leap
