// Loads the CUDA half of the engine, libleap_engine_cuda.so, when a job asks for it.
//
// For engine/device.h, which is how the rest of Leap asks for a GPU.
//
//   LEAP_ASSIGN_OR_RETURN(const CudaPlugin* cuda, LoadCudaPlugin());
//   LEAP_ASSIGN_OR_RETURN(auto group, JoinCuda(*cuda, options, device, interrupt));
//   LEAP_ASSIGN_OR_RETURN(auto copier, cuda->make_copier(device));
//
// Loading it brings LibTorch's CUDA half into the process; tensors can be on a GPU from then on.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/cuda/plugin.h"

namespace leap {

inline constexpr char kCudaPluginLibrary[] = "libleap_engine_cuda.so";

// Loads the library, checks that it is of this build and that this machine has a GPU. `library`: a
// path, or a name that the dynamic loader looks up in the program's run path (the lib/ beside an
// installed bin/), in LD_LIBRARY_PATH and in the system's folders. Cheap to call again. The result
// is valid until the process ends. Any thread; best called before others are started, since
// NCCL changes environment variables.
//
// FailedPrecondition (DEVICE_UNAVAILABLE), saying which of these it is and what to do: the library
// is not there; something that it needs is not there; it is of another build; no driver or no GPU.
absl::StatusOr<const CudaPlugin*> LoadCudaPlugin(const std::string& library = kCudaPluginLibrary);

// Group::Join for tensors on a GPU: joins over Gloo, then over NCCL beside it. Same contract, and
// FailedPrecondition (DEVICE_UNAVAILABLE): this rank is on the same GPU as another one. Ranks
// beside those wait until they are interrupted. Tensors on the host may be given too; they go over
// Gloo.
absl::StatusOr<std::unique_ptr<Group>> JoinCuda(const CudaPlugin& plugin,
                                                const GroupOptions& options, int device,
                                                std::shared_ptr<Interrupt> interrupt);

}  // namespace leap
