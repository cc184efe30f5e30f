// SnapshotService on top of anything that can pin a range of a snapshot in memory: a rank's ring, a
// verifier's ring.
//
// Runs on gRPC's callback threads; a fetch holds its pin (so the ring cannot reuse the memory)
// until the last chunk is sent, the stream breaks, or `max_stream` has passed; a slow reader can
// therefore hold a slot of the ring no longer than that. Streams beyond `max_streams` are answered
// ResourceExhausted.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/layout.h"
#include "grpcpp/impl/service_type.h"
#include "leap/v1/snapshot.pb.h"
#include "service/auth.h"

namespace leap {

// Floats `range` of a buffer, readable as long as `keep_alive` lives.
struct PinnedRange {
  FlatRange range;
  std::span<const float> values;           // values.size() == range.size()
  std::shared_ptr<const void> keep_alive;  // shared: gRPC's slices hold it beyond the call
};

class SnapshotSource {
 public:
  virtual ~SnapshotSource() = default;

  // Pins what is asked for; called on gRPC's threads, at the same time from several: thread-safe,
  // no waiting. NotFound (SNAPSHOT_NOT_FOUND): not in the ring. OutOfRange: holds only part, the
  // message names it. Aborted (STALE_EPOCH): request.epoch() is not the one this snapshot was taken
  // in.
  virtual absl::StatusOr<PinnedRange> Pin(const v1::FetchRequest& request) = 0;

  virtual std::vector<v1::Holding> ListHoldings(const std::string& job) = 0;
};

// Told of each fetch that was begun, once it ended, on gRPC's threads; for metrics. Must not wait.
class FetchObserver {
 public:
  virtual ~FetchObserver() = default;
  // `bytes` handed to gRPC; `complete`: the whole range.
  virtual void OnFetch(int64_t bytes, bool complete) = 0;
};

struct SnapshotServerOptions {
  int max_streams = 64;
  absl::Duration max_stream = absl::Seconds(120);
  FetchObserver* observer = nullptr;  // must outlive the service
};

// The service to hand to RpcServer::Start. `source` and `auth` must outlive it; stop the RpcServer
// before destroying.
std::unique_ptr<grpc::Service> MakeSnapshotService(SnapshotSource* source,
                                                   const Authenticator* auth,
                                                   const SnapshotServerOptions& options = {});

}  // namespace leap
