// Test-only: a whole coordinator in this process, on a free port with a ledger in a temporary
// folder, and agents of paper that talk to it over real streams.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "coordinator/agent_service.h"
#include "coordinator/board.h"
#include "coordinator/job_service.h"
#include "coordinator/metrics_feed.h"
#include "coordinator/paper_mind.h"
#include "coordinator/runner.h"
#include "coordinator/store.h"
#include "leap/v1/agent.pb.h"
#include "leap/v1/job.grpc.pb.h"
#include "service/agent_session.h"
#include "service/auth.h"
#include "service/metrics.h"
#include "service/server.h"

namespace leap {

struct TestCoordinatorOptions {
  std::string state_dir;
  StoreOptions store;
  RunnerOptions runner;
  AgentServiceLimits agents;
  JobServiceLimits jobs;
  AuthOptions auth;
  std::string listen = "127.0.0.1:0";
};

// Everything that main.cc makes, in the same order. Not to be moved.
class TestCoordinator {
 public:
  explicit TestCoordinator(const TestCoordinatorOptions& options);
  ~TestCoordinator();

  const std::string& address() const { return server_->address(); }
  std::string MetricsText() const { return metrics_->Text(); }
  Runner& runner() { return *runner_; }

  // Ends it in order and starts another one on the same port and ledger.
  void Restart();

 private:
  void Start();
  void Stop();

  TestCoordinatorOptions options_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Authenticator> auth_;
  std::unique_ptr<MetricsFeed> feed_;
  std::unique_ptr<Board> board_;
  std::unique_ptr<Runner> runner_;
  std::unique_ptr<grpc::Service> agents_;
  std::unique_ptr<grpc::Service> jobs_;
  std::unique_ptr<RpcServer> server_;
};

// The calls of JobService, blocking, with absl's Status; each waits so long for a coordinator.
class TestClient {
 public:
  explicit TestClient(const std::string& address, const std::string& token = "",
                      absl::Duration patience = absl::Seconds(20));

  absl::StatusOr<v1::Job> Create(const std::string& yaml, const std::string& request_id = "");
  absl::StatusOr<v1::Job> Get(const std::string& job);
  absl::StatusOr<v1::Job> Cancel(const std::string& job);
  absl::StatusOr<v1::Job> Pause(const std::string& job);
  absl::StatusOr<v1::Job> Resume(const std::string& job);
  absl::StatusOr<v1::ListJobsResponse> List(int page_size, const std::string& page_token = "");
  // The job as soon as WatchJob shows it in `state`; DeadlineExceeded after `timeout`.
  absl::StatusOr<v1::Job> WaitFor(const std::string& job, v1::Job::State state,
                                  absl::Duration timeout = absl::Seconds(20));
  // Until `done` says so.
  absl::StatusOr<v1::Job> WaitUntil(const std::string& job,
                                    const std::function<bool(const v1::Job&)>& done,
                                    absl::Duration timeout = absl::Seconds(20));

  v1::JobService::Stub& stub() { return *stub_; }
  void Prepare(grpc::ClientContext* context, absl::Duration timeout) const;
  void Prepare(grpc::ClientContext* context) const { Prepare(context, patience_); }

 private:
  const absl::Duration patience_;
  ChannelOptions options_;
  std::unique_ptr<v1::JobService::Stub> stub_;
};

// An agent of paper on a real session (coordinator/paper_mind.h).
class PaperAgent {
 public:
  PaperAgent(const std::string& coordinator, const std::string& name, v1::Role role,
             const std::string& token = "");
  ~PaperAgent();

  // Reports the snapshot at `step` (a worker, alone in its group).
  void Snapshot(int64_t step);
  // Ends the job well (a worker).
  void EndJob(int64_t step);
  bool Send(v1::AgentMessage message) { return session_->Send(std::move(message)); }

  // Everything it was told of this kind, waiting up to ten seconds for `count` of them.
  std::vector<v1::CoordinatorMessage> WaitFor(v1::CoordinatorMessage::KindCase kind,
                                              size_t count = 1);
  bool WaitConnected(int64_t connects = 1);
  AgentSessionInfo info() const { return session_->info(); }
  std::set<uint64_t> applied() const;  // leaps it was told to commit

 private:
  void Say(std::vector<v1::AgentMessage> messages);
  void On(const v1::CoordinatorMessage& message);

  mutable Mutex mutex_;
  PaperMind mind_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::CoordinatorMessage> heard_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<AgentSession> session_;  // set once, in the constructor
};

// A job file for one paper worker; `more` is further YAML of spec, two spaces in.
std::string PaperJob(absl::string_view name, absl::string_view more = "");

}  // namespace leap
