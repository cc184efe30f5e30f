// One job, from the queue to its end: its main group by the rules of membership.h, its leaps by
// LeapMachine, its state with the reason for it. Events in, actions (into the batch) out; owned by
// Cluster.
//
//   QUEUED --gang is complete--> STARTING --epoch formed--> RUNNING <--> PAUSED
//                                                  ^             | a member lost, a collective
//                                                  failed, NaN, corruption |             v
//                                                  +------- RECOVERING
//   from any of these: SUCCEEDED, FAILED, CANCELLED (for good, once durable; then the agents are
//   released)
//
// What the group does and what is shown are two things: a paused job that loses a worker recovers
// and is paused again.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "coordinator/machine/batch.h"
#include "coordinator/machine/event.h"
#include "coordinator/machine/job_core.h"
#include "coordinator/machine/leap_machine.h"
#include "coordinator/machine/loss_spike.h"
#include "coordinator/machine/record.h"
#include "coordinator/machine/view.h"

namespace leap::machine {

class JobMachine {
 public:
  JobMachine(JobRecord record, uint64_t seed);

  // ---- people ----
  // The job is in the queue; `wait` says for what (said by the queue, whenever it changes).
  void Queued(Wait wait, Batch& batch);
  // Starts if the gang is complete; else returns what it waits for.
  std::optional<Wait> TryStart(Batch& batch);
  // Each answers its correlation, at once or when it is durable.
  void Cancel(const CancelJob& request, Batch& batch);
  void SetPaused(bool paused, uint64_t correlation, Batch& batch);

  // ---- agents ----
  // After a Hello that names this job, or of an agent that has been given to it: says again what
  // stands. False: the agent has no place here.
  bool OnHello(Agent& agent, const Hello& hello, Batch& batch);
  // The process is gone for good: another one has its name, or it said Goodbye.
  void OnAgentGone(const Agent& agent, absl::string_view why, Batch& batch);
  void OnSessionClosed(const Agent& agent, Batch& batch);
  // The agent says that it has no job, or another one. True: it was a rank of an epoch that stands,
  // and is not any more.
  bool OnDropped(const Agent& agent, Batch& batch);
  void OnMessage(Agent& agent, const AgentMessage& message, Batch& batch);
  // An idle verifier is given to this job.
  void TakeVerifier(Agent& agent, Batch& batch);
  bool WantsVerifier() const;

  void OnTick(Batch& batch);
  // The coordinator itself stood still for so long: no rank and no spare could come meanwhile.
  void StoodStill(absl::Duration gap);
  // The records that `decision` rests on are durable, or could not be written.
  void OnDurable(const Decision& decision, bool ok, absl::string_view error, Batch& batch);
  // A row that could not be written, as it holds now; nothing: there is no such row any more.
  std::optional<Record> Refresh(const Record& record) const;
  void RowIsDurable() { core_.task_ids_durable = core_.record.task_ids_reserved; }
  void LedgerOk(bool ok, absl::string_view error, Batch& batch);

  // ---- looking ----
  const JobRecord& record() const { return core_.record; }
  bool ended() const { return IsEnded(core_.record.state); }
  bool queued() const { return core_.record.state == JobState::kQueued; }
  int verifiers() const { return leaps_->board().size(); }
  const Group& group() const { return core_.group; }
  const LeapMachine& leaps() const { return *leaps_; }
  JobRecord Row() const;
  JobView View(const AgentRegistry& agents, const ClusterOptions& options, absl::Time now) const;
  // Remembers since when it waits for what (job_waits.cc).
  void NoteWaits(Batch& batch);

  // Rows of this job, before any event. `now`: leases count from here.
  void Restore(const Ledger& ledger, Batch& batch);

 private:
  struct Ending {
    JobState state = JobState::kFailed;
    std::string reason;
    std::vector<uint64_t> correlations;
    absl::Time time = absl::InfinitePast();     // of the row
    absl::Time retry = absl::InfiniteFuture();  // the ledger could not be written: again then
  };

  // The group (job_group.cc).
  void CheckGroup(Batch& batch);
  void CheckFormed(Batch& batch);
  void CheckForming(Batch& batch);
  void CheckSize(Batch& batch);
  void TryForm(Batch& batch);
  MembershipState StateOfMembership(Batch& batch, std::map<std::string, Agent*>& spares) const;
  MembershipOptions OptionsOfMembership(const Batch& batch) const;
  void Propose(const MembershipDecision& decision, Batch& batch);
  GroupMember TakeSeat(const Seat& seat, Batch& batch);
  void ReleaseUnseated(Batch& batch);
  void TakeBackProposal(absl::string_view error, Batch& batch);
  void TellRanks(Batch& batch);
  AssignWorker AssignmentOf(int rank) const;
  void Formed(Batch& batch);
  void Break(absl::string_view cause, const std::string& reason, Batch& batch);
  void MarkLost(const BreakDecision& decision, Batch& batch);
  // Charges the rule's budget; false: it is used up, and the job fails.
  bool Charge(absl::string_view role, absl::string_view cause, int64_t times,
              const std::string& reason, Batch& batch);
  const FailureRule* FindRule(absl::string_view role, absl::string_view cause) const;
  void HandleAlarm(Batch& batch);
  std::string Trusted(const Alarm& alarm) const;
  // Nobody's state is to be used: the next epoch begins from the newest checkpoint, also after a
  // restart.
  void DistrustState();
  // Out of the group and into quarantine.
  void Expel(GroupMember& member, absl::string_view cause, const std::string& reason, Batch& batch);
  // A rank cannot go on: if another one holds the job's state it is that machine's fault, not the
  // job's, and another one takes its place. False: nobody else holds it.
  bool GoOnWithout(GroupMember& member, const std::string& reason, Batch& batch);

  // Training that goes wrong by itself (job_training.cc).
  void TrainingFailed(absl::string_view cause, std::string reason, Batch& batch);
  // How often in a row training has now come to `cause` from the same state with the same members.
  int CountInVain(absl::string_view cause);
  // The rule for a loss spike; null: it says ignore.
  const FailureRule* SpikeRule() const;
  void WatchLoss(const Heartbeat& heartbeat, Batch& batch);
  void TakeHeldCheckpoint(Batch& batch);
  void TakeCheckpoint(const CheckpointWritten& checkpoint, Batch& batch);
  void CheckpointFailed(const CheckpointWritten& checkpoint, Batch& batch);

  // Messages (job_messages.cc). `member`: the sender's seat in the standing epoch.
  GroupMember* SenderOf(const Agent& agent, uint64_t epoch, absl::string_view what, Batch& batch);
  GroupMember* SenderOf(const Agent& agent, uint64_t epoch, int rank, absl::string_view what,
                        Batch& batch);
  void On(Agent& agent, const Heartbeat& heartbeat, Batch& batch);
  void On(Agent& agent, const EpochReady& ready, Batch& batch);
  void On(Agent& agent, const CollectiveFailed& failed, Batch& batch);
  void On(Agent& agent, const SnapshotTaken& shard, Batch& batch);
  void On(Agent& agent, const TaskResult& result, Batch& batch);
  void On(Agent& agent, const PrepareVote& vote, Batch& batch);
  void On(Agent& agent, const LeapOutcome& outcome, Batch& batch);
  void On(Agent& agent, const CheckpointWritten& checkpoint, Batch& batch);
  void On(Agent& agent, const JobEnded& ended, Batch& batch);
  void On(Agent& agent, const TrainingStarted& started, Batch& batch);
  void On(Agent&, const Hello&, Batch&) {}
  void On(Agent&, const Goodbye&, Batch&) {}
  bool HelloOfMember(Agent& agent, int rank, const Hello& hello, Batch& batch);
  void CountBusy(Agent& agent, double busy_seconds, absl::string_view role, Batch& batch);

  // What the job waits for, what training waits for first (job_waits.cc). `agents`: also says who
  // is where; null: not.
  std::vector<Wait> Waits(const AgentRegistry* agents, const ClusterOptions& options,
                          absl::Time now) const;
  void AddGroupWaits(const AgentRegistry* agents, const ClusterOptions& options, absl::Time now,
                     std::vector<Wait>& waits) const;
  Wait ForRanks(const AgentRegistry* agents, absl::Time now) const;
  void AddTrainingWaits(const ClusterOptions& options, absl::Time now,
                        std::vector<Wait>& waits) const;
  void AddVerifierWait(const AgentRegistry* agents, const ClusterOptions& options, absl::Time now,
                       std::vector<Wait>& waits) const;

  // State and end (job_machine.cc).
  void SetState(JobState state, std::string reason, Batch& batch);
  void ShowState(Batch& batch);
  std::string RunningReason() const;
  void End(JobState state, std::string reason, std::vector<uint64_t> correlations, Batch& batch);
  void ProposeEnd(Batch& batch);
  void Ended(Batch& batch);
  void ReleaseAll(absl::string_view reason, Batch& batch);
  void CheckFinished(Batch& batch);
  void SendControl(RunControl::Command command, Batch& batch);
  // Verifiers that are gone: their tasks go to others.
  void LoseVerifiers(Batch& batch);

  JobCore core_;
  std::unique_ptr<LeapMachine> leaps_;                              // holds a reference to core_
  std::map<std::pair<std::string, std::string>, int64_t> budgets_;  // used, by role and cause
  std::optional<Ending> ending_;
  absl::Time finished_ = absl::InfiniteFuture();  // when training ended everywhere
  absl::Time start_deadline_ = absl::InfiniteFuture();
  absl::Time not_before_ = absl::InfinitePast();  // of the next epoch
  std::vector<GroupMember> former_;          // members before a proposal that is not durable yet
  std::optional<bool> pausing_;              // proposed, not yet durable
  std::optional<Wait> wait_;                 // of the queue, or of the group
  std::map<std::string, absl::Time> since_;  // waits by Wait::what, as of the last tick
  int64_t progressed_to_ = -1;               // newest step of the epoch, and when it was reached
  absl::Time progressed_ = absl::InfinitePast();
  std::string epoch_cause_ = "start";  // why the next epoch, as a metric label
  // Instead of the checkpoint the next epoch may begin before this leap, if its ranks kept that
  // state; 0: none. Not in the ledger: a restart goes back to the checkpoint.
  uint64_t undo_instead_ = 0;
  SpikeWatch spikes_;
  std::string in_vain_;  // cause, state and members of the last epoch that training ended
  int times_in_vain_ = 0;
  std::optional<CheckpointWritten> held_checkpoint_;  // does not count yet
  std::string checkpoint_error_;  // of the newest one; empty: it was written, or is still to come
};

}  // namespace leap::machine
