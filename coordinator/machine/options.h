// What the coordinator's operator may choose, and the bounds of everything that could grow.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
#include "coordinator/machine/loss_spike.h"

namespace leap::machine {

// Planted protocol bugs, for the simulation's mutation check (tests/sim). kNone in production.
enum class Mutation {
  kNone,
  kCountStaleVotes,         // a vote is counted for whatever leap is being prepared
  kCommitBeforeDurable,     // Decide(commit) leaves with the record instead of after it
  kPrepareBeforeDurable,    // Prepare leaves with the record: a crash hands out the leap's number
                            // twice
  kIgnoreVoteDigests,       // commits although the ranks' shards do not add up to what was verified
  kCommitOnMajority,        // does not wait for every rank's vote
  kKeepLeapAcrossEpochs,    // a leap in PREPARE survives a change of epoch
  kReuseEpoch,              // a new group under the old epoch's number
  kNoMajorityGuard,         // a minority may form an epoch
  kTwoLeapsInFlight,        // the next leap does not wait for the last one's outcome
  kAcceptOldEpoch,          // messages of an epoch that is over are counted
  kCheckpointDespitePeers,  // goes back to a checkpoint although a peer holds live state
  kForgetCommitAtRestart,   // a COMMITTED leap is written off by a restart
  kReuseLeapNumbers,        // leap numbers begin at 1 again after a restart
  kTrustEveryDigest,        // a verifier's digest of the base is not compared
  kIgnoreUnequalRanks,      // an epoch is accepted although its ranks report unequal weights
  kIgnoreCorruption,        // silent corruption is not looked for
  kEndBeforeDurable,        // the workers are released before the job's end is in the ledger
  kNewcomersAreLive,        // a newcomer without state counts as a holder of live state
  kForgetQuarantine,        // a restart lets everybody out of quarantine
  kUseQuarantined,          // a verifier in quarantine goes on scoring
  kUndoBeforeDurable,       // a leap is undone though the ledger does not know the decision
  kForgetUndoAtRestart,     // a leap that is being undone is forgotten by a restart
  kResurrectUndone,         // (of ranks) the further state wins, though a rank holds an undone one
  kExpireAtEnd,             // a decided leap counts as expired when the job ends before its outcome
  kForgetResume,            // whoever was resumed while no epoch stood stays paused
  kSpikeAtOnce,             // one high loss counts as a spike
  kBlameSilenceOfItsOwn,    // leases run out while the coordinator itself stands still
  kForgetRequests,          // a restart forgets the request ids of jobs
};

struct ClusterOptions {
  uint64_t incarnation = 1;  // of this coordinator process
  uint64_t seed = 0;         // of the planner's exploration

  double heartbeat_seconds = 0.5;
  double lease_seconds = 5;  // of an agent without a job; with one: spec.timeouts.lease_seconds

  // After a collective's error: how long to listen whose session closed.
  absl::Duration collective_grace = absl::Milliseconds(200);
  // While no epoch stands: how long a member with a closed session is waited for if another one is
  // here.
  absl::Duration reconnect_grace = absl::Seconds(1);
  // How long an epoch with too few ranks stands before it makes place for workers that came.
  absl::Duration grow_after = absl::Seconds(10);
  // Pause before an epoch is tried again after it failed to form: doubled from the first to the
  // second.
  absl::Duration formation_retry_min = absl::Milliseconds(100);
  absl::Duration formation_retry_max = absl::Seconds(10);
  // Pause before a decision that could not be written is tried again.
  absl::Duration persist_retry = absl::Seconds(1);
  // How long a job whose training has ended waits for the last baselines and audits.
  absl::Duration wind_down = absl::Seconds(30);
  absl::Duration task_deadline = absl::Seconds(120);
  absl::Duration audit_deadline = absl::Minutes(30);
  // An agent that has no job and is gone for so long is forgotten.
  absl::Duration forget_agents = absl::Hours(1);

  size_t max_jobs = 1000;  // queued and running; ended ones are forgotten beyond, oldest first
  size_t max_agents = 10'000;
  size_t max_unwritten =
      10'000;  // rows that wait for a ledger that cannot be written; beyond, the oldest events,
               // snapshots and candidates go: no decision rests on them
  SpikeOptions spike;
  int max_task_attempts = 3;
  int max_verifier_errors = 5;  // in a row; then quarantine

  Mutation mutation = Mutation::kNone;
};

}  // namespace leap::machine
