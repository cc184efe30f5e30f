// The invariants of protocol.md, and what follows from them, checked against the whole simulated
// world: what is really on the disk, in the ranks' weights and on the wire. The first violation
// ends the run.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "coordinator/machine/action.h"
#include "coordinator/machine/message.h"
#include "coordinator/machine/record.h"
#include "tests/sim/model.h"

namespace leap::sim {

class World;
class Process;
struct DataGroup;

class Oracle {
 public:
  explicit Oracle(World& world) : world_(world) {}

  const std::string& violation() const { return violation_; }
  void Violate(const char* format, ...) __attribute__((format(printf, 2, 3)));

  // ---- the data plane ----
  // A group of an epoch met; `newest` is what all take over.
  void OnRendezvous(const DataGroup& group, const std::vector<Process*>& ranks,
                    const ModelState& newest);
  void OnReady(const Process& process, const machine::EpochReady& ready);
  // Before and after a boundary that all members reached.
  void BeforeBoundary(DataGroup& group, const std::vector<Process*>& ranks);
  void AfterBoundary(const DataGroup& group, const std::vector<Process*>& ranks);
  // Of a boundary that only these members completed.
  void AfterMidAir(const DataGroup& group, const std::vector<Process*>& ranks);
  // All ranks are about to go back to the state before the leap that their epoch is to undo.
  void OnUndo(const DataGroup& group, const std::vector<Process*>& ranks);
  // A rank is about to apply a leap to its weights.
  void OnApply(const Process& process, uint64_t leap, uint64_t base, uint64_t candidate);
  void OnCollectiveFailed(const std::string& job, uint64_t epoch) { failed_.insert({job, epoch}); }
  void OnVote(const machine::PrepareVote& vote);

  // ---- the coordinator ----
  void OnDurable(const std::vector<machine::Record>& records);
  void OnSend(const machine::Send& send);
  void OnReply(const machine::Reply& reply);

  // ---- faults that excuse something ----
  // NaN in this epoch: the next one goes back to a checkpoint; the job fails if there is none.
  void OnRewind(const std::string& job, uint64_t epoch) {
    rewound_[job] = epoch;
    may_fail_.insert(job);
  }
  // A spike was reported: the next epoch may go back to a checkpoint.
  void OnSpike(const std::string& job, uint64_t epoch) { rewound_[job] = epoch; }
  void OnUnnoticed(const std::string& job) { unnoticed_.insert(job); }  // its end may be corrupt

  // ---- the end ----
  void AtEnd();

 private:
  bool GivenUp(const std::string& job, uint64_t epoch) {
    return epoch < progress_[job].epoch;  // a later one has met
  }
  void CheckInVain(DataGroup& group, const std::vector<Process*>& ranks);
  void CheckTrajectory(const std::string& job, const ModelState& state);
  void CheckLeapsAtEnd(const std::string& job);
  void CheckEpochRow(const machine::EpochRecord& row);
  void CheckGuard(const machine::EpochRecord& row);
  void CheckLeapRow(const machine::LeapRecord& row);
  void CheckSnapshotRow(const machine::SnapshotRecord& row);
  void CheckQuarantine(const machine::AgentRecord& row);
  void CheckLoss(const machine::EventRecord& row);
  void CheckSend(const std::string& agent, const machine::AssignWorker& message);
  void CheckSend(const std::string& agent, const machine::Decide& message);
  void CheckSend(const std::string& agent, const machine::Prepare& message);
  void CheckSend(const std::string& agent, const machine::Task& message);
  void CheckSend(const std::string& agent, const machine::Release& message);
  template <typename Message>
  void CheckSend(const std::string&, const Message&) {}

  struct Progress {       // of one job
    uint64_t epoch = 0;   // newest that met
    ModelState complete;  // state after the last boundary that all members completed
    ModelState alone;     // of members that ended with a step that not all completed
    std::map<std::tuple<int, int64_t, uint64_t>, uint64_t>
        chain;  // weights by (line, position, hash of the leaps)
  };

  World& world_;
  std::string violation_;
  std::map<std::string, Progress> progress_;
  // By job, epoch, agent: what it said, and the leaps in its weights.
  std::map<std::tuple<std::string, uint64_t, std::string>,
           std::pair<machine::EpochReady, std::vector<uint64_t>>>
      ready_;
  std::map<std::pair<std::string, uint64_t>, machine::LeapRecord> rows_;  // newest row by job, leap
  std::set<std::pair<std::string, uint64_t>> checked_, formed_;           // epochs, by job, number
  std::map<std::tuple<std::string, uint64_t, uint64_t, int>, machine::PrepareVote>
      votes_;                                          // job, epoch, leap, rank
  std::set<std::pair<std::string, uint64_t>> failed_;  // epochs in which a rank reported a failure
  std::map<std::string, uint64_t> rewound_;  // by job: the epoch that NaN or a spike may end
  std::set<std::string> may_fail_, unnoticed_;
  std::set<std::pair<std::string, uint64_t>> applied_, undone_;  // job, leap: by a rank; by all
};

}  // namespace leap::sim
