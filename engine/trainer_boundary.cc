// The boundary between two steps: a leap that every rank holds, a snapshot, a checkpoint.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "core/digest.h"
#include "engine/internal/rank_trainer.h"

namespace leap {

absl::Status RankTrainer::Boundary(const std::vector<int64_t>& vote) {
  const bool all_hold = vote[kHeld] > 0 && vote[kHeld] == -vote[kMinusHeld];
  if (all_hold) LEAP_RETURN_IF_ERROR(ApplyLeap());
  const bool last = position_.step >= spec_.train.steps;
  if (spec_.leap.enabled && position_.data_position % spec_.leap.interval_steps == 0) {
    TakeSnapshot();
  }
  const int64_t every = spec_.checkpoint.every_steps;
  const bool due = every > 0 && position_.data_position % every == 0;
  if (vote[kMinusCheckpoint] < 0) checkpoint_wanted_ = false;
  if (group_->rank() == 0 && !last && (due || vote[kMinusCheckpoint] < 0)) WriteCheckpointAside();
  return absl::OkStatus();
}

// Every rank holds COMMIT for the same leap: the live shard becomes θ̂ (replace) or moves by θ̂ - θ_t
// (rebase), as separately rounded fp32, and the shards are gathered into the live weights.
absl::Status RankTrainer::ApplyLeap() {
  const absl::Time start = Now();
  const std::shared_ptr<Ring> ring = this->ring();
  const std::shared_ptr<const StagedLeap> leap = ring->HeldLeap();
  if (leap == nullptr) return absl::InternalError("a leap was agreed that is not held");
  int64_t largest = 0;
  for (int r = 0; r < group_->world_size(); ++r) {
    largest = std::max(largest, ShardOf(size(), r, group_->world_size()).size());
  }
  const FlatRange shard = ring->shard();
  at::Tensor mine = at::zeros({largest}, at::kFloat);
  float* values = mine.data_ptr<float>();
  const std::span<float> live(values, static_cast<size_t>(shard.size()));
  if (spec_.leap.commit_rule == CommitRule::kReplace) {
    std::copy(leap->predicted.begin(), leap->predicted.end(), values);
  } else {
    model_->ReadWeights(shard, live);
    const std::vector<float>& base = leap->base->weights;
    for (size_t i = 0; i < live.size(); ++i) {
      const float displacement = leap->predicted[i] - base[i];
      live[i] = live[i] + displacement;
    }
  }
  at::Tensor all = at::empty({largest * group_->world_size()}, at::kFloat);
  LEAP_RETURN_IF_ERROR(group_->Wait(group_->AllGather(all, mine)));
  std::vector<float> weights(static_cast<size_t>(size()));
  for (int r = 0; r < group_->world_size(); ++r) {
    const FlatRange part = ShardOf(size(), r, group_->world_size());
    const float* from = all.data_ptr<float>() + r * largest;
    std::copy(from, from + part.size(), weights.begin() + part.begin);
  }
  model_->WriteWeights(whole(), weights);
  const int64_t boundary_step = position_.step;
  LEAP_RETURN_IF_ERROR(ScaleMoments(leap->horizon_steps));
  if (spec_.leap.advance_step) {
    // Replace goes from the base; rebase keeps the steps trained since (core/savings.h).
    const bool replace = spec_.leap.commit_rule == CommitRule::kReplace;
    const int64_t from = replace ? leap->base_step : position_.step;
    position_.step = std::max(position_.step, from + leap->horizon_steps);
  }
  ++position_.leaps_applied;
  position_.last_leap = leap->leap;
  applied_since_snapshot_ = leap->leap;
  ring->MarkApplied(leap->leap);
  ShowPosition();
  PublishLeap(*leap, boundary_step, SecondsSince(start), std::move(weights));
  return absl::OkStatus();
}

absl::Status RankTrainer::ScaleMoments(int64_t horizon_steps) {
  if (spec_.leap.optimizer == OptimizerRule::kKeep) return absl::OkStatus();
  const size_t n = static_cast<size_t>(size());
  std::vector<float> exp_avg(n), exp_avg_sq(n);
  if (spec_.leap.optimizer == OptimizerRule::kReset) {
    position_.adam_step = 0;  // with its counter: bias correction starts over
  } else {
    model_->ReadMoments(whole(), exp_avg, exp_avg_sq);
    const auto k = static_cast<double>(horizon_steps);
    const auto first = static_cast<float>(std::pow(spec_.train.beta1, k));
    const auto second = static_cast<float>(std::pow(spec_.train.beta2, k));
    for (size_t i = 0; i < n; ++i) {
      exp_avg[i] *= first;
      exp_avg_sq[i] *= second;
    }
  }
  model_->WriteMoments(whole(), exp_avg, exp_avg_sq);
  return absl::OkStatus();
}

// Digests are made on the ring's thread: training does not wait for them.
void RankTrainer::PublishLeap(const StagedLeap& leap, int64_t boundary_step, double pause,
                              std::vector<float> weights) {
  const auto ring = this->ring();
  LeapReport report{.leap = leap.leap,
                    .applied = true,
                    .boundary_step = boundary_step,
                    .step = position_.step,
                    .pause_seconds = pause};
  const FlatRange shard = ring->shard();
  auto shared = std::make_shared<std::vector<float>>(std::move(weights));  // std::function copies
  const bool posted = ring->Post([this, report, shard, shared]() mutable {
    const std::span<const float> all(*shared);
    report.weights_digest = DigestOf(all, {0, static_cast<int64_t>(all.size())});
    report.shard_digest = DigestOf(
        all.subspan(static_cast<size_t>(shard.begin), static_cast<size_t>(shard.size())), shard);
    callbacks_.on_leap(report);
  });
  if (!posted) LogError("leap-report-dropped", {{"leap", leap.leap}});
}

void RankTrainer::TakeSnapshot() {
  const auto ring = this->ring();
  // In this order: once the new snapshot is the newest, nothing can be staged on an older one.
  ring->Take(*model_, position_, applied_since_snapshot_);
  if (const uint64_t expired = ring->Expire()) {
    callbacks_.on_leap({.leap = expired, .boundary_step = position_.step, .step = position_.step});
  }
  applied_since_snapshot_ = 0;
}

// ---- checkpoints ----

CheckpointData RankTrainer::Checkpoint() const {
  CheckpointData data{.position = position_, .seed = spec_.train.seed, .config = model_->config()};
  const size_t n = static_cast<size_t>(size());
  data.weights.resize(n);
  data.exp_avg.resize(n);
  data.exp_avg_sq.resize(n);
  model_->ReadWeights(whole(), data.weights);
  model_->ReadMoments(whole(), data.exp_avg, data.exp_avg_sq);
  return data;
}

void RankTrainer::WriteCheckpointAside() {
  if (checkpoint_busy_.exchange(true)) {
    LogWarning("checkpoint-skipped",
               {{"step", position_.step}, {"reason", "one is being written"}});
    return;
  }
  auto data = std::make_shared<CheckpointData>(Checkpoint());  // std::function copies
  const bool posted = ring()->Post([this, data] {
    const absl::Time start = Now();
    const auto path = WriteCheckpoint(checkpoint_dir(), *data, spec_.checkpoint.keep);
    callbacks_.on_checkpoint(data->position.step, path, SecondsSince(start));
    checkpoint_busy_ = false;
  });
  if (!posted) checkpoint_busy_ = false;
}

}  // namespace leap
