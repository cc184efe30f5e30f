// Serves this rank's ring to verifiers and leapctl: the SnapshotSource behind its SnapshotService.
// Thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "engine/ring.h"
#include "service/snapshot_server.h"

namespace leap {

class RankHoldings final : public SnapshotSource {
 public:
  // The ring of the epoch this rank is in; null: none.
  void SetRing(const std::string& job, uint64_t epoch, std::shared_ptr<Ring> ring)
      ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<PinnedRange> Pin(const v1::FetchRequest& request) override;
  std::vector<v1::Holding> ListHoldings(const std::string& job) override;

 private:
  mutable Mutex mutex_;
  std::string job_ ABSL_GUARDED_BY(mutex_);
  uint64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<Ring> ring_ ABSL_GUARDED_BY(mutex_);  // shared: gRPC's threads read it
};

}  // namespace leap
