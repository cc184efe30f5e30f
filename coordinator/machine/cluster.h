// The coordinator's decisions, all of them: agents, queue, jobs. A single-threaded machine without
// clock, disk or network:
//
//   Cluster cluster(options);
//   Actions actions = cluster.Step(Restored{ledger}, now);   // first, once
//   for (;;) { perform actions (action.h has the duties); actions = cluster.Step(next event, now);
//   }
//
// Rules of the house that it keeps:
//   * What is decided is durable before anybody acts on it: the Decision rides on the ticket of the
//   batch that carries
//     its records, and is taken, or taken back, when Persisted comes (Batch::Decide, OnDurable).
//   * Whoever speaks is who it says: a message counts only on the newest session of the agent's
//   newest incarnation.
//   * Queue: strictly first in, first out; a job starts when its whole gang is here. A verifier
//   goes to the running job
//     that has the fewest.
//
// Not thread-safe; the runner owns it. Views are copies.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/machine/action.h"
#include "coordinator/machine/batch.h"
#include "coordinator/machine/event.h"
#include "coordinator/machine/job_machine.h"
#include "coordinator/machine/options.h"
#include "coordinator/machine/registry.h"
#include "coordinator/machine/view.h"

namespace leap::machine {

class Cluster {
 public:
  explicit Cluster(ClusterOptions options) : options_(options) {}

  Actions Step(const Event& event, absl::Time now);

  // Nothing: no such job (it may have been forgotten after its end; the ledger has it).
  std::optional<JobView> FindJob(absl::string_view job) const;
  std::vector<JobView> ListJobs() const;  // newest first
  std::vector<AgentView> ListAgents() const;

  // For tests and simulation.
  const JobMachine* Machine(absl::string_view job) const;
  const AgentRegistry& agents() const { return agents_; }

 private:
  // Rows and decisions of a batch whose Persisted is awaited.
  struct Unconfirmed {
    uint64_t ticket = 0;
    std::vector<Record> records;
    std::vector<Decision> decisions;
  };

  void On(const Restored& restored, Batch& batch);
  void On(const AgentSaid& said, Batch& batch);
  void On(const SessionClosed& closed, Batch& batch);
  void On(const CreateJob& request, Batch& batch);
  void On(const CancelJob& request, Batch& batch);
  void On(const PauseJob& request, Batch& batch);
  void On(const ResumeJob& request, Batch& batch);
  void On(const Persisted& persisted, Batch& batch);
  void On(const Tick& tick, Batch& batch);

  void StoodStill(absl::Duration gap, Batch& batch);
  void ExpectMembers(Batch& batch);

  // Agents (cluster_agents.cc).
  void OnHello(const AgentSaid& said, const Hello& hello, Batch& batch);
  bool AdmitHello(const AgentSaid& said, const Hello& hello, Batch& batch);
  JobMachine* JobOfMember(const Agent& agent);
  void PlaceAgent(Agent& agent, const Hello& hello, Batch& batch);
  void OnHeartbeat(Agent& agent, const Heartbeat& heartbeat, Batch& batch);
  void OnGoodbye(Agent& agent, const Goodbye& goodbye, Batch& batch);
  absl::Duration LeaseOf(const Agent& agent) const;

  // Queue.
  void StartQueued(Batch& batch);
  void AssignVerifiers(Batch& batch);
  void ForgetEnded();

  // Ledger.
  Actions Finish(Batch& batch);
  void WriteAgain(std::vector<Record>& records);
  void KeepUnwritten(std::vector<Record> records);

  JobMachine* Find(absl::string_view job);
  JobMachine* FindOrAnswer(absl::string_view job, uint64_t correlation, Batch& batch);

  const ClusterOptions options_;
  absl::Time now_ = absl::InfinitePast();  // of the last step
  AgentRegistry agents_;
  std::map<std::string, std::unique_ptr<JobMachine>, std::less<>> jobs_;
  std::vector<JobMachine*> order_;               // by rising queue number
  std::map<std::string, std::string> requests_;  // job by request id
  std::unique_ptr<JobMachine> creating_;         // not durable yet
  int64_t next_queue_number_ = 1;
  uint64_t next_ticket_ = 1;
  std::optional<Unconfirmed> unconfirmed_;
  bool ledger_ok_ = true;
  std::vector<Record> unwritten_;         // rows to be written again
  std::set<std::string> unwritten_jobs_;  // jobs whose row is to be written again
  absl::Time write_again_ = absl::InfinitePast();
  absl::Time forget_ = absl::InfinitePast();
};

}  // namespace leap::machine
