#include "base/utf8.h"

#include "gtest/gtest.h"

namespace leap {
namespace {

TEST(CutUtf8, LeavesNoHalfCharacter) {
  EXPECT_EQ(CutUtf8("abc", 3), "abc");
  EXPECT_EQ(CutUtf8("abcd", 3), "abc");
  EXPECT_EQ(CutUtf8("", 0), "");
  const absl::string_view theta = "ab\xCE\xB8\xF0\x9F\x8D\x80";  // ab, two bytes, four bytes
  const size_t whole[] = {0, 1, 2, 2, 4, 4, 4, 4, 8, 8};
  for (size_t bytes = 0; bytes < 10; ++bytes) {
    EXPECT_EQ(CutUtf8(theta, bytes).size(), whole[bytes]) << bytes;
  }
}

}  // namespace
}  // namespace leap
