#include "core/digest.h"

#include <algorithm>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "xxhash.h"

namespace leap {
namespace {

std::vector<float> RandomFloats(uint64_t seed, int64_t count) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

uint64_t DigestOfAll(const std::vector<float>& values) {
  return DigestOf(values, {.begin = 0, .end = static_cast<int64_t>(values.size())});
}

TEST(DigestTest, IsTheSumOfTheBlocksHashesSeededByTheirIndex) {
  const std::vector<float> values = RandomFloats(1, 2 * kBlockFloats + 10);
  const uint64_t expected = XXH3_64bits_withSeed(values.data(), 65536, 0) +
                            XXH3_64bits_withSeed(values.data() + kBlockFloats, 65536, 1) +
                            XXH3_64bits_withSeed(values.data() + 2 * kBlockFloats, 40, 2);
  EXPECT_EQ(DigestOfAll(values), expected);
}

TEST(DigestTest, ShardsOfAnyWorldAddUpToTheWhole) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const int64_t size = 1 + static_cast<int64_t>(seed) * 12'345;
    const std::vector<float> values = RandomFloats(seed, size);
    for (const int world : {1, 2, 3, 5, 16}) {
      uint64_t sum = 0;
      for (int rank = 0; rank < world; ++rank) {
        const FlatRange shard = ShardOf(size, rank, world);
        sum += DigestOf(std::span(values).subspan(shard.begin, shard.size()), shard);
      }
      EXPECT_EQ(sum, DigestOfAll(values)) << size << " floats over " << world;
    }
  }
}

TEST(DigestTest, SeesEveryBitAndThePlaceOfABlock) {
  std::vector<float> values = RandomFloats(3, 3 * kBlockFloats);
  const uint64_t before = DigestOfAll(values);
  values[kBlockFloats + 7] = -values[kBlockFloats + 7];
  EXPECT_NE(DigestOfAll(values), before);
  values[kBlockFloats + 7] = -values[kBlockFloats + 7];
  EXPECT_EQ(DigestOfAll(values), before);
  std::swap_ranges(values.begin(), values.begin() + kBlockFloats, values.begin() + kBlockFloats);
  EXPECT_NE(DigestOfAll(values), before);
}

TEST(DigestTest, TellsZeroFromMinusZeroAndNothingFromZeros) {
  EXPECT_NE(DigestOfAll({0.0f}), DigestOfAll({-0.0f}));
  EXPECT_EQ(DigestOfAll({}), 0u);
  EXPECT_NE(DigestOfAll(std::vector<float>(10)), 0u);
}

TEST(DigestTest, ARangeThatBeginsInsideABlockIsOurBug) {
  const std::vector<float> values(5);
  EXPECT_DEATH(DigestOf(values, {.begin = 1, .end = 6}), "does not begin at a block");
  EXPECT_DEATH(DigestOf(values, {.begin = 0, .end = 6}), "differ in length");
}

}  // namespace
}  // namespace leap
