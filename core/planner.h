// The planner: which (predictor, K) candidates to try at a snapshot, most promising first, for the verifiers that are
// free: more spares, wider search. Pure; exploration is bounded and seeded, so a plan replays.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/acceptance.h"
#include "core/job_spec.h"
#include "core/regime.h"

namespace leap {

// One thing to try: index into LeapSpec::predictors, and K.
struct CandidateKey {
  int predictor = 0;
  int64_t horizon_steps = 0;
  auto operator<=>(const CandidateKey&) const = default;
};

struct Plan {
  std::vector<CandidateKey> candidates;  // in the order in which to try them; empty: none, see reason
  VerdictReason reason = VerdictReason::kAccepted;  // why none: kRegime, kWarmup, kPolicyOff
  std::string sentence;
};

struct PlanInputs {
  int64_t base_step = 0;
  int snapshots_held = 1;     // consecutive snapshots available, θ_t included
  RegimeReading regime;
  int verifiers_free = 1;
  bool policy_off = false;
  // For `replace`: candidates with K <= this many steps of expected verdict age are not worth trying.
  int64_t expected_verdict_age_steps = 0;
};

class Planner {
 public:
  Planner(const LeapSpec& spec, uint64_t seed);
  // At most max_candidates; at least one per free verifier and at most 4 per free verifier.
  Plan PlanFor(const PlanInputs& in) const;
  // Feedback: the verdict on a candidate tried in `regime` (decayed success rates per regime x predictor x K).
  void Record(Regime regime, CandidateKey candidate, const Verdict& verdict);

 private:
  struct Score {
    double tried = 0, accepted = 0;
  };
  LeapSpec spec_;
  uint64_t seed_;
  std::map<std::pair<int, CandidateKey>, Score> scores_;
};

}  // namespace leap
