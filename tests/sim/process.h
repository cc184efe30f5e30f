// An agent and the process that plays it just now: the contract of coordinator/machine/message.h
// from the other side.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/machine/message.h"
#include "tests/sim/model.h"
#include "tests/sim/timeline.h"

namespace leap::sim {

class World;
class Process;

// How a verifier lies.
enum class Lie { kNone, kBaseDigest, kCandidateDigest, kNan, kLength };

// A name in the cluster; processes come and go.
struct Agent {
  std::string name;
  machine::Role role = machine::Role::kWorker;
  bool can_stand_in = false;         // a verifier with a store address
  std::unique_ptr<Process> process;  // null: not running
  uint64_t session = 0;              // as the agent sees it; 0: not connected
  Micros greeted = -1;               // when the coordinator heard the session's Hello; -1: not yet
  Micros partitioned_until = 0;      // from the coordinator
  Micros data_partitioned_until = 0;
  Micros slow_until = 0;
  bool slow_scorer = false;
  Lie lie = Lie::kNone;
  bool ever_lied = false;
  bool ever_corrupt = false;
};

// A snapshot in a rank's ring.
struct RingEntry {
  int64_t step = 0;
  uint64_t weights = 0;
};

class Process {
 public:
  enum class Mode { kIdle, kJoining, kTraining, kStopped, kAborted, kVerifying };

  Process(World& world, Agent& agent, uint64_t incarnation)
      : world_(world), agent_(agent), incarnation_(incarnation) {}

  Agent& agent() { return agent_; }
  uint64_t incarnation() const { return incarnation_; }
  bool InEpoch(const std::string& job, uint64_t epoch) const {
    return job_ == job && epoch_ == epoch && (mode == Mode::kJoining || mode == Mode::kTraining);
  }

  // ---- common (process.cc) ----
  void Start();
  void OnConnected();  // the stream is open: Hello, and what may have been lost
  void OnDisconnected();
  void On(const machine::CoordinatorMessage& message);
  // Runs `action` on this process after `delay`, when it is not stopped; not at all if it is dead
  // by then.
  void Later(Micros delay, std::function<void(Process&)> action);
  void Send(machine::AgentMessage message);
  void Heartbeat();

  // ---- main worker (rank.cc) ----
  // The data plane says: the group stands, with this state.
  // `undone`: without the leap that the epoch was to undo; else `undo_problem` says why.
  void Ready(const ModelState& newest, const std::string& recovered_from, bool undone,
             const std::string& undo_problem);
  // The state as it was before `leap`, of which every rank keeps its shard; null: not kept here, or
  // as a shard of another group.
  const ModelState* Before(uint64_t leap) const;
  // Goes on from `before` instead of what it holds; what was kept of later leaps is of no use.
  void Undo(uint64_t leap, const ModelState& before);
  // A boundary that all ranks reached. `leap`: they all hold COMMIT for it, 0: no agreement.
  void Train(uint64_t leap, bool snapshot, bool last);
  void End();
  void StopForNan();
  void CollectiveBroke();
  void LeaveEpoch();
  void LeaveJob();

  Mode mode = Mode::kIdle;
  Micros stopped_until = 0;  // SIGSTOP
  std::optional<ModelState> state;
  uint64_t held_leap = 0;  // COMMIT held, not yet applied
  bool paused = false;
  bool ended = false;
  bool said_goodbye = false;
  bool corrupt = false;       // a bit flipped; healed by taking a peer's state
  bool bad_transfer = false;  // the next state it takes over arrives with a flipped bit
  bool reports_nan = false;   // at the next boundary
  uint64_t formed_epoch = 0;  // newest epoch that the ledger knows it was part of (oracle's)
  std::deque<RingEntry> ring;

  const std::string& job() const { return job_; }
  uint64_t epoch() const { return epoch_; }
  int rank() const { return rank_; }
  int world_size() const { return world_size_; }
  bool HoldsApplicable(uint64_t leap) const;
  std::optional<uint64_t> SnapshotWeights(int64_t step) const;

 private:
  struct Staged {
    machine::Prepare prepare;
    uint64_t base = 0;
    uint64_t candidate = 0;
  };

  void On(const machine::Welcome&) {}
  void On(const machine::AssignWorker& message);
  void On(const machine::AssignVerifier& message);
  void On(const machine::AbortEpoch& message);
  void On(const machine::Release& message);
  void On(const machine::RunControl& message);
  void On(const machine::Task& message);
  void On(const machine::CancelTask& message);
  void On(const machine::Prepare& message);
  void On(const machine::Decide& message);
  void On(const machine::Stale&) {}
  void Vote(const machine::Prepare& message);
  void Apply(uint64_t leap);
  void TakeSnapshot();
  std::vector<machine::ShardDigest> DigestOthers(int64_t interval_steps) const;
  void Outcome(uint64_t leap, bool applied, int64_t boundary);
  void WriteCheckpoint(bool at_once);
  void Score(const machine::Task& task);

  World& world_;
  Agent& agent_;
  const uint64_t incarnation_;
  std::string job_;
  uint64_t epoch_ = 0;
  int rank_ = -1;
  int world_size_ = 0;
  std::optional<machine::EpochReady> ready_;
  std::optional<machine::CollectiveFailed> failed_;
  std::optional<machine::JobEnded> job_ended_;
  std::optional<machine::CheckpointWritten> checkpoint_;
  struct Kept {  // from before a leap
    ModelState state;
    int rank = 0;
    int world_size = 0;
  };
  std::map<uint64_t, Staged> staged_;
  std::map<uint64_t, Kept> kept_;  // of the newest few leaps
  std::map<uint64_t, machine::PrepareVote> votes_;
  std::map<uint64_t, machine::LeapOutcome> outcomes_;
  uint64_t applied_since_snapshot_ = 0;
  int64_t reported_step_ = -1;  // by the newest heartbeat of a rank 0, with this loss
  double reported_loss_ = 3;
  std::optional<machine::Task> task_;          // being scored
  std::optional<machine::TaskResult> result_;  // of the newest task, until cancelled
};

}  // namespace leap::sim
