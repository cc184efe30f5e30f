// A bounded first-in-first-out queue between threads. RPC callbacks push what they parsed; one
// runner thread pops. A full queue is the caller's to answer (ResourceExhausted), never a reason to
// grow.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace leap {

// Thread-safe. Destroy it only after every thread has left its methods: Close, join, destroy.
template <typename T>
class BoundedQueue {
 public:
  // `capacity` items at most, at least one.
  explicit BoundedQueue(size_t capacity) : capacity_(capacity == 0 ? 1 : capacity) {}
  BoundedQueue(const BoundedQueue&) = delete;
  BoundedQueue& operator=(const BoundedQueue&) = delete;

  // Appends `item` unless the queue is full or closed; says whether it did. Never blocks on a full
  // queue.
  [[nodiscard]] bool TryPush(T item) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    return Append(item);
  }

  // Like TryPush, but waits for room until `timeout` has passed. False: still full, or closed.
  [[nodiscard]] bool Push(T item, absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    const auto settled = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return closed_ || items_.size() < capacity_;
    };
    mutex_.AwaitWithTimeout(Condition(&settled), timeout);
    return Append(item);
  }

  // Takes the oldest item, waiting for one until `timeout` has passed. Nothing: it stayed empty, or
  // it is closed and everything pushed before has been popped (see closed()).
  std::optional<T> Pop(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    const auto settled = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return closed_ || !items_.empty();
    };
    mutex_.AwaitWithTimeout(Condition(&settled), timeout);
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    return item;
  }

  // From now on nothing can be pushed; items already in can still be popped. Wakes every waiting
  // thread. Idempotent.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    closed_ = true;
  }

  bool closed() const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    return closed_;
  }

  size_t size() const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    return items_.size();
  }

  size_t capacity() const { return capacity_; }

 private:
  bool Append(T& item) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (closed_ || items_.size() >= capacity_) return false;
    items_.push_back(std::move(item));
    return true;
  }

  const size_t capacity_;

  mutable Mutex mutex_;
  std::deque<T> items_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace leap
