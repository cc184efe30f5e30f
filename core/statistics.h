// The few statistics that decisions rest on. Sums run in order, in double, so that a decision
// replays.
#pragma once

#include <span>
#include <vector>

namespace leap {

struct MeanAndError {
  double mean = 0;
  double deviation = 0;       // sample standard deviation (n - 1); 0 for fewer than two values
  double standard_error = 0;  // of the mean: deviation / √n
};

// NaN mean for no values.
MeanAndError MeanOf(std::span<const double> values);

// The q-quantile (0 ≤ q ≤ 1, clamped) of values sorted ascending, at least one: linear between
// order statistics (Hyndman & Fan's type 7, numpy's default).
double QuantileOfSorted(std::span<const double> sorted, double q);

}  // namespace leap
