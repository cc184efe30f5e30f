#include "engine/shard_copier.h"

#include <cstring>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"

namespace leap {

class HostShardCopier::Copy {
 public:
  Copy(const float* from, float* to, size_t floats) : from_(from), to_(to), floats_(floats) {}

  // Copies, or waits for who does; once.
  void Make() {
    MutexLock lock(&mutex_);
    if (std::exchange(made_, true)) return;
    std::memcpy(to_, from_, floats_ * sizeof(float));
  }

 private:
  const float* const from_;
  float* const to_;
  const size_t floats_;
  Mutex mutex_;
  bool made_ ABSL_GUARDED_BY(mutex_) = false;
};

class HostShardCopier::Waiter final : public ShardCopy {
 public:
  explicit Waiter(std::shared_ptr<Copy> copy) : copy_(std::move(copy)) {}
  ~Waiter() override { copy_->Make(); }
  absl::Status Wait(absl::Duration) override {
    copy_->Make();
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<Copy> copy_;
};

absl::StatusOr<std::unique_ptr<ShardCopy>> HostShardCopier::Start(const float* flat,
                                                                  FlatRange range, float* out) {
  const float* from = flat + range.begin;
  const size_t floats = out == from ? 0 : static_cast<size_t>(range.size());
  auto copy = std::make_shared<Copy>(from, out, floats);
  if (floats > 0) {
    copies_.push_back(copy);
    if (!thread_.TryPost([copy] { copy->Make(); })) copy->Make();
  }
  return std::make_unique<Waiter>(std::move(copy));
}

absl::Status HostShardCopier::BeforeWrite() {
  for (const auto& copy : copies_) copy->Make();
  copies_.clear();
  return absl::OkStatus();
}

}  // namespace leap
