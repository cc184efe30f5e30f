// The actions of one step while they are being collected, and what the step may look at. Made by
// Cluster::Step, handed down by reference, gone when the step ends.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/machine/action.h"
#include "coordinator/machine/options.h"
#include "coordinator/machine/registry.h"

namespace leap::machine {

// What rests on the durability of this step's records.
struct Decision {
  enum class Kind {
    kCreateJob,
    kFormEpoch,    // epoch
    kPrepareLeap,  // leap
    kCommitLeap,   // leap
    kUndoLeap,     // leap
    kEndJob,
    kPauseJob,  // paused: the new value
  };
  Kind kind;
  std::string job;
  uint64_t epoch = 0;
  uint64_t leap = 0;
  bool paused = false;
  std::vector<uint64_t> correlations;  // to be answered
};

class Batch {
 public:
  Batch(absl::Time now, const ClusterOptions& options, AgentRegistry& agents)
      : now_(now), options_(options), agents_(agents) {}

  absl::Time now() const { return now_; }
  const ClusterOptions& options() const { return options_; }
  bool Planted(Mutation mutation) const { return options_.mutation == mutation; }
  AgentRegistry& agents() { return agents_; }

  // To the agent's open session; nothing if it has none, or if another process has the name: what
  // still stands is said again after its next Hello.
  void Send(const Agent& agent, CoordinatorMessage message);
  void Send(absl::string_view agent, uint64_t incarnation, CoordinatorMessage message);
  void SendStale(const Agent& agent, absl::string_view job, uint64_t epoch, absl::string_view what);
  // Tells the agent to drop its job; idle once it says so.
  void Release(Agent& agent, absl::string_view job, absl::string_view reason);

  void Write(Record record) { actions_.records.push_back(std::move(record)); }
  void Decide(Decision decision) { decisions_.push_back(std::move(decision)); }
  // The job's row is written and published at the end of the step, as it is then.
  void WriteJob(absl::string_view job) { rows_.insert(std::string(job)); }
  void Changed(absl::string_view job) { changed_.insert(std::string(job)); }

  void Log(LogLine line) { actions_.log.push_back(std::move(line)); }
  void Count(Metric metric, std::vector<std::string> labels = {}, double value = 1) {
    actions_.counts.push_back({metric, std::move(labels), value});
  }
  void Answer(uint64_t correlation, absl::Status status, absl::string_view job) {
    actions_.replies.push_back({correlation, std::move(status), std::string(job)});
  }
  void Close(uint64_t session, absl::Status status) {
    actions_.closes.push_back({session, std::move(status)});
  }

  const std::set<std::string>& rows() const { return rows_; }
  std::vector<Decision> TakeDecisions() { return std::move(decisions_); }
  // Everything but the ticket.
  Actions TakeActions();
  bool writes() const { return !actions_.records.empty() || !rows_.empty(); }

 private:
  const absl::Time now_;
  const ClusterOptions& options_;
  AgentRegistry& agents_;
  Actions actions_;
  std::vector<Decision> decisions_;
  std::set<std::string> rows_;
  std::set<std::string> changed_;
};

}  // namespace leap::machine
