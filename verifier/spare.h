// What leap-verifier is towards the coordinator: a verifier, and, where the job loses a main
// worker, the rank that was lost (a hot spare), until it is released; then a verifier again. One
// session, one name, one incarnation; who answers is decided here.
//
// Threads: callbacks run on the session's threads. Both agents must outlive this.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "leap/v1/agent.pb.h"
#include "rank/agent.h"
#include "service/agent_session.h"
#include "service/snapshot_server.h"
#include "verifier/agent.h"

namespace leap {

class SpareAgent {
 public:
  SpareAgent(VerifierAgent* verifier, RankAgent* rank);
  SpareAgent(const SpareAgent&) = delete;
  SpareAgent& operator=(const SpareAgent&) = delete;

  // Hand these to AgentSession::Start, then attach both agents.
  AgentSessionCallbacks Callbacks();

 private:
  const AgentSessionCallbacks& OnDuty() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnMessage(const v1::CoordinatorMessage& message) ABSL_LOCKS_EXCLUDED(mutex_);

  VerifierAgent* const verifier_;
  RankAgent* const rank_;
  const AgentSessionCallbacks scoring_;
  const AgentSessionCallbacks training_;

  Mutex mutex_;  // held while an agent is called: neither calls back
  bool has_rank_ ABSL_GUARDED_BY(mutex_) = false;
};

// Serves what either of them holds. Both must outlive it; thread-safe as they are.
class SpareHoldings final : public SnapshotSource {
 public:
  SpareHoldings(SnapshotSource* verifier, SnapshotSource* rank)
      : verifier_(verifier), rank_(rank) {}

  absl::StatusOr<PinnedRange> Pin(const v1::FetchRequest& request) override;
  std::vector<v1::Holding> ListHoldings(const std::string& job) override;

 private:
  SnapshotSource* const verifier_;
  SnapshotSource* const rank_;
};

}  // namespace leap
