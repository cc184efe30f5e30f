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
  bool confirmed = false;            // the same regime twice in a row
  double tau_low = 0, tau_high = 0;  // the thresholds in force
  std::string reason;                // a sentence
};

class RegimeTracker {
 public:
  explicit RegimeTracker(const RegimeSpec& spec);
  // `similarity` must be of consecutive snapshots; NaN: no predecessor (unknown). Steps must rise;
  // a step at or below the last one returns the last reading unchanged.
  RegimeReading Observe(int64_t step, double similarity);
  const RegimeReading& current() const { return current_; }

 private:
  RegimeSpec spec_;
  std::deque<double> history_;
  RegimeReading current_;
};

// Cosine similarity of two fingerprints: the mean over probes of the per-probe cosine is
// `kPerProbe` (the code's form), one cosine over the concatenation is `kConcatenated` (the paper's;
// ours). Double accumulation in order.
double CosineSimilarity(std::span<const float> a, std::span<const float> b);

}  // namespace leap
