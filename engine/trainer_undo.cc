// Undoing a leap: each rank keeps its shard of the state before the newest few, and an epoch that
// is to undo one begins with those shards put together.
#include <ATen/ATen.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "engine/internal/rank_trainer.h"

namespace leap {
namespace {

// What ranks tell one another before they undo a leap: what they hold, and what they kept.
enum UndoColumn {
  kHolds,  // live state
  kHeldRollbacks,
  kHeldDataPosition,
  kHeldLastLeap,
  kKept,  // the state before the leap, as the shard that this rank has in this group
  kKeptRollbacks,
  kKeptStep,
  kKeptDataPosition,
  kKeptAdamStep,
  kKeptLeaps,
  kKeptLastLeap,
  kUndoColumns
};

}  // namespace

// Memory for `ring_depth` states before a leap, of three buffers of a shard each, if leaps may be
// undone; what was kept as another shard is of no use.
void RankTrainer::PrepareToKeep(FlatRange shard) {
  const bool may_undo = spec_.leap.enabled && spec_.leap.rollback_bound > 0;
  kept_.resize(may_undo ? static_cast<size_t>(spec_.leap.ring_depth) : 0);
  for (KeptState& kept : kept_) {
    if (kept.leap != 0 && kept.shard == shard) continue;
    kept.leap = 0;
    kept.shard = shard;
    kept.copies.clear();
    for (std::vector<float>* buffer : {&kept.weights, &kept.exp_avg, &kept.exp_avg_sq}) {
      buffer->resize(static_cast<size_t>(shard.size()));
    }
  }
}

// In place of the oldest. Null: nothing is kept, as no leap is ever undone.
absl::StatusOr<RankTrainer::KeptState*> RankTrainer::KeepWeightsBefore(uint64_t leap) {
  const auto oldest = std::ranges::min_element(kept_, {}, &KeptState::leap);
  if (oldest == kept_.end()) return nullptr;
  oldest->copies.clear();
  LEAP_RETURN_IF_ERROR(model_->StartReadWeights(oldest->shard, oldest->weights, oldest->copies));
  oldest->position = position_;
  oldest->leap = leap;
  return &*oldest;
}

absl::Status RankTrainer::KeepMoments(KeptState* kept) {
  if (kept == nullptr) return absl::OkStatus();
  return model_->StartReadMoments(kept->shard, kept->exp_avg, kept->exp_avg_sq, kept->copies);
}

void RankTrainer::ForgetKeptFrom(uint64_t leap) {
  for (KeptState& kept : kept_) {
    if (kept.leap >= leap) kept.leap = 0;
  }
}

// True: weights, moments and position are those from before the leap. False: as they were, because
// the leap is not part of the newest state (any more), or for the reason in `report`. The same
// answer on all ranks. Safe to repeat: once a rank has undone it, the newest state is without it.
absl::StatusOr<bool> RankTrainer::UndoLeap(const EpochOptions& options, JoinReport* report) {
  const FlatRange shard = ShardOf(size(), group_->rank(), group_->world_size());
  const auto kept = std::ranges::find_if(kept_, [&](const KeptState& state) {
    return state.leap == options.undo_leap && state.shard == shard;
  });
  std::vector<int64_t> mine(kUndoColumns);
  mine[kHolds] = options.live && !options.from_checkpoint ? 1 : 0;
  mine[kHeldRollbacks] = position_.rollbacks;
  mine[kHeldDataPosition] = position_.data_position;
  mine[kHeldLastLeap] = static_cast<int64_t>(position_.last_leap);
  if (kept != kept_.end()) {
    mine[kKept] = 1;
    mine[kKeptRollbacks] = kept->position.rollbacks;
    mine[kKeptStep] = kept->position.step;
    mine[kKeptDataPosition] = kept->position.data_position;
    mine[kKeptAdamStep] = kept->position.adam_step;
    mine[kKeptLeaps] = kept->position.leaps_applied;
    mine[kKeptLastLeap] = static_cast<int64_t>(kept->position.last_leap);
  }
  LEAP_ASSIGN_OR_RETURN(const auto all, group_->GatherInts(mine));
  const auto newest = std::ranges::max_element(all, {}, [](const auto& row) {
    return std::tuple(row[kHolds], row[kHeldRollbacks], row[kHeldDataPosition], row[kHeldLastLeap]);
  });
  const bool has_it = (*newest)[kHeldLastLeap] >= static_cast<int64_t>(options.undo_leap);
  if (!options.from_checkpoint && !has_it) return false;
  for (size_t r = 0; r < all.size(); ++r) {
    const bool same = std::equal(all[r].begin() + kKept, all[r].end(), all[0].begin() + kKept);
    if (all[r][kKept] == 1 && same) continue;
    report->undo_problem =
        absl::StrCat("rank ", all[r][kKept] == 1 ? 0 : r, " did not keep the state before leap ",
                     options.undo_leap, ": it joined since, the group has changed, or ",
                     spec_.leap.ring_depth, " newer leaps were kept (leap.ring_depth)");
    return false;
  }
  LEAP_RETURN_IF_ERROR(RestoreKept(*kept));
  ForgetKeptFrom(options.undo_leap);
  report->recovered_from = absl::StrCat("the state before leap ", options.undo_leap);
  return true;
}

// All or nothing: nothing is written before every shard is here.
absl::Status RankTrainer::RestoreKept(KeptState& kept) {
  for (const auto& copy : kept.copies) LEAP_RETURN_IF_ERROR(copy->Wait(kLongCopy));
  const int world_size = group_->world_size();
  const int64_t longest = LongestShardOf(size(), world_size);
  std::vector<at::Tensor> gathered;
  for (const std::vector<float>* buffer : {&kept.weights, &kept.exp_avg, &kept.exp_avg_sq}) {
    const at::Tensor mine = at::zeros({longest}, at::kFloat);
    std::ranges::copy(*buffer, mine.data_ptr<float>());
    gathered.push_back(at::zeros({longest * world_size}, at::kFloat));
    LEAP_RETURN_IF_ERROR(group_->Wait(group_->AllGather(gathered.back(), mine)));
  }
  for (int r = 0; r < world_size; ++r) {
    const FlatRange part = ShardOf(size(), r, world_size);
    const auto of = [&](const at::Tensor& all) {
      return std::span<const float>(all.data_ptr<float>() + r * longest,
                                    static_cast<size_t>(part.size()));
    };
    model_->WriteWeights(part, of(gathered[0]));
    model_->WriteMoments(part, of(gathered[1]), of(gathered[2]));
  }
  position_ = kept.position;
  ++position_.rollbacks;
  return absl::OkStatus();
}

// After an undone leap the newest checkpoint may still have it. Before anybody hears that it is
// undone there is one without it, and those from after it are gone.
void RankTrainer::ReplaceCheckpoints() {
  (void)checkpoints_.Drain(kCheckpointWait);  // it would be removed, or come back after
  const absl::Time start = Now();
  const auto path = WriteCheckpoint(checkpoint_dir(), Checkpoint(), spec_.checkpoint.keep);
  callbacks_.on_checkpoint(position_.step, path, SecondsSince(start));
  if (!path.ok()) return;
  const absl::Status removed = RemoveCheckpointsAfter(checkpoint_dir(), position_.step);
  if (!removed.ok()) LogError("checkpoint-not-removed", {{"status", removed}});
}

}  // namespace leap
