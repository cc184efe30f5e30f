// This rank's ring of snapshots: its 1/N shard of the flat weights at the newest steps, with the
// predictor's state that belongs to each, and the leaps computed from them. LibTorch-free: flat
// host memory and core/predictor.h.
//
// Beside its own shard a rank keeps the next rank's, copied from its own weights (between two steps
// all ranks' are equal): so no predictor state is lost with any one rank, and two ranks digest each
// shard. With three ranks or more it digests one more shard, a different one each time, so that of
// two digests that differ it can be told which is wrong. Memory: (ring_depth + 2) times 2/N of the
// weights and of the predictor's state (moments only as far as somebody reads them), 1/N more for
// the third digest, and what a staged leap needs.
//
// Threads. `Take`, `MarkApplied`, `Expire`: the training thread, which spends one copy of these
// shards and no more. Digests, state and predictions are made by the ring's own thread, in order.
// `Prepare`, `Decide`, `Held`: any thread. Pinned snapshots (shared_ptr) are never overwritten; if
// all memory is pinned (`HasRoom`), the ranks skip the snapshot together (`Skip`).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/serial_thread.h"
#include "core/job_spec.h"
#include "core/layout.h"
#include "core/predictor.h"
#include "engine/checkpoint.h"
#include "engine/model.h"

namespace leap {

// The shard of the next rank, after the last comes the first; empty if there is one rank alone.
FlatRange NextShardOf(int64_t size, int rank, int world_size);
// Floats of the longest of all ranks' shards.
int64_t LongestShardOf(int64_t size, int world_size);

// A range of a snapshot.
struct RangeSnapshot {
  std::vector<float> weights, exp_avg, exp_avg_sq;  // moments only if the job needs them
  std::vector<HostPin> pins;                        // of the above: the device copies into them
  std::vector<std::vector<float>> state;  // S_t, empty if the policy has none or before warm-up
};

// What this rank's weights say of another rank's shard.
struct ShardDigest {
  int rank = -1;
  uint64_t digest = 0;
};

// One snapshot: this rank's shard, and the next rank's beside it. Immutable once it is published.
struct RingSnapshot : RangeSnapshot {
  TrainPosition position;
  RangeSnapshot next;
  uint64_t weights_digest = 0;
  std::vector<uint64_t> state_digests;
  std::vector<ShardDigest> others;
  uint64_t applied_leap = 0;  // since the previous snapshot
  double copy_seconds = 0;    // of the training thread
};

// A leap computed beside the live weights: what the boundary needs.
struct StagedLeap {
  uint64_t leap = 0;
  int64_t base_step = 0;
  int64_t horizon_steps = 0;
  std::vector<float> predicted;       // this rank's shard of θ̂
  std::vector<float> next_predicted;  // the next rank's, if the policy carries state
  std::vector<float> displacement;    // θ̂ - θ_t of this rank's shard, if leaps are rebased
  uint64_t digest = 0;
  std::shared_ptr<const RingSnapshot> base;  // shared with the ring: pinned while staged
};

struct PrepareRequest {
  uint64_t leap = 0;
  int64_t base_step = 0;
  int predictor = 0;
  int64_t horizon_steps = 0;
  std::vector<double> scales;
};

// What the predictor's state at the next snapshot follows from: S_t and the anchor, which is θ_t or
// the θ̂ of a leap applied since.
struct StateSource {
  std::shared_ptr<const RingSnapshot> snapshot;
  std::shared_ptr<const StagedLeap> leap;  // null: the snapshot's own weights are the anchor
  uint64_t leap_number = 0;                // of the leap in the anchor; 0: none
  FlatRange own, next;                     // what the snapshot's two parts are ranges of

  const std::vector<float>& anchor() const { return leap ? leap->predicted : snapshot->weights; }
  const std::vector<float>& next_anchor() const {
    return leap ? leap->next_predicted : snapshot->next.weights;
  }
};

struct RingCallbacks {
  // All on the ring's thread.
  std::function<void(const RingSnapshot&)> on_snapshot;
  std::function<void(const PrepareRequest&, const absl::StatusOr<uint64_t>& digest)> on_vote;
};

class Ring {
 public:
  // `seed`: predictor state of an earlier epoch or a checkpoint, of this rank's ranges, to go on
  // from; without a snapshot the state starts over.
  // `model`: whose snapshots it will take; its memory is pinned for the model's copier.
  static absl::StatusOr<std::unique_ptr<Ring>> Create(const JobSpec& spec, const Model& model,
                                                      int rank, int world_size,
                                                      RingCallbacks callbacks, StateSource seed);
  ~Ring();

  FlatRange shard() const { return shard_; }
  bool keeps_moments() const { return moments_; }

  // There is memory for one more snapshot, and there will be until the next Take.
  bool HasRoom() const;
  // Copies the shard of `model` as it is at `position`; returns when the copies are on their way
  // (shard_copier.h). Needs HasRoom(). Errors: the device's.
  absl::Status Take(const Model& model, const TrainPosition& position, uint64_t applied_leap);
  // Some rank has no room: no snapshot at `step`, on no rank. Nothing older can be leapt from any
  // more; predictor state goes on at the next snapshot.
  void Skip(int64_t step);

  // Computes this rank's shard of θ̂ and votes; answered at once if it was computed before.
  void Prepare(PrepareRequest request);
  // COMMIT makes the staged leap held; ABORT drops it. False: it is not staged here (unknown, or
  // expired).
  bool Decide(uint64_t leap, bool commit);
  // The leap held at the moment; 0: none.
  uint64_t Held() const;
  // The held leap, at the boundary where all ranks hold it.
  std::shared_ptr<const StagedLeap> HeldLeap() const;
  // It was applied: later snapshots go on from its θ̂.
  void MarkApplied(uint64_t leap);
  // The snapshot at `step` came first: drops what is staged on an older one; returns the leap that
  // was held, 0 if none. What is staged on the new one already stays.
  uint64_t Expire(int64_t step);

  // The snapshot of `step`, once its digest is known; pinned as long as it is held.
  std::shared_ptr<const RingSnapshot> Find(int64_t step) const;
  std::vector<std::shared_ptr<const RingSnapshot>> List() const;

  // The predictor state there is, the newest first: the newest snapshot's, the same with the leap
  // that is held (other ranks may have applied it already), and the one before. Empty: none. Means
  // something once the ring's thread has come to rest (Drain, Stop).
  std::vector<StateSource> StateSources() const;

  // For work that wants the ring's thread: in order with the rest. False: too much waits.
  bool Post(std::function<void()> work);
  // Blocks until everything posted so far is done.
  void Drain();
  // Does what was posted and ends the ring's thread. The training thread's last call.
  void Stop();

 private:
  Ring(const JobSpec& spec, const WeightLayout& layout, int rank, int world_size,
       RingCallbacks callbacks, StateSource seed);
  std::shared_ptr<RingSnapshot> FreeSnapshot() const;
  // Memory for a third digest, with its pin.
  struct Third {
    std::vector<float> values;
    HostPin pin{nullptr, nullptr};
  };
  absl::Status Allocate(const Model& model);
  absl::StatusOr<std::shared_ptr<const Third>> TakeThird(const Model& model, RingSnapshot& snapshot,
                                                         ShardCopies& copies);
  void DigestOthers(RingSnapshot& snapshot, std::shared_ptr<const Third> third);
  StateSource NewestSource() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Publish(std::shared_ptr<RingSnapshot> snapshot, std::shared_ptr<const StagedLeap> applied);
  void AdvanceState(int64_t step, RangeSnapshot& now, const RangeSnapshot* before,
                    const std::vector<float>* anchor);
  void Compute(const PrepareRequest& request);
  absl::StatusOr<std::shared_ptr<StagedLeap>> Predict(const PrepareRequest& request) const;

  const JobSpec spec_;
  const WeightLayout layout_;
  const int rank_, world_size_;
  const FlatRange shard_, next_;  // this rank's; the next rank's, empty if there is no other
  const RingCallbacks callbacks_;
  std::vector<std::unique_ptr<Predictor>> predictors_;
  const Predictor* stateful_ = nullptr;  // the policy's predictor that carries state, if any
  bool moments_ = false;
  bool next_moments_ = false;  // a leap's θ̂ of the next rank's shard is computed from them
  std::vector<std::shared_ptr<RingSnapshot>> memory_;  // all snapshots there are; training thread
  std::shared_ptr<Third> third_ = std::make_shared<Third>();  // free while nobody else has it

  mutable Mutex mutex_;
  std::vector<std::shared_ptr<const RingSnapshot>> published_
      ABSL_GUARDED_BY(mutex_);  // oldest first
  // Applied between the newest two of `published_` (or the seed and the first).
  std::shared_ptr<const StagedLeap> between_ ABSL_GUARDED_BY(mutex_);
  StateSource seed_ ABSL_GUARDED_BY(mutex_);  // until two snapshots are published
  std::shared_ptr<const StagedLeap> staged_ ABSL_GUARDED_BY(mutex_);
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<const StagedLeap> applied_ ABSL_GUARDED_BY(mutex_);  // since the last snapshot
  int64_t newest_step_ ABSL_GUARDED_BY(mutex_) = -1;  // taken, maybe not yet published

  // Last, as it uses everything above. Its last `memory_.size()` places are for snapshots only.
  SerialThread work_;
};

}  // namespace leap
