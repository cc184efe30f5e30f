// ShardCopier for weights on a GPU: host memory pinned in place, and a stream of its own that waits
// for the training stream (the thread's current stream), so that a copy runs beside the next
// forward and backward pass.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/shard_copier.h"

namespace leap {

absl::StatusOr<std::unique_ptr<ShardCopier>> MakePinnedCopier(int device);

}  // namespace leap
