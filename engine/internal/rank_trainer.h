// RankTrainer, shared by the files that implement it: trainer.cc (life, one step),
// trainer_join.cc (joining an epoch, weights from peers or a checkpoint), trainer_state.cc (the
// predictor's state on the same way), trainer_undo.cc (going back to before a leap),
// trainer_boundary.cc (what happens between two steps: leap, snapshot, checkpoint). See
// engine/trainer.h for the contract.
#pragma once

#include <ATen/ATen.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/serial_thread.h"
#include "engine/corpus.h"
#include "engine/device.h"
#include "engine/model.h"
#include "engine/state_plan.h"
#include "engine/trainer.h"

namespace leap {

constexpr absl::Duration kCheckpointWait = absl::Minutes(2);  // for one that is being written
constexpr absl::Duration kLongCopy = absl::Minutes(1);        // from the device to the host
constexpr absl::Duration kPausedRhythm = absl::Milliseconds(50);

inline absl::Time Now() { return RealClock().Now(); }
inline double SecondsSince(absl::Time start) { return absl::ToDoubleSeconds(Now() - start); }

// What ranks tell one another before they step together.
enum PositionColumn {
  kLive,
  kRollbacks,
  kStep,
  kLeaps,
  kDataPosition,
  kAdamStep,
  kLastLeap,
  kTrainLoss,
  kDigest,
  kPositionColumns
};

// The boundary vote, combined by MIN over ranks: `x` and `-x` give minimum and maximum.
enum VoteColumn { kHeld, kMinusHeld, kMinusPause, kMinusCheckpoint, kRoom, kVoteColumns };

class RankTrainer final : public Trainer {
 public:
  RankTrainer(const JobSpec& spec, const std::string& state_dir, TrainerCallbacks callbacks)
      : spec_(spec), state_dir_(state_dir), callbacks_(std::move(callbacks)) {}
  ~RankTrainer() override { Leave(); }

  absl::Status Open();

  absl::StatusOr<JoinReport> Join(const EpochOptions& options,
                                  std::shared_ptr<Interrupt> interrupt) override;
  absl::StatusOr<StepReport> Step() override;
  absl::StatusOr<FinalReport> Finish() override;
  void Leave() override;

  void Prepare(PrepareRequest request) override {
    if (const auto ring = this->ring()) return ring->Prepare(std::move(request));
    callbacks_.on_vote(request, absl::AbortedError("this rank is in no epoch"));
  }
  bool Decide(uint64_t leap, bool commit) override {
    const auto ring = this->ring();
    return ring != nullptr && ring->Decide(leap, commit);
  }
  void SetPaused(bool paused) override { paused_ = paused; }
  void RequestCheckpoint() override { checkpoint_wanted_ = true; }

  TrainPosition position() const override {
    MutexLock lock(&mutex_);
    return shown_position_;
  }
  uint64_t held_leap() const override {
    const auto ring = this->ring();
    return ring == nullptr ? 0 : ring->Held();
  }
  std::shared_ptr<Ring> ring() const override {
    MutexLock lock(&mutex_);
    return ring_;
  }
  const DataRegions& regions() const override { return corpus_->regions(); }
  int64_t corpus_tokens() const override { return corpus_->tokens(); }
  std::string corpus_digest() const override { return corpus_->content_digest(); }
  int64_t parameters() const override { return model_->layout().size; }

 private:
  const at::Tensor& Weights() { return *static_cast<at::Tensor*>(model_->FlatWeightsTensor()); }
  at::Tensor& Gradients() { return *static_cast<at::Tensor*>(model_->FlatGradientsTensor()); }
  int64_t size() const { return model_->layout().size; }
  FlatRange whole() const { return {0, size()}; }
  std::string checkpoint_dir() const {
    return spec_.checkpoint.dir.empty() ? absl::StrCat(state_dir_, "/checkpoints/", spec_.name)
                                        : spec_.checkpoint.dir;
  }

  uint64_t WeightsDigest() const;
  absl::Status FindState(const EpochOptions& options, JoinReport* report);
  absl::Status LoadCheckpoint(const EpochOptions& options, std::string* source);
  absl::StatusOr<std::vector<size_t>> SyncState(const EpochOptions& options,
                                                std::string* recovered_from);
  absl::Status BroadcastState(int source, bool receive);
  absl::Status StartRing();
  absl::Status AllocateShards();
  std::vector<int64_t> StateRow() const;
  absl::Status SyncPredictorState(const std::vector<size_t>& holders, std::string* outcome);
  absl::Status ReceivePredictorState(const StatePlan& plan);
  void TakePredictorState(CheckpointData& data, const std::string& path);
  absl::Status GatherPredictorState();
  absl::Status MakeFreshModel();

  struct KeptState {    // of before a leap: this rank's shard
    uint64_t leap = 0;  // 0: none
    FlatRange shard;
    TrainPosition position;
    std::vector<float> weights, exp_avg, exp_avg_sq;
    ShardCopies copies;  // into the above, perhaps still under way; goes before them
  };
  void PrepareToKeep(FlatRange shard);
  // The first before the weights change; the second, with its result, before the moments do.
  absl::StatusOr<KeptState*> KeepWeightsBefore(uint64_t leap);
  absl::Status KeepMoments(KeptState* kept);
  void ForgetKeptFrom(uint64_t leap);
  absl::StatusOr<bool> UndoLeap(const EpochOptions& options, JoinReport* report);
  absl::Status RestoreKept(KeptState& kept);
  void ReplaceCheckpoints();

  absl::StatusOr<double> TrainBatch();
  absl::Status WaitAll(const std::vector<Ticket>& tickets);
  absl::StatusOr<std::vector<int64_t>> WaitVote(const Ticket& ticket, const at::Tensor& vote);
  at::Tensor MyVote(bool may_leap) const;
  absl::Status Boundary(const std::vector<int64_t>& vote);
  absl::Status ApplyLeap();
  absl::Status ScaleMoments(int64_t horizon_steps);
  absl::Status PublishLeap(const StagedLeap& leap, int64_t boundary_step, absl::Time start);
  absl::Status TakeSnapshot(bool room);
  void WriteCheckpointAside();
  absl::Status WriteLastCheckpoint();
  CheckpointData Checkpoint();
  void ShowPosition();

  const JobSpec spec_;
  const std::string state_dir_;
  const TrainerCallbacks callbacks_;
  std::unique_ptr<Corpus> corpus_;
  std::unique_ptr<Model> model_;

  // Training thread.
  std::unique_ptr<Group> group_;
  std::shared_ptr<Interrupt> interrupt_;
  std::string job_;  // of the epoch, and its number: who writes checkpoints
  uint64_t epoch_ = 0;
  TrainPosition position_;
  uint64_t applied_since_snapshot_ = 0;
  // Allocated when the epoch begins: this rank's shard, and all shards, each padded to the longest;
  // on the host, and where the model is, which may be the same memory. ApplyLeap puts the weights
  // together on the device; the ring's thread reads them on the host until the leap is published.
  struct Shards {
    at::Tensor mine, all;
  } leap_, host_;
  HostPin host_pin_{nullptr, nullptr};  // of host_.all
  std::vector<KeptState> kept_;
  std::unique_ptr<Predictor> stateful_;  // the policy's predictor that carries state, if any
  // What this rank holds of the predictor's state between two epochs' rings.
  std::vector<StateSource> state_sources_;
  // Rank 0: the whole state, gathered at the boundary of a checkpoint.
  struct SavedState {
    int64_t base_step = -1;
    std::vector<std::vector<float>> buffers;
    std::vector<float> anchor;
  } saved_state_;

  std::atomic<bool> paused_{false};
  std::atomic<bool> checkpoint_wanted_{false};
  std::atomic<bool> checkpoint_busy_{false};

  mutable Mutex mutex_;
  TrainPosition shown_position_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Ring> ring_ ABSL_GUARDED_BY(mutex_);

  SerialThread checkpoints_{1};  // last, as it uses the above: writes them, one at a time
};

}  // namespace leap
