// The retained-gain audit: did leaps help after all? A verifier goes on from θ_t WITHOUT the leap
// for 2Δ steps on the data the main run saw; retained gain = gate loss of that fork minus gate loss
// of the main run at the same step (nats; above zero: the leap helped). policies.md sections 2
// and 4.5.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace leap {

enum class AuditVerdict { kTooFew, kHelps, kNotSignificant, kHarms };
const char* AuditVerdictName(AuditVerdict verdict);

struct AuditSummary {
  AuditVerdict verdict = AuditVerdict::kTooFew;
  int audits = 0;
  double mean_gain = 0;  // nats
  double standard_error = 0;
  std::string sentence;
};

// `gains` in order; `z` the significance at which a policy is switched off (kHarms) or credited
// (kHelps). Fewer than three audits: kTooFew. Gains that are not finite are left out of the count:
// a run or fork that diverged is for the failure rules to deal with.
AuditSummary SummarizeAudits(const std::vector<double>& gains, double z);

}  // namespace leap
