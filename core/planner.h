// The planner: which (predictor, K) candidates to try at a snapshot, most promising first, for the
// verifiers that are free: more spares, wider search. Pure; exploration is bounded and seeded, so a
// plan replays.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/acceptance.h"
#include "core/job_spec.h"
#include "core/predictor.h"
#include "core/regime.h"

namespace leap {

// One thing to try: index into LeapSpec::predictors, and K.
struct CandidateKey {
  int predictor = 0;
  int64_t horizon_steps = 0;
  auto operator<=>(const CandidateKey&) const = default;
};

struct Plan {
  std::vector<CandidateKey> candidates;  // in the order in which to try them; empty: see reason
  // Why none: kRegime, kWarmup (also: too few snapshots held), kPolicyOff, kHorizonTooShort;
  // kAccepted: nothing stands against leaping, but no verifier is free.
  VerdictReason reason = VerdictReason::kAccepted;
  std::string sentence;
};

struct PlanInputs {
  int64_t base_step = 0;
  int snapshots_held = 1;  // consecutive snapshots available, θ_t included
  RegimeReading regime;
  int verifiers_free = 1;
  bool policy_off = false;
  // For `replace`: candidates with K <= this many steps of expected verdict age are not worth
  // trying.
  int64_t expected_verdict_age_steps = 0;
};

class Planner {
 public:
  // `spec` as validated: a predictor that cannot be made is our own bug (Check).
  Planner(const LeapSpec& spec, uint64_t seed);
  // As many of the possible candidates as max_candidates and 4 per free verifier allow. Order: by
  // the expected rate of acceptance, (accepted + 1) / (tried + 2) over decayed counts, ties in the
  // spec's order; each place goes with probability `exploration` to any of those left, by a draw
  // that depends on (seed, base step, place) alone.
  Plan PlanFor(const PlanInputs& in) const;

  // Feedback: the verdict on a candidate tried in `regime` (decayed success rates per regime x
  // predictor x K: earlier verdicts weigh 0.9 of what they did). A dry run counts as passed;
  // reasons that do not judge the loss do not count.
  void Record(Regime regime, CandidateKey candidate, const Verdict& verdict);

 private:
  struct Score {
    double tried = 0, accepted = 0;
  };
  std::vector<CandidateKey> Possible(const PlanInputs& in, bool& too_short) const;
  double Promise(Regime regime, CandidateKey candidate) const;

  LeapSpec spec_;
  uint64_t seed_;
  std::vector<PredictorNeeds> needs_;  // of spec_.predictors, in order
  std::map<std::pair<int, CandidateKey>, Score> scores_;
};

}  // namespace leap
