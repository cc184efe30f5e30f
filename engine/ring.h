// This rank's ring of snapshots: its 1/N shard of the flat weights at the newest steps, with the
// predictor's state that belongs to each, and the leaps computed from them. LibTorch-free: flat
// host memory and core/predictor.h.
//
// Threads. `Take`, `MarkApplied`, `Expire`: the training thread, which spends one copy of the shard
// and no more. Digests, state and predictions are made by the ring's own thread, in order.
// `Prepare`, `Decide`, `Held`: any thread. Pinned snapshots (shared_ptr) are never overwritten; if
// all memory is pinned (`HasRoom`), the ranks skip the snapshot together (`Skip`).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bounded_queue.h"
#include "base/mutex.h"
#include "core/job_spec.h"
#include "core/layout.h"
#include "core/predictor.h"
#include "engine/checkpoint.h"
#include "engine/model.h"

namespace leap {

// One snapshot of this rank's shard. Immutable once it is published.
struct RingSnapshot {
  TrainPosition position;
  std::vector<float> weights, exp_avg,
      exp_avg_sq;                         // shard-sized; moments only if the job needs them
  std::vector<std::vector<float>> state;  // S_t, empty if the policy has none or before warm-up
  uint64_t weights_digest = 0;
  std::vector<uint64_t> state_digests;
  uint64_t applied_leap = 0;  // since the previous snapshot
  double copy_seconds = 0;    // of the training thread
};

// A leap computed beside the live weights: what the boundary needs.
struct StagedLeap {
  uint64_t leap = 0;
  int64_t base_step = 0;
  int64_t horizon_steps = 0;
  std::vector<float> predicted;  // this rank's shard of θ̂
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

struct RingCallbacks {
  // All on the ring's thread.
  std::function<void(const RingSnapshot&)> on_snapshot;
  std::function<void(const PrepareRequest&, const absl::StatusOr<uint64_t>& digest)> on_vote;
};

class Ring {
 public:
  static absl::StatusOr<std::unique_ptr<Ring>> Create(const JobSpec& spec,
                                                      const WeightLayout& layout, FlatRange shard,
                                                      RingCallbacks callbacks);
  ~Ring();

  FlatRange shard() const { return shard_; }
  bool keeps_moments() const { return moments_; }

  // There is memory for one more snapshot, and there will be until the next Take.
  bool HasRoom() const;
  // Copies the shard of `model` as it is at `position`. Needs HasRoom().
  void Take(const Model& model, const TrainPosition& position, uint64_t applied_leap);
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
  // The next snapshot came first: drops what is staged; returns the leap that was held, 0 if none.
  uint64_t Expire();

  // The snapshot of `step`, once its digest is known; pinned as long as it is held.
  std::shared_ptr<const RingSnapshot> Find(int64_t step) const;
  std::vector<std::shared_ptr<const RingSnapshot>> List() const;

  // For work that wants the ring's thread: in order with the rest. False: too much waits.
  bool Post(std::function<void()> work);
  // Blocks until everything posted so far is done.
  void Drain();

 private:
  Ring(const JobSpec& spec, const WeightLayout& layout, FlatRange shard, RingCallbacks callbacks);
  void Loop();
  std::shared_ptr<RingSnapshot> FreeSnapshot() const;
  void Publish(std::shared_ptr<RingSnapshot> snapshot, std::shared_ptr<const StagedLeap> applied);
  void AdvanceState(RingSnapshot& snapshot, const RingSnapshot* before, const StagedLeap* applied);
  void Compute(const PrepareRequest& request);
  absl::StatusOr<std::shared_ptr<StagedLeap>> Predict(const PrepareRequest& request) const;

  const JobSpec spec_;
  const WeightLayout layout_;
  const FlatRange shard_;
  const RingCallbacks callbacks_;
  std::vector<std::unique_ptr<Predictor>> predictors_;
  const Predictor* stateful_ = nullptr;  // the policy's predictor that carries state, if any
  bool moments_ = false;
  std::vector<std::shared_ptr<RingSnapshot>> memory_;  // all snapshots there are; training thread

  mutable Mutex mutex_;
  std::vector<std::shared_ptr<const RingSnapshot>> published_
      ABSL_GUARDED_BY(mutex_);  // oldest first
  std::shared_ptr<const StagedLeap> staged_ ABSL_GUARDED_BY(mutex_);
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<const StagedLeap> applied_ ABSL_GUARDED_BY(mutex_);  // since the last snapshot
  int64_t newest_step_ ABSL_GUARDED_BY(mutex_) = -1;  // taken, maybe not yet published

  BoundedQueue<std::function<void()>> queue_;  // the last `memory_.size()` places: snapshots only
  std::thread thread_;                         // last: it uses everything above
};

}  // namespace leap
