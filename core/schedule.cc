#include "core/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace leap {
namespace {

// How far `step` is between `begin` and `end`, in [0, 1]; nothing to go: 1 from `begin` on.
double Progress(int64_t step, int64_t begin, int64_t end) {
  if (step < begin) return 0;
  if (end <= begin) return 1;
  return std::min(1.0, static_cast<double>(step - begin) / static_cast<double>(end - begin));
}

// Share of the peak rate after warm-up.
double Decay(const TrainSpec& train, int64_t step) {
  const double floor = train.min_lr_fraction;
  switch (train.schedule) {
    case LrSchedule::kConstant:
      return 1;
    case LrSchedule::kCosine: {
      const double progress = Progress(step, train.warmup_steps, train.steps);
      return floor + (1 - floor) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
    }
    case LrSchedule::kWsd: {
      const int64_t decay_steps =
          std::llround(train.decay_fraction * static_cast<double>(train.steps));
      if (decay_steps <= 0) return 1;
      return 1 - (1 - floor) * Progress(step, train.steps - decay_steps, train.steps);
    }
  }
  return 1;
}

}  // namespace

double LearningRate(const TrainSpec& train, int64_t step) {
  const double decay = Decay(train, step);
  if (step >= train.warmup_steps) return train.lr * decay;
  const double warmup = static_cast<double>(step + 1) / static_cast<double>(train.warmup_steps);
  return train.lr * std::min(warmup, decay);
}

}  // namespace leap
