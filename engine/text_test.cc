#include "engine/internal/text.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::Eq;
using ::testing::Optional;

TEST(Text, IsWellFormedUtf8) {
  for (const char* text :
       {"", "plain", "tab\tand\r\n", "naïve", "日本語", "\xf0\x9f\x98\x80", "\xef\xbf\xbf",
        "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf", "\xee\x80\x80", "\x7f"}) {
    EXPECT_THAT(FirstNonText(text), Eq(std::nullopt)) << text;
  }
}

TEST(Text, EndsAtTheFirstByteThatIsNone) {
  const struct {
    std::string bytes;
    size_t offset;
  } cases[] = {
      {std::string("a\0b", 3), 1},
      {std::string("12345678\0", 9), 8},
      {"\x80", 0},
      {"ab\xff", 2},
      {"\xc0\x80", 0},
      {"\xc1\xbf", 0},
      {"\xe0\x9f\xbf", 0},
      {"\xf0\x8f\xbf\xbf", 0},
      {"\xed\xa0\x80", 0},
      {"\xf4\x90\x80\x80", 0},
      {"\xf5\x80\x80\x80", 0},
      {"x\xc3", 1},
      {"x\xe6\x97", 1},
      {"12345678\xf0\x9f\x98", 8},
      {"\xc3(", 0},
      {"1234567\xc3\xa9"
       "12345678\xfe",
       17},
  };
  for (const auto& [bytes, offset] : cases)
    EXPECT_THAT(FirstNonText(bytes), Optional(offset)) << bytes;
}

// The word-wise path against the definition, byte by byte.
TEST(Text, EveryPairOfBytesIsJudgedTheSameAtEveryOffset) {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string pair = {static_cast<char>(first), static_cast<char>(second)};
      const std::optional<size_t> alone = FirstNonText(pair);
      for (const size_t before : {1, 7, 8, 13}) {
        const std::optional<size_t> inside =
            FirstNonText(std::string(before, 'x') + pair + "12345678");
        ASSERT_EQ(alone.has_value(), inside.has_value()) << first << " " << second;
        ASSERT_EQ(alone.value_or(0) + before, inside.value_or(before)) << first << " " << second;
      }
    }
  }
}

}  // namespace
}  // namespace leap
