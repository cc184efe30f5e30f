// A thread that does what it is given, one thing after the other, and the bounded queue before it.
#pragma once

#include <cstddef>
#include <functional>
#include <thread>

#include "absl/time/time.h"
#include "base/bounded_queue.h"

namespace leap {

// Thread-safe. Whoever owns it outlives what was posted: Stop, or the destructor, joins.
class SerialThread {
 public:
  // At most `capacity` things wait.
  explicit SerialThread(size_t capacity);
  ~SerialThread() { Stop(); }
  SerialThread(const SerialThread&) = delete;
  SerialThread& operator=(const SerialThread&) = delete;

  // False: `capacity` things wait, or it was stopped. Never blocks.
  [[nodiscard]] bool TryPost(std::function<void()> work) { return queue_.TryPush(std::move(work)); }
  size_t waiting() const { return queue_.size(); }

  // Blocks until everything posted before is done. False: not within `timeout`, or it was stopped.
  bool Drain(absl::Duration timeout);

  // Does what was posted and ends the thread. Idempotent; by the owner alone.
  void Stop();

 private:
  void Loop();

  BoundedQueue<std::function<void()>> queue_;
  std::thread thread_;
};

}  // namespace leap
