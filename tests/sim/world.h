// The simulated cluster: one coordinator with the real machine and a simulated disk, agents with
// simulated sessions, data-parallel groups, a shared folder of checkpoints. One seed, one run;
// single-threaded.
//
// * world.cc: set-up, the run, people's requests
// * coordinator.cc: the runner of the real machine: write, send, crash
// * network.cc: sessions: ordered streams with delay that break; silence; late and doubled messages
// * process.cc: an agent's process: what workers and verifiers have in common
// * rank.cc: a main worker's part (agent.proto's contract); scorer.cc: a verifier's
// * data_group.cc: collectives: all members or none, except for what a failure in mid-air leaves
// * faults.cc: what goes wrong, by the seed
// * oracle.cc: protocol.md's invariants, asserted at every event that can break them
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "coordinator/machine/cluster.h"
#include "tests/sim/disk.h"
#include "tests/sim/model.h"
#include "tests/sim/oracle.h"
#include "tests/sim/process.h"
#include "tests/sim/random.h"
#include "tests/sim/timeline.h"

namespace leap::sim {

// Kinds of faults; a run draws from those that are allowed.
enum Fault : uint32_t {
  kKillWorker = 1 << 0,
  kStopWorker = 1 << 1,  // SIGSTOP
  kKillVerifier = 1 << 2,
  kKillCoordinator = 1 << 3,
  kBreakSession = 1 << 4,
  kPartition = 1 << 5,      // an agent cannot reach the coordinator, nor the other way
  kDataPartition = 1 << 6,  // a rank cannot reach its peers
  kDiskFails = 1 << 7,
  kCrashAtWrite = 1 << 8,  // the coordinator dies just before, or just after, a transaction
  kLie = 1 << 9,           // a verifier returns what is wrong
  kCorrupt = 1 << 10,      // a bit flips in a rank's weights
  kSlowLink = 1 << 11,
  kGoodbye = 1 << 12,
  kSteer = 1 << 13,      // people pause and resume
  kKillAll = 1 << 14,    // all workers at once
  kDuplicate = 1 << 15,  // messages come twice
  kNan = 1 << 16,        // training reports NaN
  kSlowScorer = 1 << 17,
  kCancel = 1 << 18,
  kSpike = 1 << 19,            // the training loss is high for a while
  kStopCoordinator = 1 << 20,  // SIGSTOP; a disk that takes its time
  kStopVerifier = 1 << 21,
  kStopClient = 1 << 22,  // a person's leapctl, which then says its request again
  kEveryFault = (1 << 23) - 1,
};
// Reports of a high loss in a row that are a spike.
inline constexpr int kSpikeReports = 2;
// "kill-worker,partition" or "all" or "none"; nothing for an unknown name.
std::optional<uint32_t> ParseFaults(const std::string& names);

struct SimOptions {
  uint64_t seed = 1;
  uint32_t faults = kEveryFault;
  machine::Mutation mutation = machine::Mutation::kNone;
  bool trace = false;  // print what happens
};

struct SimResult {
  std::string violation;  // empty: all held
  int64_t events = 0;
  int64_t leaps_applied = 0;
  int64_t epochs = 0;
  int64_t restarts = 0;  // of the coordinator
  int64_t recoveries = 0;
  double seconds = 0;  // simulated
};

SimResult RunSimulation(const SimOptions& options);

// A checkpoint in the shared folder.
struct Checkpoint {
  std::string job;
  uint64_t epoch = 0;
  std::string path;
  ModelState state;
};

// One data-parallel group: an epoch of a job, as its ranks see it.
struct DataGroup {
  std::string job;
  uint64_t epoch = 0;
  std::vector<machine::Member> members;
  std::string checkpoint_path;
  bool from_checkpoint = false;
  uint64_t undo_leap = 0;
  std::vector<bool> joined;
  std::vector<uint64_t> held;  // COMMIT that a rank held when it died
  bool meeting = false;        // all have joined
  bool over = false;
  Micros hanging = -1;  // since when a collective hangs
  Micros told = -1;     // it was given up: since when nothing keeps it from hearing so
};

struct JobPlan {
  std::string job;
  machine::CreateJob request;
  bool created = false;
  bool cancelled = false;        // a person asked for it
  bool cancel_at_apply = false;  // a person will, as the next leap is applied
  bool may_fail = false;         // a fault was injected that the job need not survive
  Micros spikes_until = 0;       // its training loss is high
  int spike_reports = 0;         // heartbeats that said so
};

class World {
 public:
  explicit World(const SimOptions& options);
  SimResult Run();

  Timeline& timeline() { return timeline_; }
  Random& random() { return random_; }
  Disk& disk() { return disk_; }
  Oracle& oracle() { return oracle_; }
  const SimOptions& options() const { return options_; }
  machine::Cluster* cluster() { return cluster_.get(); }
  std::vector<Agent>& agents() { return agents_; }
  std::vector<JobPlan>& jobs() { return jobs_; }
  std::vector<Checkpoint>& checkpoints() { return checkpoints_; }
  Micros faults_end() const { return faults_end_; }
  void Trace(const char* format, ...) __attribute__((format(printf, 2, 3)));

  // The training loss that rank 0 of the job reports now.
  double ReportLoss(const std::string& job);
  // It says so, maybe again, in a heartbeat of this epoch.
  void SpikeSaid(const std::string& job, uint64_t epoch);

  // Agents.
  Agent& AgentNamed(const std::string& name);
  Process* FindProcess(const std::string& name, uint64_t incarnation);  // null: dead
  void StartProcess(Agent& agent);
  void KillProcess(Agent& agent);

  // Network.
  void Connect(Agent& agent);
  void SendUp(Agent& agent, machine::AgentMessage message);
  void SendDown(const machine::Send& send);
  void BreakSession(Agent& agent);
  void CloseByCoordinator(uint64_t session);

  // Coordinator.
  void StartCoordinator();
  void CrashCoordinator();
  void CancelAtApply(const std::string& job);
  void CrashAtNextWrite(int when) { crash_at_write_ = when; }
  // It stands still for so long, at once or as the next write is durable, and goes on with what it
  // had in mind: its sessions stay open, and what is said meanwhile waits for it.
  void StopCoordinator(Micros length);
  void StopAtNextWrite(Micros length) { stop_at_write_ = length; }
  bool CoordinatorListens() const;
  // How much of the time between them it did not stand still.
  Micros Listened(Micros begin, Micros end) const;
  // The coordinator hears of `event` when it has time.
  void Handle(machine::Event event);
  // A person submits the job once more, with the same request id.
  void SubmitAgain(int job);

  // Data plane.
  DataGroup& GroupOf(const machine::AssignWorker& assignment);
  void Join(Process& process, const machine::AssignWorker& assignment);
  void Leave(Process& process);

 private:
  // The coordinator (coordinator.cc).
  void Step(const machine::Event& event);
  void Tick();
  void Perform(machine::Actions actions);
  void PerformRest(const machine::Actions& actions, bool written);
  void ResumeCoordinator();
  void HearBacklog();

  void SetUp();
  void MakeJob(int index, int replicas);
  void Request();
  void CheckReply(const machine::Reply& reply);
  void Heal();
  bool Done();

  // Data plane (data_group.cc).
  enum class Condition { kFine, kHanging, kBroken };
  Condition ConditionOf(const DataGroup& group);
  std::vector<Process*> Here(const DataGroup& group);
  void Complete(DataGroup& group, const std::vector<Process*>& ranks, uint64_t leap);
  void FailInMidAir(DataGroup& group);
  void Rendezvous(DataGroup& group);
  void Boundary(DataGroup& group);
  void Fail(DataGroup& group);
  bool Hang(DataGroup& group, void (World::*again)(DataGroup&));
  const ModelState* NewestState(const std::vector<Process*>& ranks);
  std::optional<ModelState> StateBeforeLeap(const DataGroup& group,
                                            const std::vector<Process*>& ranks,
                                            std::string& problem);
  bool DieWhileUndoing(DataGroup& group, const std::vector<Process*>& ranks,
                       const ModelState& before);
  ModelState Stored(const DataGroup& group);

  // Sessions (network.cc).
  struct Session {
    uint64_t id = 0;
    std::string agent;
    uint64_t incarnation = 0;
    bool agent_open = true;
    bool coordinator_open = true;
    Micros last_up = 0;
    Micros last_down = 0;
  };
  Micros DelayOf(const Agent& agent);
  void DeliverUp(uint64_t session, machine::Event event, Micros when, bool late);
  void DeliverDown(uint64_t session, machine::CoordinatorMessage message);
  void CoordinatorSeesClose(uint64_t session, Micros delay);
  void AgentSeesClose(uint64_t session, Micros delay);

  const SimOptions options_;
  Timeline timeline_;
  Random random_;
  Disk disk_;
  Oracle oracle_;
  std::unique_ptr<machine::Cluster> cluster_;     // null: the coordinator is down
  uint64_t coordinator_start_ = 0;                // counts its starts
  int crash_at_write_ = 0;                        // 1: before, 2: after, 3: after what follows
  Micros stop_at_write_ = 0;                      // for so long; 0: not
  Micros stopped_until_ = 0;                      // the coordinator
  std::vector<std::pair<Micros, Micros>> stops_;  // of it, by rising time
  std::deque<machine::Event> backlog_;            // what it has not heard yet
  std::optional<std::pair<machine::Actions, bool>> interrupted_;  // it stopped after this write
  std::vector<Agent> agents_;
  std::vector<JobPlan> jobs_;
  std::vector<Checkpoint> checkpoints_;
  std::map<std::pair<std::string, uint64_t>, DataGroup> groups_;
  std::map<uint64_t, Session> sessions_;
  uint64_t next_session_ = 1;
  uint64_t next_incarnation_ = 1;
  uint64_t next_correlation_ = 1;
  std::map<uint64_t, int> asked_;  // creations awaiting a reply: job by correlation
  std::map<uint64_t, int> asked_again_;
  int again_ = 0;
  Micros faults_end_ = 0;
  int false_lines_ = 0;
  SimResult result_;
};

}  // namespace leap::sim
