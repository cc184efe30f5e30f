#include "base/status_macros.h"

#include <memory>

#include "base/status_matchers.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

absl::StatusOr<std::unique_ptr<int>> Make(int value) {
  if (value < 0) return absl::OutOfRangeError("negative");
  return std::make_unique<int>(value);
}

absl::StatusOr<int> Sum(int a, int b) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<int> first, Make(a));
  LEAP_ASSIGN_OR_RETURN(auto second, Make(b));
  return *first + *second;
}

absl::Status Check(const absl::Status& status, bool& passed) {
  LEAP_RETURN_IF_ERROR(status);
  passed = true;
  return absl::OkStatus();
}

TEST(StatusMacros, AssignTheValueOrReturnTheError) {
  EXPECT_THAT(Sum(1, 2), IsOkAndHolds(3));
  EXPECT_THAT(Sum(1, -2), StatusIs(absl::StatusCode::kOutOfRange, "negative"));
}

TEST(StatusMacros, ReturnTheErrorOrGoOn) {
  bool passed = false;

  EXPECT_THAT(Check(absl::InternalError("x"), passed), StatusIs(absl::StatusCode::kInternal));
  EXPECT_FALSE(passed);
  EXPECT_OK(Check(absl::OkStatus(), passed));
  EXPECT_TRUE(passed);
}

}  // namespace
}  // namespace leap
