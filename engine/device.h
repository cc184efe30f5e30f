// Where a job's model lives: host memory, or a GPU behind the CUDA library (engine/cuda_plugin.h).
// All that differs between the two is in here and in what it makes; trainer, ring and scorer ask
// the device and do not know which it is.
//
// LibTorch appears in this header by name only.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/group.h"
#include "engine/interrupt.h"
#include "engine/shard_copier.h"

namespace leap {

// One for a model. Threads: as its methods say; the training (or scoring) thread is the model's.
class Device {
 public:
  // `name`: spec.train.device. "cuda" is the first GPU that this process sees (CUDA_VISIBLE_DEVICES
  // says which that is). InvalidArgument: another name. FailedPrecondition (DEVICE_UNAVAILABLE):
  // no CUDA library, or no GPU; says which, and what to do.
  static absl::StatusOr<std::unique_ptr<Device>> Open(const std::string& name);
  virtual ~Device() = default;

  // For the begin of a program that is to compute on what jobs ask for: LibTorch takes in a GPU
  // only before it is first used. Not OK: this process has none, for the reason that Open will
  // give.
  static absl::Status PrepareGpu();

  // Where LibTorch puts this device's tensors: "cpu", "cuda:0".
  virtual std::string tensors() const = 0;

  // The host reads its memory as it is: what lies there needs no copy.
  virtual bool on_host() const = 0;

  // Group::Join, for tensors of this device and of the host. Training thread.
  virtual absl::StatusOr<std::unique_ptr<Group>> Join(const GroupOptions& options,
                                                      std::shared_ptr<Interrupt> interrupt) = 0;

  virtual absl::StatusOr<std::unique_ptr<ShardCopier>> MakeCopier() = 0;

  // The rebase of a shard: out[i] = live[i] + displacement[i], rounded once. `live` and `out`:
  // fp32, contiguous, of this device, as long as `displacement`, and apart. Training thread.
  virtual absl::Status Rebase(const at::Tensor& live, std::span<const float> displacement,
                              const at::Tensor& out) = 0;
};

}  // namespace leap
