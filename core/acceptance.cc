#include "core/acceptance.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/check.h"
#include "core/statistics.h"

namespace leap {
namespace {

bool AllFinite(std::span<const float> losses) {
  return std::ranges::all_of(losses, [](float loss) { return std::isfinite(loss); });
}

double Mean(std::span<const float> losses) {
  const std::vector<double> values(losses.begin(), losses.end());
  return MeanOf(values).mean;
}

// Losses, difference and error; no judgement yet.
Verdict Measure(const AcceptanceInputs& in) {
  std::vector<double> differences(in.candidate_losses.size());
  for (size_t i = 0; i < differences.size(); ++i) {
    differences[i] = static_cast<double>(in.candidate_losses[i]) - in.baseline_losses[i];
  }
  const MeanAndError paired = MeanOf(differences);
  return {.loss = Mean(in.candidate_losses),
          .baseline_loss = Mean(in.baseline_losses),
          .difference = paired.mean,
          .standard_error = paired.standard_error};
}

void Decide(Verdict& verdict, bool accepted, VerdictReason otherwise, const std::string& rule) {
  verdict.accepted = accepted;
  verdict.reason = accepted ? VerdictReason::kAccepted : otherwise;
  verdict.sentence = absl::StrFormat("gate loss %.6f against %.6f: %s; %s by %.6f", verdict.loss,
                                     verdict.baseline_loss, rule, accepted ? "inside" : "outside",
                                     std::fabs(verdict.margin));
}

// L̂ < L_t (Leap+Verify section 4).
void JudgeStrict(Verdict& verdict) {
  verdict.margin = verdict.baseline_loss - verdict.loss;
  Decide(verdict, verdict.loss < verdict.baseline_loss, VerdictReason::kNotBetter,
         "strict asks for less");
}

// L̂ < L_t + σ, σ over the last `window` baseline losses before this one (section 4).
void JudgeAdaptive(const CriterionSpec& criterion, const AcceptanceInputs& in, Verdict& verdict) {
  std::vector<double> recent;
  for (const double loss : in.baseline_history) {
    if (std::isfinite(loss)) recent.push_back(loss);
  }
  const size_t window = static_cast<size_t>(std::max<int64_t>(criterion.window, 0));
  if (recent.size() > window)
    recent.erase(recent.begin(), recent.end() - static_cast<std::ptrdiff_t>(window));
  if (recent.size() < 2) {
    verdict.reason = VerdictReason::kNoHistory;
    verdict.sentence =
        "adaptive takes a deviation from at least two earlier gate losses, and there are fewer";
    return;
  }
  const double sigma = MeanOf(recent).deviation;
  verdict.margin = verdict.baseline_loss + sigma - verdict.loss;
  Decide(verdict, verdict.loss < verdict.baseline_loss + sigma, VerdictReason::kOutsideBand,
         absl::StrFormat("adaptive allows less than one deviation (%.6f) more", sigma));
}

// |L̂ - L_t| < ε·L_t (section 4): two-sided, as published.
void JudgeProximity(const CriterionSpec& criterion, Verdict& verdict) {
  const double band = criterion.bound * verdict.baseline_loss;
  const double distance = std::fabs(verdict.loss - verdict.baseline_loss);
  verdict.margin = band - distance;
  Decide(
      verdict, distance < band, VerdictReason::kOutsideBand,
      absl::StrFormat("proximity asks to stay within %.3g%% (%.6f)", 100 * criterion.bound, band));
}

// Mean of L̂_i - L_i below zero by z standard errors, z corrected for the candidates tried (ours).
void JudgePaired(const CriterionSpec& criterion, const AcceptanceInputs& in, Verdict& verdict) {
  if (in.candidate_losses.size() < 2) {
    verdict.reason = VerdictReason::kNotSignificant;
    verdict.sentence = "paired needs at least two gate sequences to take an error from";
    return;
  }
  const double z = CorrectedZ(criterion.z, in.candidates_tried);
  verdict.margin = -verdict.difference - z * verdict.standard_error;
  Decide(verdict, verdict.margin > 0, VerdictReason::kNotSignificant,
         absl::StrFormat("paired asks for a fall of %.3g standard errors of %.6f (%d tried)", z,
                         verdict.standard_error, in.candidates_tried));
}

// Finite, and the mean of L̂_i - L_i not above bound·L_t (policies.md section 4.1).
void JudgeGuard(const CriterionSpec& criterion, Verdict& verdict) {
  const double bound = criterion.bound * verdict.baseline_loss;
  verdict.margin = bound - verdict.difference;
  Decide(verdict, verdict.difference <= bound, VerdictReason::kWorseThanBound,
         absl::StrFormat("guard allows %.3g%% (%.6f) more", 100 * criterion.bound, bound));
}

// P(Z > x) of the standard normal distribution.
double UpperTail(double x) { return 0.5 * std::erfc(x / std::sqrt(2.0)); }

}  // namespace

const char* VerdictReasonName(VerdictReason reason) {
  switch (reason) {
    case VerdictReason::kAccepted:
      return "accepted";
    case VerdictReason::kNotBetter:
      return "not-better";
    case VerdictReason::kOutsideBand:
      return "outside-band";
    case VerdictReason::kNotSignificant:
      return "not-significant";
    case VerdictReason::kWorseThanBound:
      return "worse-than-bound";
    case VerdictReason::kNotFinite:
      return "not-finite";
    case VerdictReason::kNoHistory:
      return "no-history";
    case VerdictReason::kRegime:
      return "regime";
    case VerdictReason::kWarmup:
      return "warmup";
    case VerdictReason::kHorizonTooShort:
      return "horizon-too-short";
    case VerdictReason::kSuperseded:
      return "superseded";
    case VerdictReason::kDryRun:
      return "dry-run";
    case VerdictReason::kPolicyOff:
      return "policy-off";
  }
  return "unknown";
}

Verdict Judge(const CriterionSpec& criterion, const AcceptanceInputs& in) {
  Check(in.candidate_losses.size() == in.baseline_losses.size(),
        "Judge: losses of different gate sets");
  Verdict verdict = Measure(in);
  if (in.candidate_losses.empty() || !AllFinite(in.candidate_losses) ||
      !AllFinite(in.baseline_losses)) {
    verdict.reason = VerdictReason::kNotFinite;
    verdict.sentence = in.candidate_losses.empty()      ? "no gate losses to judge by"
                       : AllFinite(in.candidate_losses) ? "the baseline's gate loss is not finite"
                                                        : "the candidate's gate loss is not finite";
    return verdict;
  }
  if (criterion.name == "strict") {
    JudgeStrict(verdict);
  } else if (criterion.name == "adaptive") {
    JudgeAdaptive(criterion, in, verdict);
  } else if (criterion.name == "proximity") {
    JudgeProximity(criterion, verdict);
  } else if (criterion.name == "paired") {
    JudgePaired(criterion, in, verdict);
  } else {
    Check(criterion.name == "guard", "CriterionSpec.name was not validated");
    JudgeGuard(criterion, verdict);
  }
  return verdict;
}

double CorrectedZ(double z, int candidates) {
  if (candidates <= 1) return z;
  const double level = UpperTail(z);
  const double corrected = -std::expm1(std::log1p(-level) / candidates);
  if (!(corrected > 0)) return z;  // z beyond 38: both levels underflow
  double low = z, high = std::fabs(z) + 40;
  for (int i = 0; i < 100;
       ++i) {  // the tail falls monotonically: halve until the interval is one double wide
    const double middle = 0.5 * (low + high);
    (UpperTail(middle) > corrected ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

}  // namespace leap
