// libleap_engine_cuda.so for tests: the table of engine/cuda/plugin.h carried out in host memory,
// so that a job with device: cuda takes the way it takes with a GPU, dlopen included, on a machine
// without one. What it computes is what the CPU computes, to the last bit.
//
// Its copier is as late as a device may be: a copy is made when the next writer announces itself
// (BeforeWrite), or kLate after somebody began to wait for it. So what writes without announcing
// itself spoils the copies of before.
//
// Whoever asks is on a GPU of its own, or on $LEAP_HOST_PLUGIN_GPU, if that is set.
//
// It counts what it is asked for. leap_host_plugin_counts is for a test in the same process; a
// process that ends writes them to $LEAP_HOST_PLUGIN_COUNTS.PID, if that is set.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "engine/cuda/plugin.h"

namespace leap {
namespace {

constexpr absl::Duration kLate = absl::Milliseconds(50);

struct Counts {
  std::atomic<int64_t> joins = 0;
  std::atomic<int64_t> collectives = 0;  // launched
  std::atomic<int64_t> copiers = 0;
  std::atomic<int64_t> pinned = 0;  // buffers, at the moment
  std::atomic<int64_t> copies = 0;  // asked for
  std::atomic<int64_t> early = 0;   // of those, made because somebody was about to write
  std::atomic<int64_t> rebases = 0;

  std::string Json() const {
    return absl::StrCat("{\"joins\": ", joins.load(), ", \"collectives\": ", collectives.load(),
                        ", \"copiers\": ", copiers.load(), ", \"pinned\": ", pinned.load(),
                        ", \"copies\": ", copies.load(), ", \"early\": ", early.load(),
                        ", \"rebases\": ", rebases.load(), "}\n");
  }
  ~Counts() {
    if (const char* path = std::getenv("LEAP_HOST_PLUGIN_COUNTS")) {
      std::ofstream(absl::StrCat(path, ".", getpid())) << Json();
    }
  }
} counts;

// The host's group, counted.
class CountingGroup final : public Group {
 public:
  explicit CountingGroup(std::unique_ptr<Group> host)
      : Group(host->rank(), host->world_size()), host_(std::move(host)) {}

  Ticket AllReduceSum(const at::Tensor& tensor) override { return Counted().AllReduceSum(tensor); }
  Ticket AllReduceMin(const at::Tensor& tensor) override { return Counted().AllReduceMin(tensor); }
  Ticket AllGather(const at::Tensor& all, const at::Tensor& mine) override {
    return Counted().AllGather(all, mine);
  }
  Ticket Broadcast(const at::Tensor& tensor, int source) override {
    return Counted().Broadcast(tensor, source);
  }
  absl::Status Wait(const Ticket& ticket) override { return host_->Wait(ticket); }

 private:
  Group& Counted() {
    ++counts.collectives;
    return *host_;
  }
  const std::unique_ptr<Group> host_;
};

class LateCopier final : public ShardCopier {
 public:
  LateCopier() { ++counts.copiers; }

  absl::StatusOr<HostPin> Pin(std::span<float> memory) override {
    if (memory.empty()) return HostPin(nullptr, [](float*) {});
    ++counts.pinned;
    return HostPin(memory.data(), [](float*) { --counts.pinned; });
  }

  absl::StatusOr<std::unique_ptr<ShardCopy>> Start(const float* flat, FlatRange range,
                                                   float* out) override {
    ++counts.copies;
    auto copy = std::make_shared<Copy>();
    copy->from = flat + range.begin;
    copy->size = static_cast<size_t>(range.size());
    copy->to = out;
    waiting_.push_back(copy);
    return std::make_unique<Waiter>(std::move(copy));
  }

  absl::Status BeforeWrite() override {
    for (const auto& copy : waiting_) {
      MutexLock lock(&copy->mutex);
      if (copy->Make()) ++counts.early;
    }
    waiting_.clear();
    return absl::OkStatus();
  }

 private:
  struct Copy {
    Mutex mutex;
    const float* from ABSL_GUARDED_BY(mutex) = nullptr;
    size_t size ABSL_GUARDED_BY(mutex) = 0;
    float* to ABSL_GUARDED_BY(mutex) = nullptr;
    bool made ABSL_GUARDED_BY(mutex) = false;

    bool Make() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
      if (std::exchange(made, true)) return false;
      std::copy(from, from + size, to);
      return true;
    }
  };

  class Waiter final : public ShardCopy {
   public:
    explicit Waiter(std::shared_ptr<Copy> copy) : copy_(std::move(copy)) {}
    ~Waiter() override { (void)Wait(absl::ZeroDuration()); }
    absl::Status Wait(absl::Duration) override {
      MutexLock lock(&copy_->mutex);
      copy_->mutex.AwaitWithTimeout(Condition(&copy_->made), kLate);
      copy_->Make();
      return absl::OkStatus();
    }

   private:
    const std::shared_ptr<Copy> copy_;
  };

  std::vector<std::shared_ptr<Copy>> waiting_;  // training thread
};

constexpr CudaPlugin kPlugin = {
    .version = kCudaPluginVersion,
    .compiler = kCudaPluginCompiler,
    .device_count = []() -> absl::StatusOr<int> { return 1; },
    .tensors = [](int) -> std::string { return "cpu"; },
    .identity = [](int) -> absl::StatusOr<CudaIdentity> {
      static std::atomic<int64_t> last = 0;
      const char* gpu = std::getenv("LEAP_HOST_PLUGIN_GPU");
      if (gpu != nullptr) return CudaIdentity{0, std::atoll(gpu)};
      return CudaIdentity{getpid(), ++last};
    },
    .join = [](const GroupOptions&, int, std::shared_ptr<Interrupt>,
               std::unique_ptr<Group> host) -> absl::StatusOr<std::unique_ptr<Group>> {
      ++counts.joins;
      return std::make_unique<CountingGroup>(std::move(host));
    },
    .make_copier = [](int) -> absl::StatusOr<std::unique_ptr<ShardCopier>> {
      return std::make_unique<LateCopier>();
    },
    .add_displacement =
        [](int, const float* live, const float* displacement, float* out, int64_t size) {
          ++counts.rebases;
          for (int64_t i = 0; i < size; ++i) out[i] = live[i] + displacement[i];
          return absl::OkStatus();
        }};

}  // namespace
}  // namespace leap

extern "C" const leap::CudaPlugin* leap_cuda_plugin(const leap::CudaHost*) {
  return &leap::kPlugin;
}

extern "C" const char* leap_host_plugin_counts() {
  static std::string text;
  return (text = leap::counts.Json()).c_str();
}
