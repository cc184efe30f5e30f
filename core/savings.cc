#include "core/savings.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace leap {
namespace {

constexpr size_t kFewestPoints = 3;  // two points have no residual: their slope is mostly noise

// Least-squares slope of loss over step, in nats a step.
double SlopeOf(std::span<const LossPoint> points) {
  const double count = static_cast<double>(points.size());
  double step_mean = 0, loss_mean = 0;
  for (const LossPoint& point : points) {
    step_mean += static_cast<double>(point.step) / count;
    loss_mean += point.loss / count;
  }
  double covariance = 0, variance = 0;
  for (const LossPoint& point : points) {
    const double along = static_cast<double>(point.step) - step_mean;
    covariance += along * (point.loss - loss_mean);
    variance += along * along;
  }
  return covariance / variance;  // NaN if all steps are the same
}

}  // namespace

std::optional<double> EquivalentSteps(const std::vector<LossPoint>& curve, int64_t step,
                                      double gain, int window) {
  const auto last =
      std::ranges::find_if(curve, [&](const LossPoint& point) { return point.step > step; });
  const size_t known = static_cast<size_t>(last - curve.begin());
  const size_t used = std::min(known, static_cast<size_t>(std::max(window, 0)));
  if (used < kFewestPoints) return std::nullopt;
  const double slope = SlopeOf(std::span(curve).subspan(known - used, used));
  const double steps = gain / -slope;
  if (!(slope < 0) || !std::isfinite(steps)) return std::nullopt;
  return steps;
}

}  // namespace leap
