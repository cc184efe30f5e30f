#include "core/yaml_tree.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(YamlTreeTest, KeepsOrderLinesAndQuotes) {
  const YamlDocument document = ParseYaml("a: 1\nb:\n  - x\n  - \"2\"\nc: {d: ~}\n");

  ASSERT_TRUE(document.readable);
  EXPECT_THAT(document.errors, IsEmpty());
  ASSERT_THAT(document.root.keys, SizeIs(3));
  EXPECT_EQ(document.root.keys[1].text, "b");
  EXPECT_EQ(document.root.keys[1].line, 2);
  const YamlNode& list = document.root.items[1];
  ASSERT_THAT(list.items, SizeIs(2));
  EXPECT_FALSE(list.items[0].quoted);
  EXPECT_TRUE(list.items[1].quoted);
  EXPECT_EQ(list.items[1].line, 4);
  EXPECT_EQ(FindKey(document.root.items[2], "d")->kind, YamlNode::Kind::kNull);
  EXPECT_EQ(FindKey(document.root, "nobody"), nullptr);
}

TEST(YamlTreeTest, TellsAQuotedNullFromAPlainOne) {
  const YamlDocument document = ParseYaml("[null, 'null', '', ~, ]\n");

  ASSERT_THAT(document.root.items, SizeIs(4));
  EXPECT_EQ(document.root.items[0].kind, YamlNode::Kind::kNull);
  EXPECT_EQ(document.root.items[1].kind, YamlNode::Kind::kScalar);
  EXPECT_EQ(document.root.items[2].kind, YamlNode::Kind::kScalar);
  EXPECT_EQ(document.root.items[3].kind, YamlNode::Kind::kNull);
}

TEST(YamlTreeTest, ExpandsAliases) {
  const YamlDocument document = ParseYaml("a: &grid [5, 10]\nb: *grid\n");

  ASSERT_TRUE(document.readable);
  const YamlNode* copy = FindKey(document.root, "b");
  ASSERT_THAT(copy->items, SizeIs(2));
  EXPECT_EQ(copy->items[1].text, "10");
  EXPECT_EQ(copy->line, 2);
}

TEST(YamlTreeTest, RefusesAnAliasInsideItsOwnValue) {
  const YamlDocument document = ParseYaml("a: &a [1, *a]\n");

  EXPECT_FALSE(document.readable);
  ASSERT_THAT(document.errors, SizeIs(1));
  EXPECT_EQ(document.errors[0].message, "alias stands inside the value that it names");
}

TEST(YamlTreeTest, KeepsTheFirstOfTwoKeys) {
  const YamlDocument document = ParseYaml("a: 1\na: {b: 2}\nc: 3\n");

  ASSERT_TRUE(document.readable);
  ASSERT_THAT(document.errors, SizeIs(1));
  EXPECT_EQ(document.errors[0].line, 2);
  ASSERT_THAT(document.root.items, SizeIs(2));
  EXPECT_EQ(FindKey(document.root, "a")->text, "1");
  EXPECT_EQ(FindKey(document.root, "c")->text, "3");
}

TEST(YamlTreeTest, HoldsItsLimits) {
  const YamlLimits limits = {.bytes = 100, .depth = 3, .values = 10, .expanded_bytes = 40};

  EXPECT_TRUE(ParseYaml("[[[1]]]", limits).readable);
  EXPECT_THAT(ParseYaml("[[[[1]]]]", limits).errors[0].message, HasSubstr("3 levels"));
  EXPECT_THAT(ParseYaml("[1,2,3,4,5,6,7,8,9,10]", limits).errors[0].message,
              HasSubstr("10 values"));
  EXPECT_THAT(ParseYaml(std::string(101, '#'), limits).errors[0].message, HasSubstr("at most"));
  EXPECT_THAT(ParseYaml(absl::StrCat("a: &a ", std::string(15, 'x'), "\nb: *a\nc: *a"), limits)
                  .errors[0]
                  .message,
              HasSubstr("of text"));
  EXPECT_THAT(ParseYaml("a: &a [[1]]\nb: [*a]", {.depth = 3}).errors[0].message,
              HasSubstr("3 levels"));
}

// Shapes that make a careless parser take quadratic time or overflow its stack, at the full size
// allowed.
TEST(YamlTreeTest, AnswersHostileShapesInReasonableTime) {
  const size_t size = (256 << 10) - 64;
  const auto repeat = [&](absl::string_view piece) {
    std::string text;
    while (text.size() + piece.size() < size) absl::StrAppend(&text, piece);
    return text;
  };

  for (absl::string_view piece :
       {"[", "{",  "- ", "? ", "a: ", "&a ", "*a\n", "!",      "!<", "\"", "'",  "|\n",
        "%", "\n", "\t", "# ", "a\n", "-\n", "a: {", "- a:\n", "\\", ",",  ": ", "x"}) {
    SCOPED_TRACE(piece);
    ParseYaml(repeat(piece));
    ParseYaml(absl::StrCat("[", repeat(piece)));
    ParseYaml(absl::StrCat("\"", repeat(piece)));
  }
}

TEST(YamlTreeTest, RefusesBytesThatAreNoText) {
  for (absl::string_view bad :
       {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\x01", "\x7f\x80"}) {
    const YamlDocument document = ParseYaml(absl::StrCat("a: 1\nb: ", bad));
    ASSERT_THAT(document.errors, SizeIs(1));
    EXPECT_EQ(document.errors[0].line, 2);
  }
  EXPECT_FALSE(ParseYaml(absl::string_view("a: \0b", 5)).readable);
  EXPECT_TRUE(ParseYaml("a: grüße, 世界, 🚀").readable);
}

}  // namespace
}  // namespace leap
