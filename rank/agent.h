// A main worker as an agent: between the coordinator's session (service/agent_session.h) and the
// training thread.
//
// Threads: callbacks run on the session's threads, note what is wanted and return; one training
// thread, owned here, does the work (LibTorch is touched by it and the ring's thread alone).
// Training goes on while the coordinator is away; what must not be lost is repeated after a
// reconnect (coordinator/machine/message.h has the rules).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/interrupt.h"
#include "engine/trainer.h"
#include "leap/v1/agent.pb.h"
#include "rank/holdings.h"
#include "service/agent_session.h"
#include "service/metrics.h"

namespace leap {

struct RankOptions {
  std::string name;
  uint64_t incarnation = 0;
  v1::Role role = v1::ROLE_WORKER;  // what its Hello says; a verifier stays one while it stands in
  std::string version;
  std::string data_address;
  std::string store_address;
  std::string bind_host = "127.0.0.1";  // this rank's end of the group's connections
  std::string state_dir;
  std::vector<std::string> path_roots;  // of what job files may name (engine/path_roots.h)
};

class RankAgent {
 public:
  // The pointers must outlive it.
  RankAgent(const RankOptions& options, RankHoldings* holdings, Metrics* metrics, Clock* clock);
  ~RankAgent();
  RankAgent(const RankAgent&) = delete;
  RankAgent& operator=(const RankAgent&) = delete;

  // Hand these to AgentSession::Start, then call Attach; the session must live until Detach.
  AgentSessionCallbacks Callbacks();
  void Attach(AgentSession* session) ABSL_LOCKS_EXCLUDED(mutex_);
  void Detach() ABSL_LOCKS_EXCLUDED(mutex_);

  // It has no job: none was assigned, or the last one has been released and dropped. Any thread.
  bool idle() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Interrupts what is running and joins the training thread. Idempotent.
  void Stop(const std::string& reason);

 private:
  // Session's threads.
  v1::Hello MakeHello() const;
  v1::Heartbeat MakeHeartbeat() const;
  void OnConnected();
  void OnMessage(const v1::CoordinatorMessage& message);
  void OnAssign(const v1::AssignWorker& assign);
  void OnAbort(const v1::AbortEpoch& abort);
  void OnRelease(const v1::Release& release);
  void OnPrepare(const v1::Prepare& prepare);
  void OnDecide(const v1::Decide& decide);
  void OnRunControl(const v1::RunControl& control);
  bool Send(v1::AgentMessage message) ABSL_LOCKS_EXCLUDED(mutex_);

  // Training thread.
  void Train();
  void RunEpoch(const v1::AssignWorker& assign, std::shared_ptr<Interrupt> interrupt);
  absl::Status EnsureTrainer(const v1::AssignWorker& assign);
  TrainerCallbacks MakeCallbacks();
  EpochOptions MakeEpoch(const v1::AssignWorker& assign, const JobSpec& spec) const;
  void ReportReady(const v1::AssignWorker& assign, const JoinReport& report, double seconds);
  absl::Status TrainSteps(const v1::AssignWorker& assign);
  void ReportEnd(const v1::AssignWorker& assign, const absl::Status& status);
  void FinishJob(const v1::AssignWorker& assign);
  void DropJob();

  // Callbacks of the trainer.
  void ReportSnapshot(const RingSnapshot& snapshot, FlatRange shard);
  void ReportVote(const PrepareRequest& request, const absl::StatusOr<uint64_t>& digest);
  void ReportLeap(const LeapReport& report);
  // Job, epoch and rank of the ring that reports. False: there is none.
  template <class Message>
  bool Label(Message* message) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Sends `message` now and again after each reconnect until it is replaced or the job is dropped.
  void SendStanding(const std::string& key, v1::AgentMessage message);

  const RankOptions options_;
  RankHoldings* const holdings_;
  Metrics* const metrics_;
  Clock* const clock_;

  mutable Mutex mutex_;
  AgentSession* session_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::optional<v1::AssignWorker> wanted_ ABSL_GUARDED_BY(mutex_);   // to be begun
  std::optional<v1::AssignWorker> current_ ABSL_GUARDED_BY(mutex_);  // newest one taken or wanted
  // The epoch whose ring reports. Not current_: that is the next one while this one is being left.
  std::optional<v1::AssignWorker> running_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Interrupt> interrupt_ ABSL_GUARDED_BY(mutex_);  // of the epoch that runs
  uint64_t aborted_epoch_ ABSL_GUARDED_BY(mutex_) = 0;            // and all before
  uint64_t left_epoch_ ABSL_GUARDED_BY(mutex_) = 0;               // its group broke, or was aborted
  bool drop_wanted_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<Trainer> trainer_
      ABSL_GUARDED_BY(mutex_);  // shared: session's and training thread
  std::string trainer_job_ ABSL_GUARDED_BY(mutex_);
  bool live_ ABSL_GUARDED_BY(mutex_) = false;  // holds the state of trainer_job_
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  v1::Heartbeat beat_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, v1::AgentMessage> standing_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, v1::LeapOutcome> outcomes_ ABSL_GUARDED_BY(mutex_);  // newest few

  std::thread thread_;  // last: it uses everything above
};

}  // namespace leap
