#include "core/audit.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

TEST(AuditTest, FewerThanThreeAuditsSayNothing) {
  EXPECT_EQ(SummarizeAudits({}, 2).verdict, AuditVerdict::kTooFew);
  EXPECT_EQ(SummarizeAudits({}, 2).sentence, "no audit yet");
  EXPECT_EQ(SummarizeAudits({-5, -5}, 2).verdict, AuditVerdict::kTooFew);
  EXPECT_EQ(SummarizeAudits({-5, -5}, 2).mean_gain, -5);
}

TEST(AuditTest, AMeanSignificantlyBelowZeroMeansHarm) {  // policies.md section 4.5
  // Mean -0.02, deviation 0.01, error 0.01/√3 = 0.00577: 3.46 errors.
  const AuditSummary summary = SummarizeAudits({-0.01, -0.02, -0.03}, 2);
  EXPECT_EQ(summary.verdict, AuditVerdict::kHarms);
  EXPECT_EQ(summary.audits, 3);
  EXPECT_DOUBLE_EQ(summary.mean_gain, -0.02);
  EXPECT_NEAR(summary.standard_error, 0.01 / std::sqrt(3.0), 1e-12);
  EXPECT_THAT(summary.sentence, HasSubstr("leaps do harm: retained gain -0.02000 nats"));
}

TEST(AuditTest, AMeanSignificantlyAboveZeroMeansHelp) {
  EXPECT_EQ(SummarizeAudits({0.01, 0.02, 0.03}, 2).verdict, AuditVerdict::kHelps);
}

TEST(AuditTest, AMeanNotSignificantlyAboveZeroIsReportedAsSuch) {
  EXPECT_EQ(SummarizeAudits({0.01, 0.02, 0.03}, 4).verdict, AuditVerdict::kNotSignificant);
  EXPECT_EQ(SummarizeAudits({0.05, -0.04, 0.01}, 2).verdict, AuditVerdict::kNotSignificant);
  EXPECT_EQ(SummarizeAudits({0, 0, 0}, 2).verdict, AuditVerdict::kNotSignificant);
}

TEST(AuditTest, GainsThatAreNotFiniteAreLeftOut) {
  const double infinity = std::numeric_limits<double>::infinity();
  const AuditSummary summary = SummarizeAudits({0.01, infinity, 0.02, std::nan(""), 0.03}, 2);
  EXPECT_EQ(summary.audits, 3);
  EXPECT_EQ(summary.verdict, AuditVerdict::kHelps);
  EXPECT_EQ(SummarizeAudits({infinity}, 2).verdict, AuditVerdict::kTooFew);
}

TEST(AuditTest, NamesAreLabels) {
  EXPECT_STREQ(AuditVerdictName(AuditVerdict::kTooFew), "too-few");
  EXPECT_STREQ(AuditVerdictName(AuditVerdict::kHelps), "helps");
  EXPECT_STREQ(AuditVerdictName(AuditVerdict::kNotSignificant), "not-significant");
  EXPECT_STREQ(AuditVerdictName(AuditVerdict::kHarms), "harms");
}

}  // namespace
}  // namespace leap
