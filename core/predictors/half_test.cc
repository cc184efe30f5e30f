#include "core/predictors/half.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

namespace leap {
namespace {

// Every binary16 by its definition: sign, 5 bits of exponent, 10 of fraction.
float FromHalfBits(uint32_t bits) {
  const int exponent = static_cast<int>((bits >> 10) & 31);
  const float fraction = static_cast<float>(bits & 1023);
  const float magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (bits >> 15) != 0 ? -magnitude : magnitude;
}

TEST(HalfTest, KeepsEveryFiniteHalf) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    if (((bits >> 10) & 31) == 31) continue;
    const float value = FromHalfBits(bits);
    EXPECT_EQ(std::bit_cast<uint32_t>(RoundToHalf(value)), std::bit_cast<uint32_t>(value)) << bits;
  }
}

TEST(HalfTest, RoundsToTheNearestTiesToEven) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = FromHalfBits(bits), high = FromHalfBits(bits + 1);
    const float middle = 0.5f * (low + high);  // exact: halves have 11 bits
    EXPECT_EQ(RoundToHalf(middle), bits % 2 == 0 ? low : high) << bits;
    EXPECT_EQ(RoundToHalf(std::nextafter(middle, 0.0f)), low) << bits;
    EXPECT_EQ(RoundToHalf(-std::nextafter(middle, 1e9f)), -high) << bits;
  }
}

TEST(HalfTest, OverflowsToInfinityAndKeepsNaN) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(RoundToHalf(65519.99f), 65504.0f);
  EXPECT_EQ(RoundToHalf(65520.0f), infinity);
  EXPECT_EQ(RoundToHalf(-1e30f), -infinity);
  EXPECT_EQ(RoundToHalf(infinity), infinity);
  EXPECT_TRUE(std::isnan(RoundToHalf(std::nanf(""))));
}

TEST(HalfTest, TheSmallestSubnormalIs6e8) {  // leap-verify.md section 3
  EXPECT_EQ(RoundToHalf(6e-8f), 0x1p-24f);
  EXPECT_EQ(RoundToHalf(0x1p-25f), 0.0f);
  EXPECT_EQ(RoundToHalf(1e-10f), 0.0f);
  EXPECT_TRUE(std::signbit(RoundToHalf(-1e-10f)));
}

}  // namespace
}  // namespace leap
