// Serves the verifier's ring to other verifiers and to leapctl: the SnapshotSource behind its
// SnapshotService.
#pragma once

#include <string>
#include <vector>

#include "service/snapshot_server.h"
#include "verifier/snapshot_store.h"

namespace leap {

// Thread-safe. A verifier holds whole buffers only. What can be checked by digest is served
// whatever epoch the caller names; Adam's moments, which cannot, only for the epoch they were
// fetched in.
class Holdings final : public SnapshotSource {
 public:
  // `store` must outlive this.
  explicit Holdings(const SnapshotStore* store) : store_(store) {}

  absl::StatusOr<PinnedRange> Pin(const v1::FetchRequest& request) override;
  std::vector<v1::Holding> ListHoldings(const std::string& job) override;

 private:
  const SnapshotStore* const store_;
};

}  // namespace leap
