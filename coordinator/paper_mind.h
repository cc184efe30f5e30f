// Test-only: what an agent of paper answers. It trains and scores nothing, yet keeps to the
// protocol: joins every epoch, "trains" a step a heartbeat, scores candidates half a nat better
// than the baseline, votes for each leap with digests that add up, and applies what is decided. No
// thread, no stream: whoever owns it carries the messages.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "leap/v1/agent.pb.h"

namespace leap {

// The digest that a paper verifier gives to the candidate (base step, predictor, K): the sum of the
// ranks' shares.
uint64_t PaperDigest(int64_t base_step, int predictor, int64_t horizon_steps);

class PaperMind {
 public:
  PaperMind(const std::string& name, v1::Role role, uint64_t incarnation);

  v1::Hello Hello() const;
  v1::Heartbeat Beat();
  // What it says to `message`, in order.
  std::vector<v1::AgentMessage> On(const v1::CoordinatorMessage& message);
  // Its shard of the snapshot at `step`, in a group whose members all report it.
  v1::AgentMessage Snapshot(int64_t step);
  v1::AgentMessage EndJob(int64_t step);
  // What still stands and may have been lost, to be said again after a reconnect.
  std::vector<v1::AgentMessage> Repeat() const;
  // Leaps that it was told to commit.
  const std::set<uint64_t>& applied() const { return applied_; }

  // What a peer's state is when an epoch begins (a group of one has its own).
  void TakeStateOf(const PaperMind& peer);

  // It is a rank, be it a worker or a verifier that stands in.
  bool trains() const { return trains_; }
  int64_t step() const { return step_; }
  const std::string& job() const { return hello_.job(); }
  uint64_t epoch() const { return hello_.epoch(); }
  int rank() const { return rank_; }

 private:
  void Join(const v1::AssignWorker& assign, std::vector<v1::AgentMessage>* replies);
  void ReadSpec(const std::string& yaml);
  v1::AgentMessage Score(const v1::Task& task) const;
  v1::AgentMessage Vote(const v1::Prepare& prepare);
  v1::AgentMessage Outcome(const v1::Decide& decide);
  uint64_t ShareOf(uint64_t digest) const;

  v1::Hello hello_;
  bool trains_ = false;
  int rank_ = 0;
  int world_size_ = 1;
  int64_t step_ = 0;
  std::vector<bool> scaled_;           // by predictor: it takes scales
  std::map<uint64_t, int64_t> bases_;  // of prepared leaps
  std::set<uint64_t> applied_;
  std::optional<v1::AgentMessage> ended_;  // until it is released
};

}  // namespace leap
