// Test-only: the cluster machine with agents of paper (coordinator/paper_mind.h), played through
// the wire's translation (coordinator/wire.h) on one thread with a clock of its own: as the skin
// does it, without streams and disk. Whoever makes it may spoil what the agents say.
//
// It watches two rules itself and adds a failure to the running test if one is broken: the ranks
// hear of a commit only when its row is durable, and what is committed is what an honest verifier
// would have scored (PaperDigest). Time-outs are a few seconds.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/machine/cluster.h"
#include "coordinator/paper_mind.h"

namespace leap {

// Of a job that leaps at every snapshot.
struct PaperJobOptions {
  std::string leap = "predictors: [{name: linear, horizons_steps: [5]}]";  // further YAML
  int workers = 2;    // w0, w1, ... that are there from the beginning
  int verifiers = 2;  // v0, ...
  std::function<void(JobSpec&)> change = [](JobSpec&) {};
};

class PaperCluster {
 public:
  // What the coordinator hears when `agent` says `message`: whose message, which message.
  using Said = std::vector<std::pair<std::string, v1::AgentMessage>>;
  using Ears = std::function<Said(const std::string& agent, const v1::AgentMessage& message)>;

  static constexpr int kInterval = 10;  // steps, and rounds, between snapshots

  // Agents, and the job "a-1" of two workers in the queue.
  explicit PaperCluster(uint64_t seed, const PaperJobOptions& options = {},
                        const machine::ClusterOptions& machine = {
                            .task_deadline = absl::Seconds(2)});

  void set_ears(Ears ears) { ears_ = std::move(ears); }
  void AddAgent(const std::string& name, v1::Role role);
  // One step of training each, 100 ms apart.
  void Play(int rounds);
  // The coordinator hears `message` on the agent's session.
  void Hear(const std::string& agent, const v1::AgentMessage& message);
  // Somebody says Hello on a new session, and leaves. What it was told if it was not let in. (The
  // agents' own certificates name them "cert-" and their name.)
  absl::Status Knock(const v1::Hello& hello, absl::string_view caller);
  // Time passes, and nobody says anything.
  void Advance(absl::Duration time);
  // The coordinator stands still: nothing is heard, and nothing ticks.
  void StandStill(absl::Duration time) { now_ += time; }
  absl::Time now() const { return now_; }
  void Submit(const std::string& job, const PaperJobOptions& options);
  void Cancel() { Step(machine::CancelJob{.correlation = 8, .job = "a-1"}); }
  void Pause() { Step(machine::PauseJob{.correlation = 9, .job = "a-1"}); }
  // The process is gone at once, its session closed; or stopped: silent.
  void Kill(const std::string& agent);
  void Stop(const std::string& agent) { agents_.at(agent).stopped = true; }
  // Not empty: the ledger cannot be written, for this reason.
  void set_ledger_error(const std::string& error) { ledger_error_ = error; }

  machine::JobView job(absl::string_view job = "a-1") const { return *cluster_->FindJob(job); }
  const machine::Cluster& machine() const { return *cluster_; }
  const PaperMind& mind(const std::string& agent) const { return agents_.at(agent).mind; }
  // Leaps whose row says APPLIED or COMMITTED.
  const std::set<uint64_t>& applied() const { return applied_; }
  const std::set<uint64_t>& committed() const { return committed_; }
  // The newest leap that was prepared: its row.
  const machine::LeapRecord& leap() const { return leap_; }
  // Sentences of the job's events, as "kind: sentence".
  const std::vector<std::string>& events() const { return events_; }
  // Why the agent's last session was ended; OK: it was not.
  absl::Status closed(const std::string& agent) const { return agents_.at(agent).closed; }
  // How often the agent was told that something was stale.
  int stale(const std::string& agent) const { return agents_.at(agent).stale; }
  size_t most_records() const { return most_records_; }  // that it wanted to write at once
  int64_t steps() const { return steps_; }               // of the machine
  int64_t refused() const { return refused_; }           // messages, by the wire

 private:
  struct Agent {
    PaperMind mind;
    uint64_t incarnation = 0;
    uint64_t session = 0;  // 0: closed
    bool greeted = false;
    bool killed = false;
    bool stopped = false;
    absl::Status closed;
    int stale = 0;
  };

  void Connect(const std::string& name, Agent& agent);
  void Say(const std::string& name, const v1::AgentMessage& message);
  void Step(const machine::Event& event);
  void Watch(const machine::Actions& actions, bool written);
  void Close(const machine::CloseSession& close);
  void Recover(const machine::AssignWorker& assign, PaperMind* mind);
  void Deliver();

  machine::ClusterOptions options_;
  std::unique_ptr<machine::Cluster> cluster_;
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  int round_ = 0;
  Ears ears_;
  std::map<std::string, Agent> agents_;
  std::deque<machine::Send> queue_;
  std::string ledger_error_;
  std::set<uint64_t> committed_, applied_;
  machine::LeapRecord leap_;
  std::vector<std::string> events_;
  absl::Status knocked_;  // why the newest session was ended
  uint64_t last_session_ = 0;
  size_t most_records_ = 0;
  int64_t steps_ = 0;
  int64_t refused_ = 0;
};

}  // namespace leap
