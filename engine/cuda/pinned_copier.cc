#include "engine/cuda/pinned_copier.h"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/status_macros.h"
#include "engine/cuda/cuda_status.h"
#include "engine/internal/torch_errors.h"

namespace leap {
namespace {

constexpr char kCopying[] = "copying a shard to the host";
constexpr char kPinning[] = "pinning host memory";
constexpr absl::Duration kPoll = absl::Microseconds(100);

cudaStream_t TrainingStream(int device) {
  return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream();
}

// Owns an event without timing.
class Event {
 public:
  static absl::StatusOr<Event> Make() {
    cudaEvent_t event = nullptr;
    LEAP_CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), kCopying);
    return Event(event);
  }
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~Event() {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  cudaEvent_t get() const { return event_; }

 private:
  explicit Event(cudaEvent_t event) : event_(event) {}
  cudaEvent_t event_;
};

class PinnedCopy final : public ShardCopy {
 public:
  PinnedCopy(int device, Event done) : device_(device), done_(std::move(done)) {}
  ~PinnedCopy() override { cudaEventSynchronize(done_.get()); }

  absl::Status Wait(absl::Duration timeout) override {
    Clock& clock = RealClock();
    const absl::Time deadline = clock.Now() + timeout;
    LEAP_CUDA_RETURN_IF_ERROR(cudaSetDevice(device_), kCopying);  // of this thread
    while (true) {
      const cudaError_t state = cudaEventQuery(done_.get());
      if (state != cudaErrorNotReady) return CudaStatus(state, kCopying);
      if (clock.Now() > deadline) {
        return absl::DeadlineExceededError(
            absl::StrCat(kCopying, ": not done within ", absl::FormatDuration(timeout)));
      }
      clock.SleepFor(kPoll);
    }
  }

 private:
  const int device_;
  const Event done_;
};

class PinnedCopier final : public ShardCopier {
 public:
  PinnedCopier(int device, cudaStream_t side, Event trained, Event copied)
      : device_(device), side_(side), trained_(std::move(trained)), copied_(std::move(copied)) {}
  ~PinnedCopier() override { cudaStreamDestroy(side_); }  // when its copies are done

  absl::StatusOr<HostPin> Pin(std::span<float> memory) override {
    if (memory.empty()) return HostPin(nullptr, [](float*) {});
    return Fenced(kPinning, [&]() -> absl::StatusOr<HostPin> {
      const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device_));
      LEAP_CUDA_RETURN_IF_ERROR(
          cudaHostRegister(memory.data(), memory.size_bytes(), cudaHostRegisterPortable), kPinning);
      return HostPin(memory.data(), [](float* pinned) { cudaHostUnregister(pinned); });
    });
  }

  absl::StatusOr<std::unique_ptr<ShardCopy>> Start(const float* flat, FlatRange range,
                                                   float* out) override {
    return Fenced(kCopying, [&] { return StartFenced(flat, range, out); });
  }

  absl::Status BeforeWrite() override {
    return Fenced(kCopying, [&]() -> absl::Status {
      const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device_));
      return CudaStatus(cudaStreamWaitEvent(TrainingStream(device_), copied_.get()), kCopying);
    });
  }

 private:
  absl::StatusOr<std::unique_ptr<ShardCopy>> StartFenced(const float* flat, FlatRange range,
                                                         float* out) {
    const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device_));
    LEAP_ASSIGN_OR_RETURN(Event done, Event::Make());
    LEAP_CUDA_RETURN_IF_ERROR(cudaEventRecord(trained_.get(), TrainingStream(device_)), kCopying);
    LEAP_CUDA_RETURN_IF_ERROR(cudaStreamWaitEvent(side_, trained_.get()), kCopying);
    LEAP_CUDA_RETURN_IF_ERROR(
        cudaMemcpyAsync(out, flat + range.begin, static_cast<size_t>(range.size()) * sizeof(float),
                        cudaMemcpyDeviceToHost, side_),
        kCopying);
    LEAP_CUDA_RETURN_IF_ERROR(cudaEventRecord(copied_.get(), side_), kCopying);
    LEAP_CUDA_RETURN_IF_ERROR(cudaEventRecord(done.get(), side_), kCopying);
    return std::make_unique<PinnedCopy>(device_, std::move(done));
  }

  const int device_;
  const cudaStream_t side_;
  const Event trained_;  // what the side stream waits for, recorded anew by each Start
  const Event copied_;   // the end of the last copy; until the first, waiting for it is no wait
};

}  // namespace

absl::StatusOr<std::unique_ptr<ShardCopier>> MakePinnedCopier(int device) {
  constexpr char kMaking[] = "making a side stream";
  return Fenced(kMaking, [&]() -> absl::StatusOr<std::unique_ptr<ShardCopier>> {
    const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
    LEAP_ASSIGN_OR_RETURN(Event trained, Event::Make());
    LEAP_ASSIGN_OR_RETURN(Event copied, Event::Make());
    cudaStream_t side = nullptr;
    LEAP_CUDA_RETURN_IF_ERROR(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking), kMaking);
    return std::make_unique<PinnedCopier>(device, side, std::move(trained), std::move(copied));
  });
}

}  // namespace leap
