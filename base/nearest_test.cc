#include "base/nearest.h"

#include <array>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::Optional;

constexpr std::array<absl::string_view, 4> kPredictors = {"linear", "quadratic", "momentum", "ema"};

TEST(Nearest, FindsTheWordBehindASlip) {
  EXPECT_THAT(Nearest("liner", kPredictors), Optional(std::string("linear")));
  EXPECT_THAT(Nearest("Quadartic", kPredictors), Optional(std::string("quadratic")));
  EXPECT_THAT(Nearest("emma", kPredictors), Optional(std::string("ema")));
}

TEST(Nearest, DoesNotGuessWildly) {
  EXPECT_EQ(Nearest("transformer", kPredictors), std::nullopt);
  EXPECT_EQ(Nearest("", kPredictors), std::nullopt);
  EXPECT_EQ(Nearest(std::string(100'000, 'a'), kPredictors), std::nullopt);
  EXPECT_EQ(Nearest("linear", {}), std::nullopt);
}

TEST(Nearest, CountsASwapOfNeighboursAsOneEdit) {
  constexpr std::array<absl::string_view, 2> kShort = {"em", "xyz"};
  EXPECT_THAT(Nearest("me", kShort), Optional(std::string("em")));
}

TEST(Nearest, WritesTheTailOfAMessage) {
  EXPECT_EQ(DidYouMean("momentun", kPredictors), ", did you mean 'momentum'?");
  EXPECT_EQ(DidYouMean("zzz", kPredictors), "");
}

}  // namespace
}  // namespace leap
