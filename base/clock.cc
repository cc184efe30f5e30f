#include "base/clock.h"

#include "absl/time/clock.h"

namespace leap {
namespace {

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
  void SleepFor(absl::Duration duration) override { absl::SleepFor(duration); }
};

}  // namespace

Clock& RealClock() {
  static auto& clock = *new SystemClock;  // never destroyed: threads may outlive static destructors
  return clock;
}

}  // namespace leap
