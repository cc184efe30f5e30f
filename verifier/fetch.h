// Fetching one whole flat buffer and making sure that it is the right one. How bytes are had from
// slow, partial or dead holders is service/snapshot_client.h's business; here: whom to ask first,
// and the digest of the whole.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "leap/v1/job.pb.h"
#include "service/snapshot_client.h"
#include "verifier/task_control.h"

namespace leap {

// SnapshotClient::FetchBuffer, behind a function so that tests need no network.
using BufferFetcher = std::function<absl::Status(
    const BufferRequest& request, std::span<const v1::ShardSource> sources, std::span<float> out)>;

// The whole buffer of `request` (its timeout and cancellation are taken from `control`). Verifiers
// are asked before main workers, so that a main worker uploads a snapshot about once; `spread`
// rotates the verifiers, so that not all ask the same one. If that fails, or the digest of the
// whole is not `digest`, main workers alone are asked. Without a digest (moments) they are asked at
// once: what cannot be checked is taken from nobody else. Errors: the fetcher's; DataLoss (what the
// main workers gave has another digest; both are named); Cancelled and DeadlineExceeded from
// `control`.
absl::StatusOr<std::vector<float>> FetchWhole(BufferRequest request, std::optional<uint64_t> digest,
                                              std::span<const v1::ShardSource> sources,
                                              uint64_t spread, const BufferFetcher& fetch,
                                              const TaskControl& control);

}  // namespace leap
