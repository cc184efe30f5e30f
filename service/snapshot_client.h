// Pulls snapshots: whole buffers assembled from shards that several holders serve, in parallel,
// each chunk checked, resumed after a break, and taken from another holder when one is slow, gone,
// wrong or unwilling.
//
// Thread-safe; a FetchBuffer runs on the calling thread and on up to `max_parallel` threads that it
// joins.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/layout.h"
#include "leap/v1/job.pb.h"
#include "leap/v1/snapshot.pb.h"
#include "service/channel.h"

namespace leap {

struct BufferRequest {
  std::string job;
  uint64_t epoch = 0;
  int64_t step = 0;
  v1::Buffer buffer = v1::BUFFER_WEIGHTS;
  int64_t size = 0;  // floats of the whole buffer
  absl::Duration timeout = absl::Seconds(60);
  const std::atomic<bool>* cancelled =
      nullptr;  // looked at ten times a second; true ends the fetch with Cancelled
};

struct FetchStats {
  int64_t bytes = 0;
  int retries = 0;  // ranges taken up again, by the same or another source
  int corrupt_chunks = 0;
  double seconds = 0;
};

struct SnapshotClientOptions {
  ChannelOptions channel;
  int max_parallel = 4;
  int attempts_per_source = 2;  // then this source is left out for the rest of the fetch
  absl::Duration stall_timeout =
      absl::Seconds(5);       // a stream without a chunk for so long is given up
  size_t max_channels = 256;  // kept open, least recently used closed
};

class SnapshotClient {
 public:
  explicit SnapshotClient(const SnapshotClientOptions& options);
  ~SnapshotClient();

  // Fills `out` (size() == request.size) from `sources`, earlier ones first where several hold a
  // range. Sources need not be disjoint or trustworthy. `out` is undefined unless OK. The caller
  // checks the digest of the whole. Unavailable: some range could not be had from anyone (message:
  // which, and the last error of each source). NotFound: every holder said the snapshot is gone.
  // Aborted: a holder said the epoch is stale. DataLoss: nobody had it uncorrupted.
  // DeadlineExceeded, Cancelled. InvalidArgument: a size that cannot be.
  absl::Status FetchBuffer(const BufferRequest& request, std::span<const v1::ShardSource> sources,
                           std::span<float> out, FetchStats* stats = nullptr);

  // One range from one holder, no retry; for tools and tests.
  absl::Status FetchRange(const std::string& address, const v1::FetchRequest& request,
                          std::span<float> out, absl::Duration timeout);

  absl::StatusOr<std::vector<v1::Holding>> ListHoldings(const std::string& address,
                                                        const std::string& job,
                                                        absl::Duration timeout);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace leap
