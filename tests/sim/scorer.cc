// A verifier: one task at a time, honest, slow or lying.
#include <limits>

#include "tests/sim/world.h"

namespace leap::sim {

namespace wire = machine;

void Process::On(const wire::Task& task) {
  if (mode != Mode::kVerifying || task.job != job_) return;
  epoch_ = std::max(epoch_, task.epoch);
  if (result_ && result_->task == task.task) return Send(*result_);  // said again
  if (task_ && task_->task == task.task) return;
  task_ = task;
  result_.reset();
  Micros cost = world_.random().In(5, 60) * kMillisecond;
  if (agent_.slow_scorer) cost *= 10;
  if (task.kind == wire::Task::Kind::kAudit) cost *= 5;
  Later(cost, [id = task.task](Process& process) {
    if (process.task_ && process.task_->task == id) process.Score(*process.task_);
  });
}

void Process::On(const wire::CancelTask& message) {
  if (task_ && task_->task == message.task) task_.reset();
  if (result_ && result_->task == message.task) result_.reset();
}

void Process::Score(const wire::Task& task) {
  wire::TaskResult result{
      .job = task.job, .epoch = task.epoch, .task = task.task, .base_step = task.base_step};
  std::optional<uint64_t> base;
  for (const wire::ShardSource& source : task.snapshots.front().sources) {
    for (Agent& holder : world_.agents()) {
      if (holder.name + ":data" != source.data_address || holder.process == nullptr) continue;
      if (holder.process->job() == task.job && !base)
        base = holder.process->SnapshotWeights(task.base_step);
    }
  }
  const int64_t sequences = 4;
  if (!base) {
    result.error = "the snapshot is in nobody's ring any more";
  } else {
    result.ok = true;
    const bool candidate = task.kind == wire::Task::Kind::kCandidate;
    result.digest = candidate ? CandidateOf(*base, task.predictor, task.horizon_steps) : *base;
    result.gate_losses = GateLosses(result.digest, sequences, candidate);
    result.report_loss = 3;
    result.similarity = 0.99 + 0.01 * static_cast<double>(Mix(*base, 9) % 1000) / 1000;
    const Lie lie = agent_.lie;
    if (lie == Lie::kBaseDigest && !candidate) {
      result.digest ^= 1;
      result.gate_losses = GateLosses(result.digest, sequences, false);
    }
    if (lie == Lie::kCandidateDigest && candidate) {
      result.digest ^= 1;
      result.gate_losses = std::vector<float>(sequences, 1.0F);
    }
    if (lie == Lie::kNan && !candidate)
      result.gate_losses[0] = std::numeric_limits<float>::quiet_NaN();
    if (lie == Lie::kLength) result.gate_losses.pop_back();
  }
  task_.reset();
  result_ = result;
  Send(*result_);
}

}  // namespace leap::sim
