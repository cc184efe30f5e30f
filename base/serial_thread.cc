#include "base/serial_thread.h"

#include <memory>
#include <optional>

namespace leap {
namespace {

constexpr absl::Duration kIdle = absl::Milliseconds(500);

}  // namespace

SerialThread::SerialThread(size_t capacity) : queue_(capacity), thread_([this] { Loop(); }) {}

void SerialThread::Loop() {
  while (true) {
    const std::optional<std::function<void()>> work = queue_.Pop(kIdle);
    if (work) {
      (*work)();
    } else if (queue_.closed()) {
      return;
    }
  }
}

bool SerialThread::Drain(absl::Duration timeout) {
  // Shared: it may be done after the caller has given up.
  const auto done = std::make_shared<BoundedQueue<int>>(1);
  if (!queue_.Push([done] { (void)done->TryPush(1); }, timeout)) return false;
  return done->Pop(timeout).has_value();
}

void SerialThread::Stop() {
  queue_.Close();
  if (thread_.joinable()) thread_.join();
}

}  // namespace leap
