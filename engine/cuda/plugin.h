// What libleap_engine_cuda.so and the program that loads it say to each other. Programs do not link
// the library: engine/cuda_plugin.h loads it when a job asks for train.device: cuda, so that one
// build runs with and without a GPU.
//
// Both sides are C++ of one build: types of engine/ cross the border, so compiler and interface
// version must be equal, and the loader checks both before it calls anything in the table. Whoever
// changes this file, or a class it names (Group, GroupOptions, Interrupt, ShardCopier), raises
// kCudaPluginVersion.
//
// Nothing is thrown across. The library keeps no state but the CudaHost, and is never unloaded.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/group.h"
#include "engine/interrupt.h"
#include "engine/shard_copier.h"

namespace leap {

inline constexpr uint32_t kCudaPluginVersion = 3;
inline constexpr char kCudaPluginCompiler[] = __VERSION__;
inline constexpr char kCudaPluginEntry[] = "leap_cuda_plugin";

using CudaIdentity = std::array<int64_t, 2>;

// What the program does for the library. Lives as long as the process.
struct CudaHost {
  // Runs `end` on the reaper of the program (engine/reaper.h), so that DrainGroups waits for it.
  void (*bury)(absl::AnyInvocable<void()> end);
};

// What the library does for the program. `device`: index of a GPU, as CUDA counts those it sees.
struct CudaPlugin {
  // Never move or change their type: they are what tells another build.
  uint32_t version = 0;
  const char* compiler = nullptr;

  // GPUs that this process sees, at least one. FailedPrecondition: none, with CUDA's own reason
  // (no driver, driver too old, ...).
  absl::StatusOr<int> (*device_count)();

  // `device` in LibTorch's words: "cuda:0". All pointers and tensors below are of it.
  std::string (*tensors)(int device);

  // The UUID of the GPU behind `device`: the same to every process that uses this GPU, and to none
  // that uses another.
  absl::StatusOr<CudaIdentity> (*identity)(int device);

  // The NCCL group of an epoch (engine/cuda/nccl_group.h). `host_group`: the same ranks over Gloo.
  absl::StatusOr<std::unique_ptr<Group>> (*join)(const GroupOptions& options, int device,
                                                 std::shared_ptr<Interrupt> interrupt,
                                                 std::unique_ptr<Group> host_group);

  // Copies by a stream of their own into pinned memory (engine/cuda/pinned_copier.h).
  absl::StatusOr<std::unique_ptr<ShardCopier>> (*make_copier)(int device);

  // The rebase of a shard: out[i] = live[i] + displacement[i], rounded once, as the CPU does it;
  // launched on the training stream of the calling thread. `size` floats each; `out` may be either
  // of the others, and is apart from what it is not.
  absl::Status (*add_displacement)(int device, const float* live, const float* displacement,
                                   float* out, int64_t size);
};

}  // namespace leap

// The one symbol that the library exports.
extern "C" const leap::CudaPlugin* leap_cuda_plugin(const leap::CudaHost* host);
