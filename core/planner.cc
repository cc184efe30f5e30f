#include "core/planner.h"

#include <algorithm>
#include <cstddef>
#include <functional>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "core/mixing.h"

namespace leap {
namespace {

constexpr int64_t kMaxPerVerifier =
    4;                           // what one verifier can score before the next snapshot, as a rule
constexpr double kMemory = 0.9;  // weight of a candidate's past at each new verdict on it

struct Choice {
  CandidateKey key;
  double promise = 0;  // expected rate of acceptance
};

// What the verdict says about the candidate: 1 passed, 0 failed, nothing if it was not judged on
// its loss.
enum class Evidence { kNone, kFailed, kPassed };

Evidence EvidenceOf(const Verdict& verdict) {
  switch (verdict.reason) {
    case VerdictReason::kAccepted:
    case VerdictReason::kDryRun:
      return Evidence::kPassed;
    case VerdictReason::kNotBetter:
    case VerdictReason::kOutsideBand:
    case VerdictReason::kNotSignificant:
    case VerdictReason::kWorseThanBound:
    case VerdictReason::kNotFinite:
      return Evidence::kFailed;
    case VerdictReason::kNoHistory:
    case VerdictReason::kRegime:
    case VerdictReason::kWarmup:
    case VerdictReason::kHorizonTooShort:
    case VerdictReason::kSuperseded:
    case VerdictReason::kPolicyOff:
      return Evidence::kNone;
  }
  return Evidence::kNone;
}

Plan NoPlan(VerdictReason reason, std::string sentence) {
  return {.reason = reason, .sentence = std::move(sentence)};
}

// Takes `count` of `choices` (in the spec's order): the most promising first, but each place with
// probability `exploration` goes to any of those left.
std::vector<CandidateKey> Pick(std::vector<Choice> choices, size_t count, double exploration,
                               uint64_t key) {
  std::ranges::stable_sort(choices, std::ranges::greater(), &Choice::promise);
  std::vector<CandidateKey> picked;
  for (uint64_t place = 0; picked.size() < count && !choices.empty(); ++place) {
    size_t index = 0;
    if (ToUnit(Mix(key, place, 0)) < exploration) {
      index = static_cast<size_t>(Mix(key, place, 1) % choices.size());
    }
    picked.push_back(choices[index].key);
    choices.erase(choices.begin() + static_cast<std::ptrdiff_t>(index));
  }
  return picked;
}

}  // namespace

Planner::Planner(const LeapSpec& spec, uint64_t seed) : spec_(spec), seed_(seed) {
  for (const PredictorSpec& predictor : spec_.predictors) {
    const auto made = MakePredictor(predictor, spec_.interval_steps);
    Check(made.ok(), "LeapSpec.predictors was not validated");
    needs_.push_back((*made)->needs());
  }
}

Plan Planner::PlanFor(const PlanInputs& in) const {
  if (!spec_.enabled || spec_.predictors.empty())
    return NoPlan(VerdictReason::kPolicyOff, "leaps are off");
  if (in.policy_off)
    return NoPlan(VerdictReason::kPolicyOff, "the policy was switched off by its audits");
  if (in.base_step < spec_.warmup_steps) {
    return NoPlan(VerdictReason::kWarmup,
                  absl::StrFormat("step %d is before the end of warm-up, step %d", in.base_step,
                                  spec_.warmup_steps));
  }
  const std::string regime = RegimeName(in.regime.regime);
  if (std::ranges::find(spec_.regimes, regime) == spec_.regimes.end()) {
    return NoPlan(VerdictReason::kRegime,
                  absl::StrFormat("regime is %s; this policy leaps in: %s", regime,
                                  absl::StrJoin(spec_.regimes, ", ")));
  }
  bool too_short = false;
  const std::vector<CandidateKey> possible = Possible(in, too_short);
  if (possible.empty() && too_short) {
    return NoPlan(
        VerdictReason::kHorizonTooShort,
        absl::StrFormat(
            "no horizon is longer than the %d steps a verdict takes; replace would lose them",
            in.expected_verdict_age_steps));
  }
  if (possible.empty()) {
    return NoPlan(VerdictReason::kWarmup,
                  absl::StrFormat("%d snapshots held, every predictor of the policy needs more",
                                  in.snapshots_held));
  }
  std::vector<Choice> choices;
  for (const CandidateKey& key : possible)
    choices.push_back({.key = key, .promise = Promise(in.regime.regime, key)});
  const int64_t width =
      std::min<int64_t>(spec_.max_candidates, kMaxPerVerifier * int64_t{in.verifiers_free});
  Plan plan;
  plan.candidates = Pick(std::move(choices), static_cast<size_t>(std::max<int64_t>(width, 0)),
                         spec_.exploration, Mix(seed_, static_cast<uint64_t>(in.base_step)));
  plan.sentence =
      absl::StrFormat("%d of %d candidates for %d free verifiers, regime %s",
                      plan.candidates.size(), possible.size(), in.verifiers_free, regime);
  return plan;
}

std::vector<CandidateKey> Planner::Possible(const PlanInputs& in, bool& too_short) const {
  std::vector<CandidateKey> possible;
  for (size_t i = 0; i < spec_.predictors.size(); ++i) {
    if (needs_[i].snapshots > in.snapshots_held) continue;
    std::vector<int64_t> horizons = spec_.predictors[i].horizons_steps;
    if (!needs_[i].horizon) horizons = {0};
    for (const int64_t steps : horizons) {
      if (spec_.commit_rule == CommitRule::kReplace && steps <= in.expected_verdict_age_steps) {
        too_short = true;
        continue;
      }
      possible.push_back({.predictor = static_cast<int>(i), .horizon_steps = steps});
    }
  }
  return possible;
}

double Planner::Promise(Regime regime, CandidateKey candidate) const {
  const auto found = scores_.find({static_cast<int>(regime), candidate});
  const Score score = found == scores_.end() ? Score{} : found->second;
  return (score.accepted + 1) / (score.tried + 2);
}

void Planner::Record(Regime regime, CandidateKey candidate, const Verdict& verdict) {
  const Evidence evidence = EvidenceOf(verdict);
  if (evidence == Evidence::kNone) return;
  Score& score = scores_[{static_cast<int>(regime), candidate}];
  score.tried = kMemory * score.tried + 1;
  score.accepted = kMemory * score.accepted + (evidence == Evidence::kPassed ? 1 : 0);
}

}  // namespace leap
