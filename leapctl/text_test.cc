#include "leapctl/text.h"

#include <cmath>

#include "gtest/gtest.h"

namespace leap {
namespace {

TEST(TextTest, NothingFromTheWireSteersTheTerminal) {
  EXPECT_EQ(Clean("a\x1b[2Jb\x07 c\nd\te\x7f"), "a?[2Jb? c d e?");
  EXPECT_EQ(Clean("\xc2\x9b"
                  "31m"),
            "?31m");
  EXPECT_EQ(Clean("grüße 世界"), "grüße 世界");
}

TEST(TextTest, WidthCountsCharacters) {
  EXPECT_EQ(Width("grüße"), 5);
  EXPECT_EQ(Cut("grüße", 5), "grüße");
  EXPECT_EQ(Cut("grüße und mehr", 8), "grüße...");
  EXPECT_EQ(Cut("grüße", 2), "..");
}

TEST(TextTest, LossesThatAreNotThereAreDashes) {
  EXPECT_EQ(LossText(1.73802), "1.7380");
  EXPECT_EQ(LossText(0), "-");
  EXPECT_EQ(LossText(std::nan("")), "-");
  EXPECT_EQ(SimilarityText(0.99948918), "0.999489");
}

TEST(TextTest, StepsCarryTheirSign) {
  EXPECT_EQ(StepsText(31.23), "+31.2");
  EXPECT_EQ(StepsText(-4), "-4");
  EXPECT_EQ(StepsText(0.01), "0");
  EXPECT_EQ(StepsText(std::nan("")), "unknown");
}

TEST(TextTest, TimesReadAsPeopleSayThem) {
  EXPECT_EQ(SecondsText(0.84), "0.8 s");
  EXPECT_EQ(SecondsText(42.4), "42 s");
  EXPECT_EQ(SecondsText(200), "3 min 20 s");
  EXPECT_EQ(SecondsText(7500), "2 h 5 min");
  EXPECT_EQ(SecondsText(273600), "3 d 4 h");
  EXPECT_EQ(SecondsText(-1), "-");
  google::protobuf::Timestamp time;
  EXPECT_EQ(AgeText(time, absl::FromUnixSeconds(100)), "-");
  time.set_seconds(40);
  EXPECT_EQ(AgeText(time, absl::FromUnixSeconds(100)), "1 min 0 s ago");
  EXPECT_EQ(AgeText(time, absl::FromUnixSeconds(43)), "3 s ago");
  EXPECT_EQ(AgeText(time, absl::FromUnixSeconds(30)), "now");
  EXPECT_EQ(ClockText(time), "1970-01-01 00:00:40 UTC");
}

TEST(TextTest, CountsAreShort) {
  EXPECT_EQ(CountText(999), "999");
  EXPECT_EQ(CountText(13400), "13.4 k");
  EXPECT_EQ(CountText(124e6), "124.0 M");
}

TEST(TableTest, AlignsColumnsAndEndsLinesWithoutBlanks) {
  Table table({"NAME", ">STEP", "WHY"});
  table.Add({"a", "5", "short"});
  table.Add({"lengthy", "12345", ""});

  EXPECT_EQ(table.ToString(),
            "NAME      STEP  WHY\n"
            "a            5  short\n"
            "lengthy  12345  -\n");
}

}  // namespace
}  // namespace leap
