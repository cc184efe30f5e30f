#include "engine/reaper.h"

#include <utility>

namespace leap {

Reaper& Reaper::Get() {
  static Reaper* const reaper =
      new Reaper;  // outlives static destructors: its thread may be inside c10d
  return *reaper;
}

void Reaper::Bury(absl::AnyInvocable<void()> end) {
  {
    MutexLock lock(&mutex_);
    if (waiting_.size() < kCapacity) {
      waiting_.push_back(std::move(end));
      if (!started_) thread_ = std::thread([this] { Run(); });
      started_ = true;
      return;
    }
  }
  std::move(end)();
}

bool Reaper::Drain(absl::Duration timeout) {
  MutexLock lock(&mutex_);
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return waiting_.empty() && !busy_;
  };
  return mutex_.AwaitWithTimeout(Condition(&idle), timeout);
}

void Reaper::Run() {
  const auto some = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !waiting_.empty(); };
  while (true) {
    absl::AnyInvocable<void()> end;
    {
      MutexLock lock(&mutex_);
      busy_ = false;
      mutex_.Await(Condition(&some));
      end = std::move(waiting_.front());
      waiting_.pop_front();
      busy_ = true;
    }
    std::move(end)();
  }
}

}  // namespace leap
