#include "base/ids.h"

#include <limits>

#include "base/status_matchers.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::MatchesRegex;
using ::testing::SizeIs;

TEST(Ids, IncarnationsDifferAndAreNeverZero) {
  const uint64_t a = NewIncarnation(), b = NewIncarnation();

  EXPECT_NE(a, 0u);
  EXPECT_NE(a, b);
}

TEST(Ids, AJobIdIsTheNameAndSixHexDigits) {
  EXPECT_THAT(NewJobId("tiny-gpt"), MatchesRegex("tiny-gpt-[0-9a-f]{6}"));
  EXPECT_NE(NewJobId("a"), NewJobId("a"));
}

TEST(Ids, AJobIdIsSafeInPathsAndUrlsWhateverTheName) {
  EXPECT_THAT(NewJobId(""), MatchesRegex("job-[0-9a-f]{6}"));
  EXPECT_THAT(NewJobId("../.."), MatchesRegex("job-[0-9a-f]{6}"));
  EXPECT_THAT(NewJobId("My GPT (2)"), MatchesRegex("my-gpt-2-[0-9a-f]{6}"));
  EXPECT_THAT(NewJobId("größe"), MatchesRegex("gr-e-[0-9a-f]{6}"));
  EXPECT_THAT(NewJobId(std::string(500, 'x')), SizeIs(47));
}

TEST(Ids, Hex64IsSixteenDigitsAndReadsBack) {
  EXPECT_EQ(Hex64(255), "00000000000000ff");
  EXPECT_EQ(Hex64(0), "0000000000000000");
  for (const uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{0xdeadbeefcafef00d},
                               std::numeric_limits<uint64_t>::max()}) {
    EXPECT_THAT(ParseHex64(Hex64(value)), IsOkAndHolds(value));
  }
}

TEST(Ids, ParseHex64TakesShortAndPrefixedForms) {
  EXPECT_THAT(ParseHex64("ff"), IsOkAndHolds(255u));
  EXPECT_THAT(ParseHex64("0xFF"), IsOkAndHolds(255u));
}

TEST(Ids, ParseHex64RefusesEverythingElse) {
  for (const char* text : {"", "0x", "g", " ff", "-1", "0x0x1", "00000000000000001"}) {
    EXPECT_THAT(ParseHex64(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
  }
}

}  // namespace
}  // namespace leap
