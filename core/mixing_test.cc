#include "core/mixing.h"

#include <bit>

#include "gtest/gtest.h"

namespace leap {
namespace {

TEST(MixingTest, IsSplitMix64) {  // first outputs of the reference generator from state 0
  EXPECT_EQ(Mix(0), 0xe220a8397b1dcdafu);
  EXPECT_EQ(Mix(0x9e3779b97f4a7c15u), 0x6e789e6aa1b965f4u);
}

TEST(MixingTest, EveryInputBitChangesAboutHalfOfTheOutput) {
  for (int bit = 0; bit < 64; ++bit) {
    int flipped = 0;
    for (uint64_t x = 0; x < 100; ++x) {
      flipped += std::popcount(Mix(1, x) ^ Mix(1, x ^ (uint64_t{1} << bit)));
    }
    EXPECT_NEAR(flipped / 100.0, 32, 3) << "bit " << bit;
  }
}

TEST(MixingTest, PlacesOfTheTupleAreNotInterchangeable) {
  EXPECT_NE(Mix(1, 2, 3), Mix(1, 3, 2));
  EXPECT_NE(Mix(1, 2, 3), Mix(2, 1, 3));
}

TEST(MixingTest, UnitIsBelowOne) {
  EXPECT_EQ(ToUnit(0), 0);
  EXPECT_LT(ToUnit(~uint64_t{0}), 1);
  EXPECT_EQ(ToUnit(uint64_t{1} << 63), 0.5);
}

}  // namespace
}  // namespace leap
