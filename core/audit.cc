#include "core/audit.h"

#include <cmath>

#include "absl/strings/str_format.h"
#include "core/statistics.h"

namespace leap {
namespace {

constexpr int kFewestAudits = 3;

AuditVerdict VerdictOf(const AuditSummary& summary, double z) {
  if (summary.audits < kFewestAudits) return AuditVerdict::kTooFew;
  const double bar = z * summary.standard_error;
  if (summary.mean_gain > bar) return AuditVerdict::kHelps;
  if (summary.mean_gain < -bar) return AuditVerdict::kHarms;
  return AuditVerdict::kNotSignificant;
}

const char* Conclusion(AuditVerdict verdict) {
  switch (verdict) {
    case AuditVerdict::kTooFew:
      return "too few to tell";
    case AuditVerdict::kHelps:
      return "leaps help";
    case AuditVerdict::kNotSignificant:
      return "no significant effect";
    case AuditVerdict::kHarms:
      return "leaps do harm";
  }
  return "?";
}

}  // namespace

const char* AuditVerdictName(AuditVerdict verdict) {
  switch (verdict) {
    case AuditVerdict::kTooFew:
      return "too-few";
    case AuditVerdict::kHelps:
      return "helps";
    case AuditVerdict::kNotSignificant:
      return "not-significant";
    case AuditVerdict::kHarms:
      return "harms";
  }
  return "unknown";
}

AuditSummary SummarizeAudits(const std::vector<double>& gains, double z) {
  std::vector<double> finite;
  for (const double gain : gains) {
    if (std::isfinite(gain)) finite.push_back(gain);
  }
  AuditSummary summary{.audits = static_cast<int>(finite.size())};
  if (finite.empty()) {
    summary.sentence = "no audit yet";
    return summary;
  }
  const MeanAndError gain = MeanOf(finite);
  summary.mean_gain = gain.mean;
  summary.standard_error = gain.standard_error;
  summary.verdict = VerdictOf(summary, z);
  summary.sentence = absl::StrFormat(
      "%s: retained gain %+.5f nats, standard error %.5f, %d audits (z %.3g)",
      Conclusion(summary.verdict), gain.mean, gain.standard_error, summary.audits, z);
  return summary;
}

}  // namespace leap
