// Copies ranges of a flat fp32 buffer into host memory without holding training up: what the ring
// of snapshots (engine/ring.h) is filled by. On a CPU another thread copies; on a GPU a stream
// beside the training stream copies into pinned memory (engine/cuda/pinned_copier.h, through
// engine/cuda_plugin.h).
//
// The ring pins its memory once. Then a snapshot, on the training thread, between two steps:
//
//   copies.push_back(*copier.Start(weights, shard, slot));   // returns at once; again for moments
//   ... forward, backward: they only read the weights ...
//   copier.BeforeWrite();                                    // then the optimizer, or a leap
//
// and on any thread: copy->Wait(timeout), then read the slot.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/serial_thread.h"
#include "core/layout.h"

namespace leap {

// Unpins memory when it is destroyed, which is to be before the memory is freed.
using HostPin = std::unique_ptr<float, void (*)(float*)>;

// A copy under way. Destroying it waits for the copy, which nothing but the device can delay.
class ShardCopy {
 public:
  virtual ~ShardCopy() = default;

  // Blocks until the destination is filled; then, and on every later call, OK. DeadlineExceeded:
  // not within `timeout`. Unavailable (DEVICE_UNAVAILABLE): the device failed. One thread at a
  // time.
  virtual absl::Status Wait(absl::Duration timeout) = 0;
};

using ShardCopies = std::vector<std::unique_ptr<ShardCopy>>;

// One for a model. Start and BeforeWrite: the training thread. Pin: any thread.
class ShardCopier {
 public:
  virtual ~ShardCopier() = default;

  // Readies memory for copies: on a GPU locks it in RAM and tells the device where it is. It stays
  // where and what it is. ResourceExhausted: more than the machine lets be locked.
  virtual absl::StatusOr<HostPin> Pin(std::span<float> memory) = 0;

  // Copies flat[range.begin, range.end) to out[0, range.size()), as it is once everything that the
  // training thread has launched so far is done. `flat` lies on the copier's device; it and `out`
  // live until the copy is done. `out` that is not pinned is filled too, but the caller may wait.
  virtual absl::StatusOr<std::unique_ptr<ShardCopy>> Start(const float* flat, FlatRange range,
                                                           float* out) = 0;

  // To be called before anything that writes to a buffer which was given to Start is launched: the
  // device does that after the copies. Blocks only for memory that the host copies.
  virtual absl::Status BeforeWrite() = 0;
};

// The copier for weights in host memory: a thread beside the training thread copies. Whoever needs
// a copy that the thread has not come to makes it. Nothing is to be done for an `out` that is the
// place copied from.
class HostShardCopier final : public ShardCopier {
 public:
  absl::StatusOr<HostPin> Pin(std::span<float> memory) override {
    return HostPin(memory.data(), [](float*) {});
  }
  absl::StatusOr<std::unique_ptr<ShardCopy>> Start(const float* flat, FlatRange range,
                                                   float* out) override;
  // Blocks until the copies are made.
  absl::Status BeforeWrite() override;

 private:
  class Copy;
  class Waiter;

  std::vector<std::shared_ptr<Copy>> copies_;  // since the last BeforeWrite; training thread
  SerialThread thread_{kWaiting};

  static constexpr size_t kWaiting = 16;  // more are made by the caller
};

}  // namespace leap
