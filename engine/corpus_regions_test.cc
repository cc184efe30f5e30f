#include "engine/internal/corpus_regions.h"

#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// `pieces` pieces of `length` tokens, end of text included.
std::vector<uint16_t> Tokens(int64_t pieces, int64_t length) {
  std::vector<uint16_t> tokens;
  for (int64_t piece = 0; piece < pieces; ++piece) {
    tokens.insert(tokens.end(), static_cast<size_t>(length - 1), 'x');
    tokens.push_back(kEndOfText);
  }
  return tokens;
}

DataSpec Spec(int64_t length, int64_t gate, int64_t report) {
  return {.sequence_length_tokens = length, .gate_sequences = gate, .report_sequences = report};
}

TEST(CutRegions, AreDisjointCoverTheTextAndBeginAtPieces) {
  const std::vector<uint16_t> tokens = Tokens(100, 1000);
  ASSERT_OK_AND_ASSIGN(const DataRegions regions, CutRegions(tokens, Spec(9, 10, 20)));
  EXPECT_EQ(regions.train_begin, 0);
  EXPECT_EQ(regions.train_end, regions.gate_begin);
  EXPECT_EQ(regions.gate_end, regions.report_begin);
  EXPECT_EQ(regions.report_end, 100'000);
  EXPECT_EQ(regions.report_begin, 95'000);  // a twentieth each
  EXPECT_EQ(regions.gate_begin, 90'000);
}

TEST(CutRegions, AreLongEnoughForTheirWindows) {
  const std::vector<uint16_t> tokens = Tokens(100, 1000);
  ASSERT_OK_AND_ASSIGN(const DataRegions regions, CutRegions(tokens, Spec(99, 130, 250)));
  EXPECT_EQ(regions.report_begin, 75'000);  // 250 windows of 100
  EXPECT_EQ(regions.gate_begin, 62'000);    // 130 windows of 100
}

TEST(CutRegions, GrowToWholePieces) {
  const std::vector<uint16_t> tokens = Tokens(10, 1000);
  ASSERT_OK_AND_ASSIGN(const DataRegions regions, CutRegions(tokens, Spec(9, 10, 20)));
  EXPECT_EQ(regions.report_begin, 9000);
  EXPECT_EQ(regions.gate_begin, 8000);
}

TEST(CutRegions, AreCutWithinAPieceWhereThereAreFew) {
  const std::vector<uint16_t> tokens = Tokens(1, 1000);
  ASSERT_OK_AND_ASSIGN(const DataRegions regions, CutRegions(tokens, Spec(9, 10, 20)));
  EXPECT_EQ(regions.report_begin, 800);
  EXPECT_EQ(regions.gate_begin, 700);
}

TEST(CutRegions, SaysHowMuchTextIsMissing) {
  const DataSpec spec = Spec(9, 10, 20);
  EXPECT_OK(CutRegions(Tokens(1, 310), spec));
  const absl::StatusOr<DataRegions> regions = CutRegions(Tokens(1, 309), spec);
  EXPECT_THAT(regions, StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("the text has 309 tokens; at least 310 are needed")));
  EXPECT_THAT(regions, HasReason(ErrorReason::kCorpusInvalid));
}

// Whatever the sizes: regions in order, room for every window, something left to train on.
TEST(CutRegions, HoldForAllSmallSizes) {
  for (int64_t pieces = 1; pieces <= 6; ++pieces) {
    for (int64_t length = 2; length <= 60; length += 7) {
      for (int64_t gate = 1; gate <= 4; ++gate) {
        for (int64_t report = 1; report <= 6; report += 2) {
          const DataSpec spec = Spec(4, gate, report);
          const absl::StatusOr<DataRegions> r = CutRegions(Tokens(pieces, length), spec);
          ASSERT_EQ(r.ok(), pieces * length >= (gate + report + 1) * 5);
          if (!r.ok()) continue;
          ASSERT_EQ(r->train_begin, 0);
          ASSERT_EQ(r->train_end, r->gate_begin);
          ASSERT_EQ(r->gate_end, r->report_begin);
          ASSERT_EQ(r->report_end, pieces * length);
          ASSERT_GE(r->train_end, 5);
          ASSERT_GE(r->gate_end - r->gate_begin, gate * 5);
          ASSERT_GE(r->report_end - r->report_begin, report * 5);
        }
      }
    }
  }
}

TEST(SpreadWindows, GoFromTheFirstTokenToTheLast) {
  EXPECT_THAT(SpreadWindows(100, 200, 10, 4), ElementsAre(100, 130, 160, 190));
  EXPECT_THAT(SpreadWindows(100, 200, 10, 1), ElementsAre(100));
  EXPECT_THAT(SpreadWindows(100, 200, 10, 0), ElementsAre());
  EXPECT_THAT(SpreadWindows(100, 115, 10, 3),
              ElementsAre(100, 102, 105));  // no room: evenly overlapping
}

TEST(SpreadWindows, DoNotOverlapIfTheyFit) {
  for (int64_t count = 1; count <= 20; ++count) {
    for (int64_t length = count * 7; length < count * 7 + 50; ++length) {
      const std::vector<int64_t> begins = SpreadWindows(0, length, 7, count);
      for (size_t i = 1; i < begins.size(); ++i) ASSERT_GE(begins[i] - begins[i - 1], 7);
      ASSERT_LE(begins.back() + 7, length);
    }
  }
}

}  // namespace
}  // namespace leap
