// Regimes: how predictable the trajectory is just now, from the similarity of consecutive
// fingerprints (Leap+Verify section 2: s_t = cosine of the fingerprints at t and t-Δ).
//
// Pure and deterministic: similarities in, regime and reason out. One tracker per job, owned by the
// job's machine.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>

#include "core/job_spec.h"

namespace leap {

enum class Regime { kUnknown, kChaotic, kTransition, kStable };
const char* RegimeName(Regime regime);  // "unknown" | "chaotic" | "transition" | "stable"

struct RegimeReading {
  int64_t step = 0;
  double similarity = 0;  // NaN for the first snapshot
  Regime regime = Regime::kUnknown;
  bool confirmed = false;            // the same regime twice in a row; never for unknown
  double tau_low = 0, tau_high = 0;  // the thresholds in force
  std::string reason;                // a sentence
};

// The paper's rule, stable above tau_high, chaotic below tau_low, else transition, with thresholds
// that are (RegimeSpec::thresholds)
// * fixed: tau_low and tau_high of the spec;
// * percentile: the 30th and 70th percentile of the run's similarities so far, this one included
//   (the reference code's, which took them of the whole run afterwards);
// * adaptive (ours): the same quantiles of the last `window` similarities, with hysteresis: a
//   regime is entered `hysteresis` beyond its quantile and left as much on this side of it, and
//   differences below 1e-7, the rounding of fp32 fingerprints, change nothing. So a constant
//   similarity keeps the regime it finds. Unknown until four similarities (or a full window, if
//   shorter) are there.
class RegimeTracker {
 public:
  explicit RegimeTracker(const RegimeSpec& spec);
  // `similarity` must be of consecutive snapshots; NaN: no predecessor (unknown). Steps must rise;
  // a step at or below the last one returns the last reading unchanged.
  RegimeReading Observe(int64_t step, double similarity);
  // The last reading; step -1 before the first.
  const RegimeReading& current() const { return current_; }

 private:
  RegimeSpec spec_;
  std::deque<double> history_;
  RegimeReading current_;
};

// Cosine of two fingerprints of the same length: one cosine over all probes, concatenated, as in
// the paper (its code takes the mean of the cosines of the probes). Double accumulation in order.
// NaN if a fingerprint is all zeros or not finite.
double CosineSimilarity(std::span<const float> a, std::span<const float> b);

}  // namespace leap
