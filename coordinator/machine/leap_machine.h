// Speculation and commit of one job: snapshots in, tasks out; results in, verdict; PREPARE, votes,
// the durable COMMIT, outcomes; then savings and the retained-gain audit. protocol.md, "The cycle",
// steps 3 to 8:
//
// * 3 fingerprint, baseline: OnSnapshotTaken, StartRound, Dispatch; OnTaskResult, ScoreBaseline
// * 4 candidates: StartRound (core/planner.h), Dispatch
// * 5 verdict: MaybeJudge, JudgeRound (core/acceptance.h)
// * 6 commit, by reference: BeginLeap, durable, Prepare; OnVote, durable, Decide(commit)
// * 7 apply at one boundary: in the data plane; OnOutcome hears of it
// * 8 after: Applied (core/savings.h), SettleAudits (core/audit.h)
//
// Whoever calls has checked that the sender belongs to the job's current epoch; what leap, task or
// snapshot a message is about is checked here, and a stale one is answered as stale. Part of
// JobMachine, same thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "coordinator/machine/audit_book.h"
#include "coordinator/machine/batch.h"
#include "coordinator/machine/job_core.h"
#include "coordinator/machine/leap_flight.h"
#include "coordinator/machine/record.h"
#include "coordinator/machine/snapshot_book.h"
#include "coordinator/machine/task_board.h"
#include "coordinator/machine/wait.h"
#include "core/planner.h"
#include "core/predictor.h"
#include "core/regime.h"
#include "core/savings.h"

namespace leap::machine {

// Something the leap machine saw that the group must answer with a new epoch.
struct Alarm {
  std::string reason;
  int expel_rank = -1;              // the odd one out; -1: cannot tell
  bool back_to_checkpoint = false;  // nobody's state can be trusted
  int64_t agreed_step = -1;         // of the newest snapshot on which all ranks agreed; -1: none
};

class LeapMachine {
 public:
  // `core` outlives it; its spec does not change. `seed`: of the planner's exploration.
  LeapMachine(JobCore& core, uint64_t seed);

  // ---- the group ----
  // The epoch's ranks are training; `ready` is what they agreed on. Settles a leap left in doubt
  // and puts the ledger in step with a run that went back to a checkpoint.
  void OnEpochFormed(const EpochReady& ready, Batch& batch);
  // No epoch stands: a leap in PREPARE is aborted, all tasks are dropped.
  void OnEpochBroken(absl::string_view reason, Batch& batch);
  // The job has ended: a leap on its way is settled by what is known of it. One that is decided and
  // of which no rank has said anything stays COMMITTED: what ranks made of it is not known.
  void OnJobEnded(Batch& batch);
  // A rank of the standing epoch is back after its session broke.
  void ResyncRank(const Agent& agent, int rank, Batch& batch);

  // ---- verifiers ----
  void AddVerifier(const Agent& agent, Batch& batch);
  // Its tasks wait for another one; training does not notice.
  void RemoveVerifier(absl::string_view agent);
  void ResyncVerifier(const Agent& agent, Batch& batch);
  const TaskBoard& board() const { return board_; }

  // ---- messages ----
  void OnSnapshotTaken(const SnapshotTaken& shard, Batch& batch);
  void OnTaskResult(const Agent& agent, const TaskResult& result, Batch& batch);
  void OnVote(const Agent& agent, const PrepareVote& vote, Batch& batch);
  void OnOutcome(const Agent& agent, const LeapOutcome& outcome, Batch& batch);
  // The rank trains no more: what it has applied by now is all it ever will.
  void OnRankEnded(const JobEnded& ended, Batch& batch);
  void OnTick(Batch& batch);
  // The records that `decision` rests on are durable, or could not be written.
  void OnDurable(const Decision& decision, bool ok, absl::string_view error, Batch& batch);

  std::optional<Alarm> TakeAlarm() { return std::exchange(alarm_, std::nullopt); }

  // ---- looking ----
  uint64_t next_leap() const { return next_leap_; }
  const std::map<uint64_t, LeapRecord>& leaps() const { return leaps_; }
  // The row of `leap` as it holds now; null: there is none.
  const LeapRecord* Find(uint64_t leap) const;
  bool InFlight() const { return flight_.has_value(); }
  // The leap whose undoing is decided and not yet done; null: none.
  const LeapRecord* Undoing() const;
  // The newest leap applied after `checkpoint_step` of which ranks may have kept the state before
  // it; 0: none.
  uint64_t NewestUndoable(int64_t checkpoint_step) const;
  // Nothing is being scored that the job's end should wait for.
  bool Quiet() const;
  // What the next leap waits for, while an epoch trains (leap_waits.cc).
  void AddWaits(std::vector<Wait>& waits) const;
  // What a job whose training has ended still waits for; empty: nothing.
  std::string Unfinished() const;

  // Rows of this job, in the order of Ledger; called once, before any event. A leap in PREPARE is
  // aborted.
  void Restore(const std::vector<LeapRecord>& leaps, const std::vector<SnapshotRecord>& snapshots,
               const std::vector<CandidateRecord>& candidates, Batch& batch);

 private:
  struct Scored {  // a candidate's result
    CandidateKey key;
    std::string verifier;
    std::vector<float> losses;
    std::vector<double> scales;
    uint64_t digest = 0;
    double seconds = 0;
    Verdict verdict;
  };
  // The speculation on one snapshot.
  struct Round {
    int64_t base_step = 0;
    Regime regime = Regime::kUnknown;  // as known when it was planned
    std::vector<float> baseline;       // empty: not scored yet
    std::vector<Scored> results;
    int outstanding = 0;  // candidates planned and neither scored nor given up
    int planned = 0;
    bool judged = false;
  };

  // Speculation (leap_machine.cc).
  void StartRound(const HeldSnapshot& base, Batch& batch);
  void Supersede(int64_t newest_step, Batch& batch);
  void Dispatch(Batch& batch);
  std::optional<Task> BuildTask(const WorkItem& item, uint64_t id, double deadline_seconds);
  AppliedLeap AppliedAt(const SnapshotRecord& snapshot) const;
  void GiveUp(const WorkItem& item, Batch& batch);

  // Results and verdict (leap_verdict.cc).
  // The snapshot of this epoch at `step`, also one that the rings do not hold any more; null: it
  // was not taken, or is forgotten.
  const SnapshotRecord* Taken(int64_t step) const;
  std::string Refusal(const WorkItem& item, const TaskResult& result, absl::string_view* cause);
  void Refuse(const Agent& agent, WorkItem item, absl::string_view cause, const std::string& why,
              Batch& batch);
  void Quarantine(absl::string_view agent, absl::string_view cause, const std::string& why,
                  Batch& batch);
  void ScoreBaseline(const Agent& agent, const TaskResult& result, Batch& batch);
  void ScoreCandidate(const Agent& agent, const WorkItem& item, const TaskResult& result,
                      Batch& batch);
  void MaybeJudge(Batch& batch);
  void JudgeRound(bool superseded, Batch& batch);
  void JudgeCandidate(Scored& scored, const std::vector<double>& history);
  std::pair<VerdictReason, std::string> Objection(bool superseded, const Batch& batch) const;
  void WriteCandidate(const Scored& scored, Batch& batch);
  int64_t VerdictAge() const;
  void RestoreCurve();

  // Commit and after (leap_commit.cc).
  void BeginLeap(const Scored& best, Batch& batch);
  void ProposeCommit(Batch& batch);
  // By value: the reason may be the flight's own, which ends here.
  void Abort(std::string reason, Batch& batch);
  void CloseFlight(LeapState state, std::string reason, Batch& batch);
  void BlameForMismatch(Batch& batch);
  void Settle(LeapFlight::Fate fate, Batch& batch);
  void Applied(Batch& batch);
  void Expired(const std::string& reason, Batch& batch);
  void CountSavings(LeapRecord& leap);
  void SwitchOff(const std::string& reason, Batch& batch);

  // Whether it lasted (leap_audit.cc).
  void OpenAudit(const LeapRecord& leap, Batch& batch);
  void StartAudits(Batch& batch);
  void SettleAudits(Batch& batch);
  void UndoIfHarmful(const SettledAudit& audit, Batch& batch);
  void StartUndoing(const Decision& decision, bool ok, absl::string_view error, Batch& batch);
  void KeepAfterAll(LeapRecord& leap, const std::string& why, Batch& batch);
  void StopUndoing(Batch& batch);

  // The ledger after a recovery, a rollback or a restart (leap_restore.cc).
  void Reconcile(const EpochReady& ready, Batch& batch);
  void SettleUndo(const EpochReady& ready, Batch& batch);
  void DiscardAfter(int64_t step, Batch& batch);
  void RollBackRecord(LeapRecord& leap, const std::string& reason, Batch& batch);
  void RecountTotals();
  Prepare PrepareOf(const LeapRecord& leap) const;
  void SendToRanks(const CoordinatorMessage& message, Batch& batch);
  std::string PredictorName(int predictor) const;
  std::string NamesOf(const std::vector<int>& ranks) const;  // "rank 1 (w1), rank 2 (w2)"
  std::string BusyVerifiers() const;
  void AddFlightWait(std::vector<Wait>& waits) const;
  void AddRoundWait(std::vector<Wait>& waits) const;

  JobCore& core_;
  std::vector<PredictorNeeds> needs_;  // of spec.leap.predictors
  Planner planner_;
  RegimeTracker regimes_;
  SnapshotBook book_;
  TaskBoard board_;
  AuditBook audits_;
  std::optional<Round> round_;
  std::optional<LeapFlight> flight_;
  std::optional<Alarm> alarm_;
  std::deque<SnapshotRecord> history_;  // newest kHistory complete ones that were not discarded
  std::vector<LossPoint> curve_;        // of all scored snapshots that were not discarded
  std::map<uint64_t, LeapRecord> leaps_;
  uint64_t next_leap_ = 1;
  uint64_t next_task_ = 1;
  int64_t applied_count_ = 0;
  double expected_age_ = 0;                  // of a verdict, in steps: decayed mean
  std::optional<LeapRecord> undo_proposed_;  // ROLLING_BACK, not yet durable
  std::string mismatch_verifier_;  // of the last digest mismatch, if no leap was applied since
  VerdictReason pause_ = VerdictReason::kAccepted;  // why the last plan was empty, by the planner
  std::string pause_reason_;                        // in a sentence; empty: it was not
};

}  // namespace leap::machine
