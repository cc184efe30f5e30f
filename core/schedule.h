// Learning rate as a pure function of the step: warm-up, then constant, cosine or WSD (warm-up,
// stable, decay).
#pragma once

#include <cstdint>

#include "core/job_spec.h"

namespace leap {

// Rate used by the update that goes from `step` to step + 1 (step counts from 0). Linear warm-up
// over warmup_steps
// ((step + 1) / warmup); then constant; or cosine to lr * min_lr_fraction at `steps`; or WSD:
// constant until the last decay_fraction of the steps, then linear to lr * min_lr_fraction.
double LearningRate(const TrainSpec& train, int64_t step);

}  // namespace leap
