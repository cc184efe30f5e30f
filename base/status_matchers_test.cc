#include "base/status_matchers.h"

#include <string>

#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(StatusMatchers, TellOkFromError) {
  EXPECT_THAT(absl::OkStatus(), IsOk());
  EXPECT_THAT(absl::StatusOr<int>(1), IsOk());
  EXPECT_THAT(absl::InternalError("x"), Not(IsOk()));
}

TEST(StatusMatchers, MatchCodeAndMessage) {
  const absl::StatusOr<int> error = absl::NotFoundError("no job 'x'");

  EXPECT_THAT(error, StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(error, StatusIs(absl::StatusCode::kNotFound, HasSubstr("job")));
  EXPECT_THAT(error, Not(StatusIs(absl::StatusCode::kNotFound, HasSubstr("worker"))));
  EXPECT_THAT(error, Not(StatusIs(absl::StatusCode::kInternal)));
}

TEST(StatusMatchers, MatchTheValueOfAStatusOr) {
  EXPECT_THAT(absl::StatusOr<std::string>("leap"), IsOkAndHolds(HasSubstr("ea")));
  EXPECT_THAT(absl::StatusOr<int>(2), Not(IsOkAndHolds(3)));
  EXPECT_THAT(absl::StatusOr<int>(absl::InternalError("x")), Not(IsOkAndHolds(3)));
}

TEST(StatusMatchers, UnpackAStatusOr) {
  ASSERT_OK_AND_ASSIGN(const int value, absl::StatusOr<int>(5));

  EXPECT_EQ(value, 5);
}

}  // namespace
}  // namespace leap
