#include "core/savings.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace leap {
namespace {

constexpr size_t kFewestPoints = 3;    // two points have no residual: their slope is mostly noise
constexpr double kClearlyFalling = 2;  // standard errors; nearer to zero, a quotient means nothing

struct Slope {
  double value = 0;           // nats a step
  double standard_error = 0;  // from the points' distances to the line
};

// The least-squares line of loss over step.
Slope SlopeOf(std::span<const LossPoint> points) {
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
  const double slope = covariance / variance;  // NaN if all steps are the same
  double squares = 0;
  for (const LossPoint& point : points) {
    const double along = static_cast<double>(point.step) - step_mean;
    const double off = point.loss - loss_mean - slope * along;
    squares += off * off;
  }
  return {.value = slope, .standard_error = std::sqrt(squares / (count - 2) / variance)};
}

}  // namespace

std::optional<double> EquivalentSteps(const std::vector<LossPoint>& curve, int64_t step,
                                      double gain, int window) {
  const auto last =
      std::ranges::find_if(curve, [&](const LossPoint& point) { return point.step > step; });
  const size_t known = static_cast<size_t>(last - curve.begin());
  const size_t used = std::min(known, static_cast<size_t>(std::max(window, 0)));
  if (used < kFewestPoints) return std::nullopt;
  const Slope slope = SlopeOf(std::span(curve).subspan(known - used, used));
  const double steps = gain / -slope.value;
  const bool falls = slope.value < 0 && slope.value < -kClearlyFalling * slope.standard_error;
  if (!falls || !std::isfinite(steps)) return std::nullopt;
  return steps;
}

}  // namespace leap
