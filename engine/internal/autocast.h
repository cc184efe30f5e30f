// bf16 autocast for as long as one lives, on this thread. ATen/autocast_mode.h is large; only
// autocast.cc includes it.
#pragma once

#include <c10/core/DeviceType.h>

namespace leap {

class Autocast {
 public:
  // Does nothing unless `enabled`.
  Autocast(bool enabled, c10::DeviceType device);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  const bool enabled_;
  const c10::DeviceType device_;
};

}  // namespace leap
