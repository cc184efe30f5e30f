// The verifier's own ring: whole flat buffers of the newest snapshots it has met, each known by
// step and digest, so that candidates are built without fetching twice and other verifiers (and
// leapctl) can fetch from here instead of from a main worker.
//
// A step may be met twice with different weights (a job that went back to a checkpoint): what is
// held under another digest is replaced as a whole, never mixed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"

namespace leap {

using Floats = std::shared_ptr<const std::vector<float>>;

// One snapshot, as far as it is held; null: not held.
struct HeldSnapshot {
  int64_t step = 0;
  uint64_t epoch = 0;           // of the task it came with
  uint64_t weights_digest = 0;  // DigestOf(weights)
  Floats weights;
  Floats exp_avg, exp_avg_sq;      // Adam's moments; both or none
  std::vector<Floats> state;       // predictor state S_t; empty: not held
  std::vector<float> fingerprint;  // of the probe rows; empty: not computed
};

// Thread-safe; buffers are immutable and shared, so a reader keeps what it reads alive.
class SnapshotStore {
 public:
  // Forgets everything and starts over for `job`, keeping at most `depth` steps (at least one).
  void Reset(const std::string& job, int depth) ABSL_LOCKS_EXCLUDED(mutex_);

  // The snapshot of `step`, if its weights are held under this digest. Counts as a use.
  std::optional<HeldSnapshot> Find(int64_t step, uint64_t weights_digest)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // For serving: the snapshot of `step`, whatever its digest, if `job` is the one held. Does not
  // count as a use.
  std::optional<HeldSnapshot> FindStep(const std::string& job, int64_t step) const
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Adds what `snapshot` holds to what is held under the same step and digest; replaces another
  // digest. Counts as a use. Beyond the depth the least recently used step goes (not the lowest: a
  // job may go back).
  void Put(HeldSnapshot snapshot) ABSL_LOCKS_EXCLUDED(mutex_);

  // Frees the moments of every step but `keep_step`: they are large and seldom asked for twice.
  void DropMomentsExcept(int64_t keep_step) ABSL_LOCKS_EXCLUDED(mutex_);

  // Everything held for `job`, oldest first.
  std::vector<HeldSnapshot> List(const std::string& job) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void EvictBeyondDepth() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::string job_ ABSL_GUARDED_BY(mutex_);
  int depth_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<int64_t, HeldSnapshot> snapshots_ ABSL_GUARDED_BY(mutex_);
  std::map<int64_t, int64_t> last_use_ ABSL_GUARDED_BY(mutex_);  // step -> uses_ at its last use
  int64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace leap
