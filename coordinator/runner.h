// The thread that owns the cluster machine: takes events from a bounded queue, lets the machine
// decide, and performs the actions in the order that coordinator/machine/action.h asks for: one
// durable transaction, then sends, closes and replies, then what is published, logged and counted,
// and at last Persisted as the machine's very next event.
//
// Handlers parse, call Post or Call, and return; nothing here decides about leaps. Start restores
// the ledger first.
// Post, Call, OpenSession and CloseSession: any thread. The pointers given must outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/bounded_queue.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "coordinator/board.h"
#include "coordinator/machine/cluster.h"
#include "coordinator/metrics_feed.h"
#include "coordinator/store.h"
#include "leap/v1/agent.pb.h"

namespace leap {

// One agent's stream, as the runner sees it. Called on the runner's thread; must not wait.
class SessionSink {
 public:
  virtual ~SessionSink() = default;
  virtual void Send(v1::CoordinatorMessage message) = 0;
  virtual void Close(const absl::Status& status) = 0;  // after what was sent before
  // One of its messages has been through the machine: room for another (a stream has only so many
  // on their way, so that one loud agent cannot fill the queue).
  virtual void Processed() = 0;
};

struct RunnerOptions {
  machine::ClusterOptions cluster;
  size_t queue_events = 65536;
  absl::Duration tick = absl::Milliseconds(50);
  absl::Duration hello_timeout = absl::Seconds(10);  // a stream that says nothing is ended
};

class Runner {
 public:
  // Told once: OK and the job's id, or why not. Runner's thread; must not wait.
  using Done = std::function<void(const absl::Status&, const std::string& job)>;

  Runner(const RunnerOptions& options, Store* store, Board* board, MetricsFeed* metrics,
         const Clock& clock);
  ~Runner();

  // Restores the ledger and starts the thread. The ledger's errors as they are.
  absl::Status Start();
  // Ends the thread after what is queued, answers open calls, ends sessions with UNAVAILABLE
  // (SHUTTING_DOWN): agents come back with backoff. Before RpcServer::Shutdown, so that it need not
  // wait.
  void Stop();

  // False: the queue is full or closed; the caller ends the session (the agent comes back with
  // backoff).
  [[nodiscard]] bool Post(machine::Event event);
  // Gives `event` (one of the four requests of people) a correlation number and posts it. `done` is
  // called exactly once, at the latest by Stop; at once with ResourceExhausted if the queue is
  // full.
  void Call(machine::Event event, Done done);

  uint64_t OpenSession(
      std::shared_ptr<SessionSink> sink);  // shared: gRPC's thread and the runner's
  void CloseSession(uint64_t session);
  size_t sessions() const;

 private:
  struct Session {
    std::shared_ptr<SessionSink> sink;  // shared: gRPC's thread and the runner's
    absl::Time opened;
    bool greeted = false;
  };

  void Loop();
  void OnTick();
  void Process(const machine::Event& event);
  std::optional<machine::Persisted> Perform(machine::Actions actions);
  void PerformSends(const machine::Actions& actions);
  void PerformReplies(const machine::Actions& actions);
  void Publish(const machine::Actions& actions);
  void PublishEvents(const machine::Actions& actions);
  void PublishChanged();
  std::shared_ptr<SessionSink> FindSession(uint64_t session) const;
  void EndSilentSessions();
  Done TakeCall(uint64_t correlation);

  const RunnerOptions options_;
  Store* const store_;
  Board* const board_;
  MetricsFeed* const metrics_;
  const Clock& clock_;

  BoundedQueue<machine::Event> queue_;
  machine::Cluster cluster_;       // the runner's thread only, once started
  absl::Status ledger_error_;      // of the last write; told when it changes
  std::set<std::string> changed_;  // jobs to publish at the next tick
  absl::Time jobs_published_ = absl::InfinitePast();
  absl::Time agents_published_ = absl::InfinitePast();
  absl::Time metrics_published_ = absl::InfinitePast();
  std::thread thread_;

  mutable Mutex mutex_;
  std::map<uint64_t, Session> sessions_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Done> calls_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace leap
