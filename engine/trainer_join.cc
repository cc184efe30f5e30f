// Joining an epoch: the group, and the state that its ranks go on from.
#include <algorithm>
#include <bit>
#include <limits>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "engine/internal/rank_trainer.h"

namespace leap {

absl::StatusOr<JoinReport> RankTrainer::Join(const EpochOptions& options,
                                             std::shared_ptr<Interrupt> interrupt) {
  Leave();
  interrupt_ = std::move(interrupt);
  model_->RenewGradients();
  job_ = options.job;
  epoch_ = options.epoch;
  JoinReport report;
  LEAP_ASSIGN_OR_RETURN(group_, model_->device().Join(options.group, interrupt_));
  LEAP_RETURN_IF_ERROR(FindState(options, &report));
  LEAP_RETURN_IF_ERROR(StartRing());
  ShowPosition();
  report.position = position_;
  report.weights_digest = WeightsDigest();
  return report;
}

// Of before a leap, of a checkpoint, or of the peers that are here.
absl::Status RankTrainer::FindState(const EpochOptions& options, JoinReport* report) {
  bool undone = false;
  if (options.undo_leap != 0) {
    LEAP_ASSIGN_OR_RETURN(undone, UndoLeap(options, report));
  }
  const bool load = options.from_checkpoint && !undone;
  if (load) ForgetKeptFrom(0);
  if (undone || options.from_checkpoint || !options.live) state_sources_.clear();  // not this run's
  if (load && group_->rank() == 0) {
    LEAP_RETURN_IF_ERROR(LoadCheckpoint(options, &report->recovered_from));
  }
  std::vector<size_t> holders = {0};
  if (!undone) {
    LEAP_ASSIGN_OR_RETURN(holders, SyncState(options, &report->recovered_from));
  }
  LEAP_RETURN_IF_ERROR(SyncPredictorState(holders, &report->predictor_state));
  const bool without = options.undo_leap != 0 && position_.last_leap < options.undo_leap;
  if (without) report->undo_problem.clear();
  if (without && !load && group_->rank() == 0) ReplaceCheckpoints();
  return absl::OkStatus();
}

void RankTrainer::Leave() {
  group_.reset();
  std::shared_ptr<Ring> ring;
  {
    MutexLock lock(&mutex_);
    ring.swap(ring_);
  }
  if (ring == nullptr) return;
  ring->Stop();
  state_sources_ = ring->StateSources();
  if (const uint64_t expired = ring->Expire(std::numeric_limits<int64_t>::max())) {
    callbacks_.on_leap({.leap = expired, .boundary_step = position_.step, .step = position_.step});
  }
}

// The newest checkpoint that can be read; damaged ones are named in the log and passed over, and
// are an error if there is no other.
absl::Status RankTrainer::LoadCheckpoint(const EpochOptions& options, std::string* source) {
  const bool fresh = spec_.checkpoint.resume == "never" && options.checkpoint_path.empty();
  if (fresh) return position_ == TrainPosition{} ? absl::OkStatus() : MakeFreshModel();
  (void)checkpoints_.Drain(kCheckpointWait);
  std::vector<std::string> paths;
  const bool named = spec_.checkpoint.resume != "auto" && spec_.checkpoint.resume != "never";
  if (!options.checkpoint_path.empty()) paths.push_back(options.checkpoint_path);
  if (named) {
    paths.push_back(spec_.checkpoint.resume);
  } else {
    for (std::string& path : ListCheckpoints(checkpoint_dir())) {
      if (path != options.checkpoint_path) paths.push_back(std::move(path));
    }
  }
  absl::Status damaged;  // the newest that is
  for (const std::string& path : paths) {
    absl::StatusOr<CheckpointData> data = ReadCheckpoint(path);
    if (!data.ok()) {
      LogError("checkpoint-unreadable", {{"path", path}, {"status", data.status()}});
      if (named && path == spec_.checkpoint.resume) return data.status();
      if (!absl::IsNotFound(data.status())) damaged.Update(data.status());
      continue;
    }
    if (static_cast<int64_t>(data->weights.size()) != size()) {
      return MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kCheckpointMismatch,
                       absl::StrCat("checkpoint ", path, " has ", data->weights.size(),
                                    " parameters, this job's model has ", size(),
                                    "; set spec.checkpoint.dir to a folder of this job, or "
                                    "spec.checkpoint.resume to never"));
    }
    model_->WriteWeights(whole(), data->weights);
    model_->WriteMoments(whole(), data->exp_avg, data->exp_avg_sq);
    position_ = data->position;
    TakePredictorState(*data, path);
    *source = absl::StrCat("checkpoint ", path);
    if (!damaged.ok()) absl::StrAppend(source, "; passed over: ", damaged.message());
    return absl::OkStatus();
  }
  LEAP_RETURN_IF_ERROR(damaged);  // to begin anew unasked would hide the loss of the run
  return position_ == TrainPosition{} ? absl::OkStatus() : MakeFreshModel();
}

// The newest state among the ranks that hold it wins; all others receive it.
// Returns the ranks that held it.
absl::StatusOr<std::vector<size_t>> RankTrainer::SyncState(const EpochOptions& options,
                                                           std::string* recovered_from) {
  const bool nobody_live = options.from_checkpoint;
  const bool live = nobody_live ? options.group.rank == 0 : options.live;
  std::vector<int64_t> mine(kPositionColumns);
  mine[kLive] = live ? 1 : 0;
  mine[kRollbacks] = position_.rollbacks;
  mine[kStep] = position_.step;
  mine[kLeaps] = position_.leaps_applied;
  mine[kDataPosition] = position_.data_position;
  mine[kAdamStep] = position_.adam_step;
  mine[kLastLeap] = static_cast<int64_t>(position_.last_leap);
  mine[kTrainLoss] = std::bit_cast<int64_t>(position_.train_loss);
  mine[kDigest] = static_cast<int64_t>(WeightsDigest());
  LEAP_ASSIGN_OR_RETURN(const auto all, group_->GatherInts(mine));
  const auto version = [&all](size_t r) {
    return std::tuple(all[r][kLive], all[r][kRollbacks], all[r][kDataPosition], all[r][kLeaps]);
  };
  size_t best = 0;
  for (size_t r = 1; r < all.size(); ++r) {
    if (version(r) > version(best)) best = r;
  }
  std::vector<size_t> holders;
  bool equal = true;
  for (size_t r = 0; r < all.size(); ++r) {
    if (version(r) == version(best)) holders.push_back(r);
    equal = equal && std::equal(all[r].begin() + 1, all[r].end(), all[best].begin() + 1) &&
            (all[r][kLive] == 1 || position_.adam_step == 0);
  }
  if (equal) return holders;
  const size_t source = holders[options.epoch % holders.size()];  // round-robin
  const bool receive = version(static_cast<size_t>(group_->rank())) != version(best);
  LEAP_RETURN_IF_ERROR(BroadcastState(static_cast<int>(source), receive));
  if (!receive) return holders;
  position_ = TrainPosition{.rollbacks = all[source][kRollbacks],
                            .step = all[source][kStep],
                            .data_position = all[source][kDataPosition],
                            .adam_step = all[source][kAdamStep],
                            .leaps_applied = all[source][kLeaps],
                            .last_leap = static_cast<uint64_t>(all[source][kLastLeap]),
                            .train_loss = std::bit_cast<double>(all[source][kTrainLoss])};
  *recovered_from = absl::StrCat("peer rank ", source);
  return holders;
}

absl::Status RankTrainer::BroadcastState(int source, bool receive) {
  const size_t n = static_cast<size_t>(size());
  std::vector<float> weights(n), exp_avg(n), exp_avg_sq(n);
  model_->ReadWeights(whole(), weights);
  model_->ReadMoments(whole(), exp_avg, exp_avg_sq);
  LEAP_RETURN_IF_ERROR(group_->BroadcastFloats(weights, source));
  LEAP_RETURN_IF_ERROR(group_->BroadcastFloats(exp_avg, source));
  LEAP_RETURN_IF_ERROR(group_->BroadcastFloats(exp_avg_sq, source));
  if (!receive) return absl::OkStatus();
  model_->WriteWeights(whole(), weights);
  model_->WriteMoments(whole(), exp_avg, exp_avg_sq);
  return absl::OkStatus();
}

absl::Status RankTrainer::StartRing() {
  const int rank = group_->rank(), world_size = group_->world_size();
  const FlatRange shard = ShardOf(size(), rank, world_size);
  RingCallbacks callbacks{
      .on_snapshot =
          [this, shard](const RingSnapshot& snapshot) { callbacks_.on_snapshot(snapshot, shard); },
      .on_vote = callbacks_.on_vote};
  LEAP_ASSIGN_OR_RETURN(
      std::shared_ptr<Ring> ring,
      Ring::Create(spec_, *model_, rank, world_size, std::move(callbacks),
                   state_sources_.empty() ? StateSource() : state_sources_.front()));
  PrepareToKeep(shard);
  state_sources_.clear();  // the ring's now
  if (spec_.leap.enabled) LEAP_RETURN_IF_ERROR(AllocateShards());
  MutexLock lock(&mutex_);
  ring_ = std::move(ring);
  return absl::OkStatus();
}

absl::Status RankTrainer::AllocateShards() {
  const auto zeros = [this](at::Device device) {
    const int64_t longest = LongestShardOf(size(), group_->world_size());
    const at::TensorOptions options = at::TensorOptions().dtype(at::kFloat).device(device);
    return Shards{.mine = at::zeros({longest}, options),
                  .all = at::zeros({longest * group_->world_size()}, options)};
  };
  host_pin_.reset();
  host_ = zeros(at::kCPU);
  leap_ = model_->device().on_host() ? host_ : zeros(Weights().device());
  const std::span<float> all(host_.all.data_ptr<float>(), static_cast<size_t>(host_.all.numel()));
  LEAP_ASSIGN_OR_RETURN(host_pin_, model_->copier().Pin(all));
  return absl::OkStatus();
}

}  // namespace leap
