#include "engine/internal/autocast.h"

#include <ATen/autocast_mode.h>

namespace leap {

Autocast::Autocast(bool enabled, c10::DeviceType device) : enabled_(enabled), device_(device) {
  if (!enabled_) return;
  at::autocast::set_autocast_enabled(device_, true);
  at::autocast::set_autocast_dtype(device_, at::kBFloat16);
}

Autocast::~Autocast() {
  if (!enabled_) return;
  at::autocast::clear_cache();  // bf16 copies of weights that are about to change
  at::autocast::set_autocast_enabled(device_, false);
}

}  // namespace leap
