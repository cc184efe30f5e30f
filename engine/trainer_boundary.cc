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
    LEAP_RETURN_IF_ERROR(TakeSnapshot(vote[kRoom] > 0));
  }
  const int64_t every = spec_.checkpoint.every_steps;
  const bool due = every > 0 && position_.data_position % every == 0;
  const bool write = due || vote[kMinusCheckpoint] < 0;
  if (vote[kMinusCheckpoint] < 0) checkpoint_wanted_ = false;
  if (write || last)
    LEAP_RETURN_IF_ERROR(GatherPredictorState());  // the last one: Finish writes it
  if (group_->rank() == 0 && !last && write) WriteCheckpointAside();
  return absl::OkStatus();
}

// Every rank holds COMMIT for the same leap: the live shard becomes θ̂ (replace) or moves by θ̂ - θ_t
// (rebase), as separately rounded fp32, and the shards are gathered into the live weights.
absl::Status RankTrainer::ApplyLeap() {
  const absl::Time start = Now();
  const std::shared_ptr<Ring> ring = this->ring();
  const std::shared_ptr<const StagedLeap> leap = ring->HeldLeap();
  if (leap == nullptr) return absl::InternalError("a leap was agreed that is not held");
  LEAP_RETURN_IF_ERROR(model_->copier().BeforeWrite());  // the last leap's shards, on their way out
  LEAP_ASSIGN_OR_RETURN(KeptState* const kept, KeepWeightsBefore(leap->leap));
  const FlatRange shard = ring->shard();
  const at::Tensor mine = leap_.mine.narrow(0, 0, shard.size());
  if (spec_.leap.commit_rule == CommitRule::kReplace) {
    auto* const predicted = const_cast<float*>(leap->predicted.data());  // only read
    mine.copy_(at::from_blob(predicted, mine.sizes(), at::kFloat));
  } else {
    const at::Tensor live = Weights().narrow(0, shard.begin, shard.size());
    LEAP_RETURN_IF_ERROR(model_->device().Rebase(live, leap->displacement, mine));
  }
  LEAP_RETURN_IF_ERROR(group_->Wait(group_->AllGather(leap_.all, leap_.mine)));
  for (int r = 0; r < group_->world_size(); ++r) {
    const FlatRange part = ShardOf(size(), r, group_->world_size());
    LEAP_RETURN_IF_ERROR(
        model_->SetWeights(part, leap_.all.narrow(0, r * leap_.mine.numel(), part.size())));
  }
  const int64_t boundary_step = position_.step;
  LEAP_RETURN_IF_ERROR(KeepMoments(kept));
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
  ShowPosition();  // before the ring forgets it: a rank never denies what it has just applied
  ring->MarkApplied(leap->leap);
  return PublishLeap(*leap, boundary_step, start);
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

// Digests are made on the ring's thread, from the gathered shards: training does not wait for them.
// The next leap is computed on that same thread, so nobody writes into the shards before.
absl::Status RankTrainer::PublishLeap(const StagedLeap& leap, int64_t boundary_step,
                                      absl::Time start) {
  const auto ring = this->ring();
  LEAP_ASSIGN_OR_RETURN(
      std::shared_ptr<ShardCopy> copy,
      model_->copier().Start(leap_.all.const_data_ptr<float>(), {0, leap_.all.numel()},
                             host_.all.data_ptr<float>()));
  LeapReport report{.leap = leap.leap,
                    .applied = true,
                    .boundary_step = boundary_step,
                    .step = position_.step,
                    .pause_seconds = SecondsSince(start)};
  const int rank = group_->rank(), world_size = group_->world_size();
  const bool posted = ring->Post(
      [this, report, rank, world_size, all = host_.all, copy = std::move(copy)]() mutable {
        if (const absl::Status copied = copy->Wait(kLongCopy); !copied.ok()) {
          return LogError("leap-report-lost", {{"leap", report.leap}, {"status", copied}});
        }
        const int64_t longest = all.numel() / world_size;
        for (int r = 0; r < world_size; ++r) {
          const FlatRange part = ShardOf(size(), r, world_size);
          const float* from = all.data_ptr<float>() + r * longest;
          const uint64_t digest = DigestOf({from, static_cast<size_t>(part.size())}, part);
          report.weights_digest += digest;  // shards' digests add up (core/digest.h)
          if (r == rank) report.shard_digest = digest;
        }
        callbacks_.on_leap(report);
      });
  if (!posted) LogError("leap-report-dropped", {{"leap", leap.leap}});
  return absl::OkStatus();
}

// `room`: every rank has memory for it. A leap ends with its interval, with or without a snapshot.
absl::Status RankTrainer::TakeSnapshot(bool room) {
  const auto ring = this->ring();
  // First this: once the new snapshot is the newest, nothing can be staged on an older one. It is
  // published at once, though, and a leap from it may be held before this thread comes to Expire.
  if (room) {
    LEAP_RETURN_IF_ERROR(ring->Take(*model_, position_, applied_since_snapshot_));
    applied_since_snapshot_ = 0;
  } else {
    ring->Skip(position_.step);
    LogWarning("snapshot-skipped",
               {{"step", position_.step},
                {"reason", "a rank's ring is full of snapshots that are being read"}});
  }
  if (const uint64_t expired = ring->Expire(position_.step)) {
    callbacks_.on_leap({.leap = expired, .boundary_step = position_.step, .step = position_.step});
  }
  return absl::OkStatus();
}

// ---- checkpoints ----

CheckpointData RankTrainer::Checkpoint() {
  CheckpointData data{.position = position_,
                      .job = job_,
                      .epoch = epoch_,
                      .seed = spec_.train.seed,
                      .config = model_->config()};
  const size_t n = static_cast<size_t>(size());
  data.weights.resize(n);
  data.exp_avg.resize(n);
  data.exp_avg_sq.resize(n);
  model_->ReadWeights(whole(), data.weights);
  model_->ReadMoments(whole(), data.exp_avg, data.exp_avg_sq);
  data.position.state_base_step = saved_state_.base_step;
  data.state = std::move(saved_state_.buffers);
  data.state_anchor = std::move(saved_state_.anchor);
  saved_state_ = {};
  return data;
}

// Neither training nor the ring waits for the disk, and a new epoch does not either.
void RankTrainer::WriteCheckpointAside() {
  if (checkpoint_busy_.exchange(true)) {
    LogWarning("checkpoint-skipped",
               {{"step", position_.step}, {"reason", "one is being written"}});
    return;
  }
  auto data = std::make_shared<CheckpointData>(Checkpoint());  // std::function copies
  const bool posted = checkpoints_.TryPost([this, data] {
    const absl::Time start = Now();
    const auto path = WriteCheckpoint(checkpoint_dir(), *data, spec_.checkpoint.keep);
    callbacks_.on_checkpoint(data->position.step, path, SecondsSince(start));
    checkpoint_busy_ = false;
  });
  if (!posted) checkpoint_busy_ = false;
}

}  // namespace leap
