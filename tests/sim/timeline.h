// Simulated time: a queue of things to happen, in order of time, ties in the order in which they
// were planned.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace leap::sim {

using Micros = int64_t;
inline constexpr Micros kMillisecond = 1000;
inline constexpr Micros kSecond = 1000 * kMillisecond;

class Timeline {
 public:
  Micros now() const { return now_; }
  absl::Time time() const { return kBegin + absl::Microseconds(now_); }
  static Micros MicrosOf(absl::Time time) { return absl::ToInt64Microseconds(time - kBegin); }

  void At(Micros when, std::function<void()> action) {
    queue_.push_back({std::max(when, now_), next_++, std::move(action)});
    std::push_heap(queue_.begin(), queue_.end(), Later);
  }
  void After(Micros delay, std::function<void()> action) { At(now_ + delay, std::move(action)); }

  // False: nothing is planned.
  bool RunOne() {
    if (queue_.empty()) return false;
    std::pop_heap(queue_.begin(), queue_.end(), Later);
    Planned planned = std::move(queue_.back());
    queue_.pop_back();
    now_ = planned.when;
    planned.action();
    return true;
  }

 private:
  static constexpr absl::Time kBegin = absl::FromUnixSeconds(1'800'000'000);
  struct Planned {
    Micros when;
    uint64_t number;
    std::function<void()> action;
  };
  static bool Later(const Planned& a, const Planned& b) {
    return std::pair(a.when, a.number) > std::pair(b.when, b.number);
  }

  Micros now_ = 0;
  uint64_t next_ = 0;
  std::vector<Planned> queue_;
};

}  // namespace leap::sim
