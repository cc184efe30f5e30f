#include "coordinator/machine/loss_spike.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_format.h"
#include "core/statistics.h"

namespace leap::machine {
namespace {

constexpr double kDeviations = 6;
constexpr double kNormal = 1.4826;  // standard deviations in a median absolute deviation
constexpr double kLeastRise = 0.05;

double MedianOf(std::vector<double> values) {
  std::ranges::sort(values);
  return QuantileOfSorted(values, 0.5);
}

}  // namespace

double SpikeWatch::Limit(const SpikeOptions& options) const {
  if (calm_.size() < options.fewest) return std::numeric_limits<double>::infinity();
  const double median = MedianOf({calm_.begin(), calm_.end()});
  std::vector<double> deviations;
  for (const double loss : calm_) deviations.push_back(std::fabs(loss - median));
  const double noise = kNormal * MedianOf(std::move(deviations));
  return median + std::max(kDeviations * noise, kLeastRise * std::fabs(median));
}

std::string SpikeWatch::Observe(absl::Time now, int64_t step, double loss,
                                const SpikeOptions& options) {
  if (step == last_step_ || !std::isfinite(loss)) return "";
  last_step_ = step;
  const double limit = Limit(options);
  if (loss <= limit) {
    above_since_.reset();
    in_row_ = 0;
    calm_.push_back(loss);
    if (calm_.size() > options.window) calm_.pop_front();
    return "";
  }
  if (in_row_++ == 0) {
    above_since_ = step;
    since_ = now;
  }
  if (in_row_ < options.in_row || now - since_ < options.grace) return "";
  return absl::StrFormat(
      "the training loss spikes: %.4f at step %d, and above %.4f in %d reports in a row since step "
      "%d (the limit is the median of the last %d calm reports and six deviations, at least 5%%)",
      loss, step, limit, in_row_, *above_since_, calm_.size());
}

}  // namespace leap::machine
