// One Fetch stream, read to its end: what SnapshotClient is made of.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "leap/v1/snapshot.pb.h"
#include "service/channel.h"

namespace leap {

struct StreamLimits {
  absl::Time deadline;
  absl::Duration stall_timeout;                  // without a chunk for so long: DeadlineExceeded
  const std::atomic<bool>* cancelled = nullptr;  // true: Cancelled, within a tenth of a second
};

// Reads [request.begin, request.end) from the peer of `channel` into `out` (of that size),
// blocking. `*done` is the number of floats that arrived and were checked, from the front: the rest
// can be asked for later. OK: all of them. DataLoss: a chunk was corrupt, or the stream ended early
// with OK. Else what the peer or the connection said.
absl::Status ReadSnapshotStream(const std::shared_ptr<grpc::Channel>& channel,
                                const ChannelOptions& options, const v1::FetchRequest& request,
                                const StreamLimits& limits, std::span<float> out, int64_t* done);

}  // namespace leap
