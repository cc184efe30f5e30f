// Training that goes wrong by itself, though every rank is there: a loss that is not finite, a loss
// spike; and the checkpoints that it can go back to.
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/machine/job_machine.h"
#include "core/job_paths.h"

namespace leap::machine {
namespace {

constexpr int kMostInVain = 3;  // of a rule without a limit

}  // namespace

int JobMachine::CountInVain(absl::string_view cause) {
  const Group& group = core_.group;
  std::string attempt = absl::StrCat(cause, " ", group.formed_step, " ", group.weights_digest);
  for (const GroupMember& member : group.members()) {
    absl::StrAppend(&attempt, " ", member.agent, "/", member.incarnation);
  }
  times_in_vain_ = attempt == in_vain_ ? times_in_vain_ + 1 : 1;
  in_vain_ = std::move(attempt);
  return times_in_vain_;
}

void JobMachine::TrainingFailed(absl::string_view cause, std::string reason, Batch& batch) {
  const FailureRule* const rule = FindRule("training", cause);
  if (rule == nullptr) return End(JobState::kFailed, std::move(reason), {}, batch);
  const bool back = rule->action == "rollback";
  if (back && core_.record.checkpoint_path.empty()) {
    return End(JobState::kFailed, absl::StrCat(reason, "; there is no checkpoint to go back to"),
               {}, batch);
  }
  if (!Charge("training", cause, 1, reason, batch)) return;
  if (CountInVain(cause) == kMostInVain && rule->budget == 0) {
    return End(
        JobState::kFailed,
        absl::StrCat(reason, "; ", kMostInVain, " times in a row training came to this from step ",
                     core_.group.formed_step,
                     " with nothing changed, so it would for ever; mend the cause and submit again",
                     core_.record.checkpoint_path.empty() ? "" : ": the checkpoint stays"),
        {}, batch);
  }
  absl::StrAppend(&reason,
                  back ? absl::StrCat("; the run goes back to the checkpoint at step ",
                                      core_.record.checkpoint_step)
                       : std::string("; the step is tried again"),
                  ", as the failure rule for training ", cause, " says (",
                  budgets_[{"training", std::string(cause)}], " of ",
                  rule->budget == 0 ? std::string("any number of") : absl::StrCat(rule->budget),
                  " times)");
  core_.Event(batch, cause, reason, Severity::kWarning);
  if (back) {
    DistrustState();
    undo_instead_ = leaps_->NewestUndoable(core_.record.checkpoint_step);
    held_checkpoint_.reset();
  }
  Break("rollback", reason, batch);
  CheckGroup(batch);
}

const FailureRule* JobMachine::SpikeRule() const {
  const FailureRule* const rule = FindRule("training", "loss-spike");
  return rule == nullptr || rule->action == "ignore" ? nullptr : rule;
}

// With no checkpoint to go back to, training goes on: most spikes heal.
void JobMachine::WatchLoss(const Heartbeat& heartbeat, Batch& batch) {
  const FailureRule* const rule = SpikeRule();
  if (rule == nullptr || ending_.has_value()) return;
  SpikeOptions options = batch.options().spike;
  options.grace = absl::Seconds(rule->grace_seconds);
  if (batch.Planted(Mutation::kSpikeAtOnce)) options.in_row = 1;
  std::string reason = spikes_.Observe(batch.now(), heartbeat.step, heartbeat.train_loss, options);
  const bool calm = !spikes_.above_since().has_value();
  if (calm && held_checkpoint_.has_value() && heartbeat.step > held_checkpoint_->step)
    TakeHeldCheckpoint(batch);
  if (reason.empty()) return;
  spikes_ = {};
  if (rule->action == "rollback" && core_.record.checkpoint_path.empty()) {
    TakeHeldCheckpoint(batch);
    core_.Event(batch, "loss-spike",
                absl::StrCat(reason, "; there is no checkpoint to go back to, training goes on"),
                Severity::kWarning);
    return;
  }
  TrainingFailed("loss-spike", std::move(reason), batch);
}

void JobMachine::On(Agent& agent, const CheckpointWritten& checkpoint, Batch& batch) {
  const GroupMember* const member = SenderOf(agent, checkpoint.epoch, "checkpoint-written", batch);
  if (member == nullptr) return;
  const std::string problem =
      member != core_.group.members().data() ? "only rank 0 writes checkpoints"
      : !checkpoint.error.empty()
          ? ""
          : CheckpointPathProblem(core_.spec(), core_.id(), checkpoint.step, checkpoint.path);
  if (!problem.empty()) {
    batch.Count(Metric::kRefused, {"checkpoint-written"});
    core_.Event(batch, "checkpoint-refused", absl::StrCat(agent.name, ": ", problem),
                Severity::kWarning);
    return;
  }
  if (!checkpoint.error.empty()) return CheckpointFailed(checkpoint, batch);
  checkpoint_error_.clear();
  // It counts when a later step had a calm loss: it may be what has to be left behind.
  const bool suspect = SpikeRule() != nullptr && core_.group.Formed() &&
                       finished_ == absl::InfiniteFuture() &&
                       checkpoint.step < core_.spec().train.steps;
  if (!suspect) return TakeCheckpoint(checkpoint, batch);
  held_checkpoint_ = checkpoint;
}

// Training does not wait for it, but for the last one. Told once, until one is written again.
void JobMachine::CheckpointFailed(const CheckpointWritten& checkpoint, Batch& batch) {
  const std::string error = absl::StrCat("step ", checkpoint.step, ": ", checkpoint.error);
  if (std::exchange(checkpoint_error_, error).empty())
    core_.Event(batch, "checkpoint-failed", error, Severity::kWarning);
}

void JobMachine::TakeHeldCheckpoint(Batch& batch) {
  const auto held = std::exchange(held_checkpoint_, std::nullopt);
  if (held.has_value()) TakeCheckpoint(*held, batch);
}

void JobMachine::TakeCheckpoint(const CheckpointWritten& checkpoint, Batch& batch) {
  // The first one of an epoch that undid a leap: what was written since the leap is discarded.
  const bool went_back =
      core_.group.undo_leap() != 0 && core_.group.phase() == Group::Phase::kForming;
  if ((checkpoint.step < core_.record.checkpoint_step && !went_back) ||
      checkpoint.path == core_.record.checkpoint_path)
    return;
  core_.record.checkpoint_step = checkpoint.step;
  core_.record.checkpoint_path = checkpoint.path;
  core_.Event(batch, "checkpoint", absl::StrCat("step ", checkpoint.step, ": ", checkpoint.path));
  batch.WriteJob(core_.id());
}

}  // namespace leap::machine
