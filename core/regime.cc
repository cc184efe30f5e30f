#include "core/regime.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "core/statistics.h"

namespace leap {
namespace {

// The reference code's percentiles (leap-verify.md section 2).
constexpr double kHighQuantile = 0.70;
constexpr double kLowQuantile = 0.30;

// percentile: how much of the run is remembered.
constexpr size_t kMaxHistory = 10'000;

// adaptive: no quantile is taken from fewer similarities.
constexpr size_t kFewestSimilarities = 4;

// adaptive: differences below one float32 ulp at 1 are rounding of the fingerprints, not a change
// of regime.
constexpr double kResolution = 1e-7;

struct Thresholds {
  double low = 0;
  double high = 0;
};

std::vector<double> SortedTail(const std::deque<double>& history, size_t count) {
  std::vector<double> tail(
      history.end() - static_cast<std::ptrdiff_t>(std::min(count, history.size())), history.end());
  std::ranges::sort(tail);
  return tail;
}

// The paper's rule: stable above, chaotic below, else transition.
Regime Classify(double similarity, Thresholds thresholds) {
  if (similarity > thresholds.high) return Regime::kStable;
  if (similarity < thresholds.low) return Regime::kChaotic;
  return Regime::kTransition;
}

// Rolling quantiles, moved away from the regime that holds: it is left later than it was entered.
Thresholds WithHysteresis(const std::vector<double>& sorted, double hysteresis, Regime held) {
  const double margin = std::clamp(hysteresis, 0.0, (kHighQuantile - kLowQuantile) / 2);
  const double high = kHighQuantile + (held == Regime::kStable ? -margin : margin);
  const double low = kLowQuantile + (held == Regime::kChaotic ? margin : -margin);
  return {.low = QuantileOfSorted(sorted, low) +
                 (held == Regime::kChaotic ? kResolution : -kResolution),
          .high = QuantileOfSorted(sorted, high) +
                  (held == Regime::kStable ? -kResolution : kResolution)};
}

std::string Sentence(const RegimeReading& reading, const std::string& thresholds) {
  const char* place = reading.regime == Regime::kStable    ? "above tau_high"
                      : reading.regime == Regime::kChaotic ? "below tau_low"
                                                           : "between the thresholds";
  return absl::StrFormat("similarity %.8f is %s (%s: tau_low %.8f, tau_high %.8f)",
                         reading.similarity, place, thresholds, reading.tau_low, reading.tau_high);
}

}  // namespace

const char* RegimeName(Regime regime) {
  switch (regime) {
    case Regime::kUnknown:
      return "unknown";
    case Regime::kChaotic:
      return "chaotic";
    case Regime::kTransition:
      return "transition";
    case Regime::kStable:
      return "stable";
  }
  return "unknown";
}

RegimeTracker::RegimeTracker(const RegimeSpec& spec) : spec_(spec) {
  current_.step = -1;  // before any step
  current_.similarity = std::numeric_limits<double>::quiet_NaN();
  current_.reason = "no snapshot yet";
}

RegimeReading RegimeTracker::Observe(int64_t step, double similarity) {
  if (step <= current_.step) return current_;
  RegimeReading reading{.step = step, .similarity = similarity};
  if (!std::isfinite(similarity)) {
    reading.similarity = std::numeric_limits<double>::quiet_NaN();
    reading.reason = "no earlier snapshot to compare with";
    return current_ = reading;
  }
  history_.push_back(similarity);
  if (history_.size() > kMaxHistory) history_.pop_front();

  Thresholds thresholds{.low = spec_.tau_low, .high = spec_.tau_high};
  if (spec_.thresholds == "percentile") {
    const std::vector<double> sorted = SortedTail(history_, kMaxHistory);
    thresholds = {.low = QuantileOfSorted(sorted, kLowQuantile),
                  .high = QuantileOfSorted(sorted, kHighQuantile)};
  } else if (spec_.thresholds == "adaptive") {
    const size_t window = static_cast<size_t>(std::max<int64_t>(spec_.window, 1));
    const size_t fewest = std::min(window, kFewestSimilarities);
    if (history_.size() < fewest) {
      reading.reason =
          absl::StrFormat("calibrating: %d of %d similarities", history_.size(), fewest);
      return current_ = reading;
    }
    thresholds = WithHysteresis(SortedTail(history_, window), spec_.hysteresis, current_.regime);
  } else {
    Check(spec_.thresholds == "fixed", "RegimeSpec.thresholds was not validated");
  }
  reading.tau_low = thresholds.low;
  reading.tau_high = thresholds.high;
  reading.regime = Classify(similarity, thresholds);
  reading.confirmed = reading.regime == current_.regime;
  reading.reason = Sentence(reading, spec_.thresholds);
  return current_ = reading;
}

double CosineSimilarity(std::span<const float> a, std::span<const float> b) {
  Check(a.size() == b.size(), "CosineSimilarity: fingerprints of different length");
  double dot = 0, a_squares = 0, b_squares = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    dot += static_cast<double>(a[i]) * b[i];
    a_squares += static_cast<double>(a[i]) * a[i];
    b_squares += static_cast<double>(b[i]) * b[i];
  }
  return std::clamp(dot / std::sqrt(a_squares * b_squares), -1.0,
                    1.0);  // 0/0: NaN, which clamp passes on
}

}  // namespace leap
