// Criteria of Leap+Verify section 4 and of policies.md; in names, L̂ is the candidate's loss.
#include "core/acceptance.h"

#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

CriterionSpec Criterion(const std::string& name, double bound = 0.05, double z = 2) {
  CriterionSpec criterion;
  criterion.name = name;
  criterion.bound = bound;
  criterion.z = z;
  return criterion;
}

struct Losses {
  std::vector<float> candidate, baseline;
  std::vector<double> history;
  int tried = 1;
};

Verdict JudgeOf(const CriterionSpec& criterion, const Losses& losses) {
  return Judge(criterion, {.candidate_losses = losses.candidate,
                           .baseline_losses = losses.baseline,
                           .baseline_history = losses.history,
                           .candidates_tried = losses.tried});
}

TEST(AcceptanceTest, EveryVerdictCarriesTheMeasuredNumbers) {
  const Losses losses{.candidate = {1, 2, 3}, .baseline = {2, 2, 5}};
  for (const std::string name : {"strict", "adaptive", "proximity", "paired", "guard"}) {
    const Verdict verdict = JudgeOf(Criterion(name), losses);
    EXPECT_EQ(verdict.loss, 2);
    EXPECT_EQ(verdict.baseline_loss, 3);
    EXPECT_EQ(verdict.difference, -1);                             // of -1, 0, -2
    EXPECT_DOUBLE_EQ(verdict.standard_error, std::sqrt(1.0 / 3));  // deviation 1
    EXPECT_EQ(verdict.accepted, verdict.reason == VerdictReason::kAccepted) << name;
    EXPECT_FALSE(verdict.sentence.empty());
  }
}

TEST(AcceptanceTest, StrictAsksForLessThanTheCurrentLoss) {  // section 4
  const Verdict better = JudgeOf(Criterion("strict"), {.candidate = {1, 2}, .baseline = {2, 2}});
  EXPECT_TRUE(better.accepted);
  EXPECT_EQ(better.margin, 0.5);
  EXPECT_EQ(better.sentence,
            "gate loss 1.500000 against 2.000000: strict asks for less; inside by 0.500000");
  const Verdict equal = JudgeOf(Criterion("strict"), {.candidate = {2, 2}, .baseline = {2, 2}});
  EXPECT_FALSE(equal.accepted);
  EXPECT_EQ(equal.reason, VerdictReason::kNotBetter);
  EXPECT_EQ(equal.margin, 0);
}

TEST(AcceptanceTest, AdaptiveAllowsOneDeviationOfTheRecentLosses) {  // section 4
  // Deviation of 3, 4, 5 is 1.
  const std::vector<double> history = {3, 4, 5};
  EXPECT_TRUE(JudgeOf(Criterion("adaptive"), {{3.75f}, {3}, history}).accepted);
  const Verdict at_edge = JudgeOf(Criterion("adaptive"), {{4}, {3}, history});
  EXPECT_FALSE(at_edge.accepted);
  EXPECT_EQ(at_edge.reason, VerdictReason::kOutsideBand);
  EXPECT_EQ(JudgeOf(Criterion("adaptive"), {{5}, {3}, history}).margin, -1);
}

TEST(AcceptanceTest, AdaptiveLooksBackNoFurtherThanItsWindow) {
  CriterionSpec criterion = Criterion("adaptive");
  criterion.window = 3;
  EXPECT_FALSE(JudgeOf(criterion, {{4.5f}, {3}, {100, 3, 4, 5}}).accepted);
  criterion.window = 4;
  EXPECT_TRUE(JudgeOf(criterion, {{4.5f}, {3}, {100, 3, 4, 5}}).accepted);
}

TEST(AcceptanceTest, AdaptiveWithoutHistoryAcceptsNothing) {
  for (const std::vector<double>& history : {std::vector<double>{}, {3.0}, {3.0, NAN}}) {
    const Verdict verdict = JudgeOf(Criterion("adaptive"), {{1}, {3}, history});
    EXPECT_FALSE(verdict.accepted);
    EXPECT_EQ(verdict.reason, VerdictReason::kNoHistory);
  }
}

TEST(AcceptanceTest, ProximityAsksToStayWithinAShareOfTheCurrentLossOnBothSides) {  // section 4
  const CriterionSpec quarter = Criterion("proximity", 0.25);
  EXPECT_TRUE(JudgeOf(quarter, {{4.5f}, {4}}).accepted);
  EXPECT_TRUE(JudgeOf(quarter, {{3.5f}, {4}}).accepted);
  EXPECT_FALSE(JudgeOf(quarter, {{5}, {4}}).accepted);  // at the edge
  EXPECT_FALSE(JudgeOf(quarter, {{2}, {4}}).accepted);  // as published: too good is outside
  EXPECT_EQ(JudgeOf(quarter, {{2}, {4}}).reason, VerdictReason::kOutsideBand);
  EXPECT_EQ(JudgeOf(quarter, {{4.5f}, {4}}).margin, 0.5);
}

TEST(AcceptanceTest, PairedAsksForAFallOfZStandardErrors) {
  // Differences -1, 0, -2: mean -1, error 0.577: 1.73 errors below zero.
  const Losses losses{.candidate = {1, 2, 3}, .baseline = {2, 2, 5}};
  EXPECT_TRUE(JudgeOf(Criterion("paired", 0, 1.7), losses).accepted);
  const Verdict refused = JudgeOf(Criterion("paired", 0, 1.8), losses);
  EXPECT_EQ(refused.reason, VerdictReason::kNotSignificant);
  EXPECT_NEAR(refused.margin, 1 - 1.8 * std::sqrt(1.0 / 3), 1e-12);
}

TEST(AcceptanceTest, PairedAsksForMoreTheMoreCandidatesWereTried) {
  Losses losses{.candidate = {1, 2, 3}, .baseline = {2, 2, 5}};
  losses.tried = 4;  // z 1.7 becomes 2.2
  EXPECT_FALSE(JudgeOf(Criterion("paired", 0, 1.7), losses).accepted);
}

TEST(AcceptanceTest, PairedSeesThroughTheSpreadOverSequences) {
  // Losses from 1 to 6, and each of them 0.01 lower: strict and paired agree, where an unpaired
  // error (0.8) would drown it.
  Losses losses;
  for (int i = 0; i < 64; ++i) {
    losses.baseline.push_back(1 + 0.08f * static_cast<float>(i));
    losses.candidate.push_back(losses.baseline.back() - (i % 2 == 0 ? 0.005f : 0.015f));
  }
  EXPECT_TRUE(JudgeOf(Criterion("paired"), losses).accepted);
}

TEST(AcceptanceTest, PairedNeedsTwoSequencesAndADifference) {
  EXPECT_EQ(JudgeOf(Criterion("paired"), {{1}, {2}}).reason, VerdictReason::kNotSignificant);
  EXPECT_FALSE(JudgeOf(Criterion("paired"), {{2, 2}, {2, 2}}).accepted);
  EXPECT_TRUE(JudgeOf(Criterion("paired"), {{1, 1}, {2, 2}}).accepted);  // no spread at all
}

// policies.md section 2: with 64 windows and z > 2 no false accepts to speak of (2.3 % nominal).
TEST(AcceptanceTest, PairedRarelyAcceptsNoise) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  int accepted = 0, accepted_of_eight = 0;
  for (int trial = 0; trial < 4000; ++trial) {
    Losses losses;
    for (int i = 0; i < 64; ++i) {
      losses.baseline.push_back(3 + 0.5f * normal(random));
      losses.candidate.push_back(losses.baseline.back() + 0.02f * normal(random));
    }
    accepted += JudgeOf(Criterion("paired"), losses).accepted ? 1 : 0;
    losses.tried = 8;
    accepted_of_eight += JudgeOf(Criterion("paired"), losses).accepted ? 1 : 0;
  }
  EXPECT_NEAR(accepted / 4000.0, 0.0228, 0.01);
  EXPECT_NEAR(accepted_of_eight / 4000.0, 0.0029, 0.003);
}

TEST(AcceptanceTest, GuardAllowsUpToItsBoundAndAnyImprovement) {  // policies.md section 4.1
  const CriterionSpec quarter = Criterion("guard", 0.25);
  EXPECT_TRUE(JudgeOf(quarter, {{5}, {4}}).accepted);  // at the bound
  EXPECT_TRUE(JudgeOf(quarter, {{0.5f}, {4}}).accepted);
  const Verdict worse = JudgeOf(quarter, {{5.5f}, {4}});
  EXPECT_EQ(worse.reason, VerdictReason::kWorseThanBound);
  EXPECT_EQ(worse.margin, -0.5);
  EXPECT_THAT(worse.sentence, HasSubstr("guard allows 25% (1.000000) more; outside by 0.500000"));
}

TEST(AcceptanceTest, LossesThatAreNotFiniteAreRefusedByEveryCriterion) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<Losses> bad = {{.candidate = {1, NAN}, .baseline = {2, 2}},
                                   {.candidate = {1, infinity}, .baseline = {2, 2}},
                                   {.candidate = {1, -infinity}, .baseline = {2, 2}},
                                   {.candidate = {1, 1}, .baseline = {NAN, 2}},
                                   {}};
  for (const std::string name : {"strict", "adaptive", "proximity", "paired", "guard"}) {
    for (Losses losses : bad) {
      losses.history = {1, 2, 3};
      const Verdict verdict = JudgeOf(Criterion(name), losses);
      EXPECT_FALSE(verdict.accepted);
      EXPECT_EQ(verdict.reason, VerdictReason::kNotFinite) << name;
      EXPECT_FALSE(verdict.sentence.empty());
    }
  }
}

// The rules once more, each in one line of plain arithmetic, on random losses.
bool NaiveAccepts(const std::string& name, double bound, double z, double candidate,
                  double baseline, double difference, double error, double sigma) {
  if (name == "strict") return candidate < baseline;
  if (name == "adaptive") return candidate < baseline + sigma;
  if (name == "proximity") return std::abs(candidate - baseline) < bound * baseline;
  if (name == "paired") return difference + z * error < 0;
  return difference <= bound * baseline;
}

TEST(AcceptanceTest, EveryCriterionAgreesWithItsNaiveTwin) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    Losses losses{.history = {3 + 0.1 * normal(random), 3 + 0.1 * normal(random)}};
    const float shift = 0.1f * normal(random);
    double candidate = 0, baseline = 0, difference = 0, squares = 0;
    const int count = 2 + static_cast<int>(random() % 20);
    for (int i = 0; i < count; ++i) {
      losses.baseline.push_back(3 + 0.3f * normal(random));
      losses.candidate.push_back(losses.baseline.back() + shift + 0.1f * normal(random));
      candidate += losses.candidate.back() / static_cast<double>(count);
      baseline += losses.baseline.back() / static_cast<double>(count);
      const double d = static_cast<double>(losses.candidate.back()) - losses.baseline.back();
      difference += d / count;
      squares += d * d;
    }
    const double variance = (squares - count * difference * difference) / (count - 1);
    const double error = std::sqrt(variance / count);
    const double sigma = std::abs(losses.history[0] - losses.history[1]) / std::sqrt(2.0);
    for (const std::string name : {"strict", "adaptive", "proximity", "paired", "guard"}) {
      EXPECT_EQ(JudgeOf(Criterion(name, 0.02), losses).accepted,
                NaiveAccepts(name, 0.02, 2, candidate, baseline, difference, error, sigma))
          << name << ", seed " << seed;
    }
  }
}

TEST(AcceptanceTest, SpansOfDifferentLengthAreOurBug) {
  EXPECT_DEATH(JudgeOf(Criterion("strict"), {{1, 2}, {1}}), "different gate sets");
  EXPECT_DEATH(JudgeOf(Criterion("lenient"), {{1}, {1}}), "not validated");
}

TEST(CorrectedZTest, ForOneCandidateIsZ) {
  EXPECT_EQ(CorrectedZ(2, 1), 2);
  EXPECT_EQ(CorrectedZ(2, 0), 2);
}

TEST(CorrectedZTest, KeepsTheErrorOfAllTriesTogether) {  // Šidák 1967
  for (const double z : {-0.5, 0.0, 1.0, 1.645, 2.0, 3.0, 6.0}) {
    for (const int tries : {2, 3, 8, 16, 100}) {
      const double each = 0.5 * std::erfc(CorrectedZ(z, tries) / std::sqrt(2.0));
      const double together = -std::expm1(tries * std::log1p(-each));
      const double level = 0.5 * std::erfc(z / std::sqrt(2.0));
      EXPECT_NEAR(together / level, 1, 1e-9) << z << ", " << tries << " tries";
    }
  }
}

TEST(CorrectedZTest, TableValues) {
  EXPECT_NEAR(CorrectedZ(1.6448536269514722, 10), 2.5679, 1e-4);  // 5 %: 0.5116 % each
  EXPECT_NEAR(CorrectedZ(2, 4), 2.5279, 1e-4);
}

TEST(CorrectedZTest, RisesWithTheTriesAndBearsExtremes) {
  double last = 2;
  for (int tries = 2; tries < 100; ++tries) {
    EXPECT_GT(CorrectedZ(2, tries), last);
    last = CorrectedZ(2, tries);
  }
  EXPECT_EQ(CorrectedZ(50, 10), 50);
}

TEST(VerdictReasonTest, NamesAreDistinctLabels) {
  std::set<std::string> names;
  for (int i = 0; i <= static_cast<int>(VerdictReason::kPolicyOff); ++i) {
    names.insert(VerdictReasonName(static_cast<VerdictReason>(i)));
  }
  EXPECT_EQ(names.size(), 13u);
  EXPECT_EQ(names.count("unknown"), 0u);
  EXPECT_EQ(names.count("horizon-too-short"), 1u);
}

}  // namespace
}  // namespace leap
