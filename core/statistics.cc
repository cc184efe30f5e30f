#include "core/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "base/check.h"

namespace leap {

MeanAndError MeanOf(std::span<const double> values) {
  if (values.empty()) return {.mean = std::numeric_limits<double>::quiet_NaN()};
  const double count = static_cast<double>(values.size());
  double sum = 0;
  for (const double value : values) sum += value;
  MeanAndError result{.mean = sum / count};
  if (values.size() < 2) return result;
  double squares = 0;
  for (const double value : values) squares += (value - result.mean) * (value - result.mean);
  result.deviation = std::sqrt(squares / (count - 1));
  result.standard_error = result.deviation / std::sqrt(count);
  return result;
}

double QuantileOfSorted(std::span<const double> sorted, double q) {
  Check(!sorted.empty(), "QuantileOfSorted: no values");
  const double position = std::clamp(q, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double share = position - static_cast<double>(below);
  return sorted[below] + share * (sorted[above] - sorted[below]);
}

}  // namespace leap
