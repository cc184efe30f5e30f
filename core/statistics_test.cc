#include "core/statistics.h"

#include <cmath>

#include "gtest/gtest.h"

namespace leap {
namespace {

TEST(StatisticsTest, MeanDeviationAndError) {
  const std::vector<double> values = {2, 4, 4, 4, 5, 5, 7, 9};
  const MeanAndError result = MeanOf(values);
  EXPECT_DOUBLE_EQ(result.mean, 5);
  EXPECT_DOUBLE_EQ(result.deviation, std::sqrt(32.0 / 7));
  EXPECT_DOUBLE_EQ(result.standard_error, std::sqrt(32.0 / 7 / 8));
}

TEST(StatisticsTest, OfOneValueOrNone) {
  EXPECT_EQ(MeanOf(std::vector<double>{3}).mean, 3);
  EXPECT_EQ(MeanOf(std::vector<double>{3}).standard_error, 0);
  EXPECT_TRUE(std::isnan(MeanOf({}).mean));
}

TEST(StatisticsTest, QuantilesAreLinearBetweenOrderStatistics) {
  const std::vector<double> sorted = {10, 20, 30, 40, 50};
  EXPECT_EQ(QuantileOfSorted(sorted, 0), 10);
  EXPECT_EQ(QuantileOfSorted(sorted, 1), 50);
  EXPECT_EQ(QuantileOfSorted(sorted, 0.5), 30);
  EXPECT_DOUBLE_EQ(QuantileOfSorted(sorted, 0.7), 38);  // numpy.percentile(..., 70)
  EXPECT_DOUBLE_EQ(QuantileOfSorted(sorted, 0.3), 22);
  EXPECT_EQ(QuantileOfSorted(std::vector<double>{4}, 0.7), 4);
  EXPECT_EQ(QuantileOfSorted(sorted, 1.5), 50);
}

}  // namespace
}  // namespace leap
