// Group (engine/group.h) for tensors on a GPU, over c10d's ProcessGroupNCCL.
//
// A wait polls, so it can be given up at once; giving up aborts the communicator: its kernels end,
// on this side. NCCL notices a peer that died when their connection is a socket; over shared memory
// or NVLink it does not, and the group's time-out, or the coordinator's new epoch, ends the wait.
// Unlike Gloo, c10d's part is told not to watch (no watchdog thread, which would end the process
// where we begin a new epoch).
//
// Tensors on the host (votes, GatherInts, BroadcastFloats) go over the Gloo group of the same
// ranks, which also was where ranks waited for each other.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/cuda/plugin.h"

namespace leap {

// Blocks until NCCL has connected the ranks of `host_group`, all of which call this. Errors as
// Group::Join. A join that is given up is left to the host's reaper, where it ends when NCCL does.
absl::StatusOr<std::unique_ptr<Group>> JoinNccl(const CudaHost& host, const GroupOptions& options,
                                                int device, std::shared_ptr<Interrupt> interrupt,
                                                std::unique_ptr<Group> host_group);

}  // namespace leap
