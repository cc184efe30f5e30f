// Named after the sentences of Leap+Verify section 2 that they check.
#include "core/regime.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/mixing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const double kNoPredecessor = std::numeric_limits<double>::quiet_NaN();

RegimeSpec Spec(const std::string& thresholds) {
  RegimeSpec spec;
  spec.thresholds = thresholds;
  return spec;
}

std::vector<RegimeReading> Readings(const RegimeSpec& spec,
                                    const std::vector<double>& similarities) {
  RegimeTracker tracker(spec);
  std::vector<RegimeReading> readings;
  for (size_t i = 0; i < similarities.size(); ++i) {
    readings.push_back(tracker.Observe(50 * static_cast<int64_t>(i + 1), similarities[i]));
  }
  return readings;
}

std::vector<Regime> Regimes(const RegimeSpec& spec, const std::vector<double>& similarities) {
  std::vector<Regime> regimes;
  for (const RegimeReading& reading : Readings(spec, similarities))
    regimes.push_back(reading.regime);
  return regimes;
}

int Changes(const std::vector<Regime>& regimes) {
  int changes = 0;
  for (size_t i = 1; i < regimes.size(); ++i) changes += regimes[i] != regimes[i - 1] ? 1 : 0;
  return changes;
}

TEST(RegimeTest, StableAboveTauHighChaoticBelowTauLowElseTransition) {
  EXPECT_THAT(Regimes(Spec("fixed"), {0.9995, 0.995, 0.998, 0.99948918, 0.9962696}),
              ElementsAre(Regime::kStable, Regime::kChaotic, Regime::kTransition,
                          Regime::kTransition, Regime::kTransition));  // strictly above, below
}

TEST(RegimeTest, UnknownForTheFirstCheckpoint) {
  const RegimeReading first = RegimeTracker(Spec("fixed")).Observe(0, kNoPredecessor);
  EXPECT_EQ(first.regime, Regime::kUnknown);
  EXPECT_TRUE(std::isnan(first.similarity));
  EXPECT_FALSE(first.confirmed);
  EXPECT_THAT(first.reason, HasSubstr("no earlier snapshot"));
}

TEST(RegimeTest, TwoConsecutiveStableCheckpointsAreStableConfirmed) {
  const auto readings = Readings(
      Spec("fixed"), {0.9999, 0.9998, 0.998, 0.9999, kNoPredecessor, kNoPredecessor, 0.9999});
  std::vector<bool> confirmed;
  for (const RegimeReading& reading : readings) confirmed.push_back(reading.confirmed);
  EXPECT_THAT(confirmed, ElementsAre(false, true, false, false, false, false, false));
}

TEST(RegimeTest, ThePublishedThresholdsAreTheDefaultsOfFixed) {
  const RegimeReading reading = Readings(Spec("fixed"), {0.999})[0];
  EXPECT_EQ(reading.tau_high, 0.99948918);
  EXPECT_EQ(reading.tau_low, 0.9962696);
  EXPECT_EQ(reading.reason,
            "similarity 0.99900000 is between the thresholds (fixed: tau_low 0.99626960, tau_high "
            "0.99948918)");
}

TEST(RegimeTest, WithNoneGivenTheThresholdsAreThe70thAnd30thPercentile) {
  const auto readings = Readings(Spec("percentile"), {0.1, 0.5, 0.3, 0.2, 0.4});
  EXPECT_EQ(readings[0].regime, Regime::kTransition);  // of itself
  EXPECT_EQ(readings[1].regime, Regime::kStable);
  EXPECT_DOUBLE_EQ(readings[4].tau_high, 0.38);  // of 0.1 … 0.5
  EXPECT_DOUBLE_EQ(readings[4].tau_low, 0.22);
  EXPECT_EQ(readings[4].regime, Regime::kStable);
}

TEST(RegimeTest, StepsThatDoNotRiseChangeNothing) {
  RegimeTracker tracker(Spec("fixed"));
  EXPECT_EQ(tracker.current().step, -1);
  tracker.Observe(0, kNoPredecessor);
  tracker.Observe(50, 0.9999);
  const RegimeReading again = tracker.Observe(50, 0.1);
  EXPECT_EQ(again.step, 50);
  EXPECT_EQ(again.regime, Regime::kStable);
  EXPECT_EQ(tracker.Observe(40, 0.1).step, 50);
  EXPECT_EQ(tracker.Observe(100, 0.1).regime, Regime::kChaotic);
}

TEST(RegimeTest, AdaptiveIsUnknownUntilItHasSeenEnough) {
  const auto readings = Readings(Spec("adaptive"), {0.1, 0.9, 0.2, 0.95});
  EXPECT_EQ(readings[2].regime, Regime::kUnknown);
  EXPECT_EQ(readings[2].reason, "calibrating: 3 of 4 similarities");
  EXPECT_EQ(readings[3].regime, Regime::kStable);
  RegimeSpec brief = Spec("adaptive");
  brief.window = 2;
  EXPECT_EQ(Readings(brief, {0.1, 0.9})[1].regime, Regime::kStable);
}

TEST(RegimeTest, AConstantSimilarityDoesNotFlipFlop) {
  for (const std::string thresholds : {"percentile", "adaptive"}) {
    const std::vector<Regime> regimes = Regimes(Spec(thresholds), std::vector<double>(100, 0.9993));
    EXPECT_LE(Changes(regimes), 1) << thresholds;  // from unknown
    EXPECT_EQ(regimes.back(), Regime::kTransition);
  }
}

TEST(RegimeTest, RoundingOfAConstantSimilarityDoesNotFlipFlop) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<double> similarities;
    for (int i = 0; i < 100; ++i) {
      similarities.push_back(0.9993 + 1e-8 * (ToUnit(random()) - 0.5));
    }
    EXPECT_LE(Changes(Regimes(Spec("adaptive"), similarities)), 1) << "seed " << seed;
  }
}

TEST(RegimeTest, AConstantSimilarityKeepsTheRegimeItFinds) {
  for (const bool stable : {true, false}) {
    std::vector<double> similarities = {0.5, 0.5, 0.5, 0.5, 0.5};
    similarities.insert(similarities.end(), 60, stable ? 0.9 : 0.1);
    const std::vector<Regime> regimes = Regimes(Spec("adaptive"), similarities);
    const std::vector<Regime> later(regimes.begin() + 5, regimes.end());
    EXPECT_THAT(later, Each(stable ? Regime::kStable : Regime::kChaotic));
  }
}

// A window of 0.1 … 1.0 with one more value on top: entered above the 0.75 quantile, left below
// 0.65.
TEST(RegimeTest, ARegimeIsLeftLaterThanItIsEntered) {
  std::vector<double> ramp;
  for (int i = 0; i < 9; ++i) ramp.push_back(0.1 * (i + 1));
  std::ranges::reverse(ramp);  // ends low: chaotic
  RegimeSpec spec = Spec("adaptive");
  spec.window = 10;
  const auto at = [&](std::vector<double> then) {
    std::vector<double> all = ramp;
    all.insert(all.end(), then.begin(), then.end());
    return Regimes(spec, all).back();
  };
  EXPECT_EQ(at({0.95}), Regime::kStable);
  EXPECT_EQ(at({0.65}), Regime::kTransition);    // between 0.65 and 0.75: not entered
  EXPECT_EQ(at({0.95, 0.68}), Regime::kStable);  // but not left either
  EXPECT_EQ(at({0.95, 0.5}), Regime::kTransition);
  EXPECT_EQ(at({0.95, 0.05}), Regime::kChaotic);  // straight through
}

TEST(RegimeTest, HysteresisMakesFewerChangesOnANoisyTrajectory) {
  int with = 0, without = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<double> similarities;
    for (int i = 0; i < 200; ++i) {
      similarities.push_back(0.998 + 1e-3 * std::sin(i / 15.0) + 5e-4 * ToUnit(random()));
    }
    RegimeSpec spec = Spec("adaptive");
    with += Changes(Regimes(spec, similarities));
    spec.hysteresis = 0;
    without += Changes(Regimes(spec, similarities));
  }
  EXPECT_LT(with, without);
}

TEST(RegimeTest, AdaptiveNeedsNoCalibrationOfScale) {
  // The same trajectory, squeezed towards 1 as another model's would be: the same regimes.
  std::mt19937_64 random(1);
  std::vector<double> wide, narrow;
  for (int i = 0; i < 100; ++i) {
    wide.push_back(ToUnit(random()));
    narrow.push_back(1 - 0.01 * (1 - wide.back()));
  }
  EXPECT_EQ(Regimes(Spec("adaptive"), wide), Regimes(Spec("adaptive"), narrow));
}

TEST(RegimeTest, AdaptiveForgetsWhatLeftTheWindow) {
  std::vector<double> similarities(30, 0.99999);  // an early calm that no later value reaches
  for (int i = 0; i < 40; ++i) similarities.push_back(0.99 + 1e-4 * i);
  EXPECT_EQ(Regimes(Spec("adaptive"), similarities).back(), Regime::kStable);
  EXPECT_NE(Regimes(Spec("percentile"), similarities).back(), Regime::kStable);
}

TEST(RegimeTest, NamesAreLabels) {
  EXPECT_STREQ(RegimeName(Regime::kUnknown), "unknown");
  EXPECT_STREQ(RegimeName(Regime::kChaotic), "chaotic");
  EXPECT_STREQ(RegimeName(Regime::kTransition), "transition");
  EXPECT_STREQ(RegimeName(Regime::kStable), "stable");
}

TEST(CosineSimilarityTest, OfTheConcatenatedFingerprints) {
  const std::vector<float> a = {1, 0, 2, 2}, b = {0, 1, 2, 2}, c = {-2, 0, -4, -4};
  EXPECT_DOUBLE_EQ(CosineSimilarity(a, b), 8.0 / 9);
  EXPECT_DOUBLE_EQ(CosineSimilarity(a, a), 1);
  EXPECT_DOUBLE_EQ(CosineSimilarity(a, c), -1);
}

TEST(CosineSimilarityTest, NeverLeavesMinusOneToOne) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  for (int i = 0; i < 1000; ++i) {
    std::vector<float> a(17);
    for (float& value : a) value = normal(random);
    EXPECT_LE(CosineSimilarity(a, a), 1);
    EXPECT_NEAR(CosineSimilarity(a, a), 1, 1e-15);
  }
}

TEST(CosineSimilarityTest, OfNothingIsNotANumber) {
  const std::vector<float> zero(3), one = {1, 1, 1};
  EXPECT_TRUE(std::isnan(CosineSimilarity(zero, one)));
  EXPECT_TRUE(std::isnan(CosineSimilarity(std::vector<float>{NAN, 1, 1}, one)));
}

}  // namespace
}  // namespace leap
