// Acceptance: does a candidate pass? A pure function of held-out losses on the gate set
// (Leap+Verify section 4, and policies.md). A rejection is an ordinary value with a reason, never
// an error.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/job_spec.h"

namespace leap {

// Reasons have a fixed vocabulary (they are metric labels); the sentence carries the numbers.
enum class VerdictReason {
  kAccepted,
  kNotBetter,        // strict: L̂ >= L_t
  kOutsideBand,      // adaptive, proximity
  kNotSignificant,   // paired
  kWorseThanBound,   // guard
  kNotFinite,        // NaN or infinite loss
  kNoHistory,        // adaptive: fewer than two losses to take a deviation from
  kRegime,           // regime in which the policy does not leap
  kWarmup,           // base step before leap.warmup_steps
  kHorizonTooShort,  // replace: K <= δ
  kSuperseded,       // another candidate of the snapshot was better, or the verdict came too late
  kDryRun,           // leap.commit: false
  kPolicyOff,        // switched off by the retained-gain audit
};
const char* VerdictReasonName(VerdictReason reason);  // "accepted", "not-better", ...

struct Verdict {
  bool accepted = false;
  VerdictReason reason = VerdictReason::kNotBetter;
  double loss = 0;            // L̂, mean over the gate set
  double baseline_loss = 0;   // L_t
  double difference = 0;      // mean of the paired differences L̂_i - L_i; below zero is better
  double standard_error = 0;  // of that mean
  double margin = 0;     // how far inside (positive) or outside (negative) the criterion, in nats
  std::string sentence;  // for people: numbers and criterion
};

struct AcceptanceInputs {
  std::span<const float> candidate_losses;  // per gate sequence, same order as the baseline's
  std::span<const float> baseline_losses;
  std::span<const double>
      baseline_history;      // mean baseline losses of earlier snapshots, oldest first
  int candidates_tried = 1;  // at this snapshot, for the correction of z (paired)
};

// Judges by `criterion`, which was validated. Every loss must be finite (kNotFinite), and then
// * strict: L̂ < L_t;
// * adaptive: L̂ < L_t + σ, σ the sample standard deviation of the last `window` losses in
//   baseline_history, at least two (kNoHistory);
// * proximity: |L̂ - L_t| < bound·L_t, two-sided as in the paper;
// * paired: mean(L̂_i - L_i) + z'·SE < 0, z' = CorrectedZ(z, candidates_tried); at least two losses;
// * guard: mean(L̂_i - L_i) <= bound·L_t.
// Spans of different length are our own bug (Check).
Verdict Judge(const CriterionSpec& criterion, const AcceptanceInputs& in);

// z for a one-sided test at the level of `z`, Šidák-corrected for `candidates` tries (Šidák 1967):
// n independent tries at level 1 - (1 - a)^(1/n) err together at level a.
double CorrectedZ(double z, int candidates);

}  // namespace leap
