// Test-only matchers for absl::Status and absl::StatusOr, named like those of today's Abseil.
//
//   EXPECT_THAT(queue.Push(1), IsOk());
//   EXPECT_THAT(ParseJobSpec(""), StatusIs(absl::StatusCode::kInvalidArgument,
//   HasSubstr("empty"))); EXPECT_THAT(ParseHex64("ff"), IsOkAndHolds(255));
//   ASSERT_OK_AND_ASSIGN(JobSpec spec, ParseJobSpec(text));   // or fails the test and returns
#pragma once

#include <ostream>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/error_reason.h"
#include "gmock/gmock.h"

namespace leap {
namespace status_matchers_internal {

inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

template <typename InnerMatcher>
class IsOkAndHoldsMatcher {
 public:
  explicit IsOkAndHoldsMatcher(InnerMatcher inner) : inner_(std::move(inner)) {}

  template <typename StatusOrT>
  operator ::testing::Matcher<StatusOrT>()
      const {  // NOLINT: the conversion is the point of a polymorphic matcher
    return ::testing::Matcher<StatusOrT>(new Impl<StatusOrT>(inner_));
  }

 private:
  template <typename StatusOrT>
  class Impl : public ::testing::MatcherInterface<StatusOrT> {
    using Value = typename std::remove_cvref_t<StatusOrT>::value_type;

   public:
    explicit Impl(const InnerMatcher& inner)
        : inner_(::testing::SafeMatcherCast<const Value&>(inner)) {}
    void DescribeTo(std::ostream* os) const override {
      *os << "is OK and holds a value that ";
      inner_.DescribeTo(os);
    }
    void DescribeNegationTo(std::ostream* os) const override {
      *os << "is an error or holds a value that ";
      inner_.DescribeNegationTo(os);
    }
    bool MatchAndExplain(StatusOrT actual,
                         ::testing::MatchResultListener* listener) const override {
      if (!actual.ok()) {
        *listener << "which is " << actual.status();
        return false;
      }
      return inner_.MatchAndExplain(*actual, listener);
    }

   private:
    const ::testing::Matcher<const Value&> inner_;
  };

  const InnerMatcher inner_;
};

}  // namespace status_matchers_internal

// Matches an OK absl::Status or absl::StatusOr.
MATCHER(IsOk, negation ? "is an error" : "is OK") {
  const absl::Status& status = status_matchers_internal::StatusOf(arg);
  if (!status.ok()) *result_listener << "which is " << status;
  return status.ok();
}

// Matches a Status or StatusOr by code.
MATCHER_P(StatusIs, code,
          std::string(negation ? "has another code than " : "has the code ") +
              absl::StatusCodeToString(code)) {
  const absl::Status& status = status_matchers_internal::StatusOf(arg);
  *result_listener << "which is " << status;
  return status.code() == code;
}

// Matches a Status or StatusOr by code and by a matcher for the message.
MATCHER_P2(StatusIs, code, message,
           std::string(negation ? "does not have the code " : "has the code ") +
               absl::StatusCodeToString(code) + " and a message that " +
               ::testing::DescribeMatcher<std::string>(message)) {
  const absl::Status& status = status_matchers_internal::StatusOf(arg);
  *result_listener << "which is " << status;
  return status.code() == code && ::testing::Matches(::testing::MatcherCast<std::string>(message))(
                                      std::string(status.message()));
}

// Matches a Status or StatusOr that carries this reason (base/error_reason.h).
MATCHER_P(HasReason, reason,
          std::string(negation ? "has another reason than " : "has the reason ") +
              std::string(ErrorReasonName(reason))) {
  const absl::Status& status = status_matchers_internal::StatusOf(arg);
  *result_listener << "which is " << status;
  return ReasonOf(status) == reason;
}

// Matches an OK StatusOr<T> whose value matches `inner`, a value or a matcher.
template <typename InnerMatcher>
auto IsOkAndHolds(InnerMatcher&& inner) {
  return status_matchers_internal::IsOkAndHoldsMatcher<std::decay_t<InnerMatcher>>(
      std::forward<InnerMatcher>(inner));
}

}  // namespace leap

#define ASSERT_OK(expr) ASSERT_THAT(expr, ::leap::IsOk())
#define EXPECT_OK(expr) EXPECT_THAT(expr, ::leap::IsOk())
#define ASSERT_OK_AND_ASSIGN(lhs, ...) \
  ASSERT_OK_AND_ASSIGN_IMPL(LEAP_MATCHERS_CONCAT(test_status_or_, __LINE__), lhs, (__VA_ARGS__))
#define ASSERT_OK_AND_ASSIGN_IMPL(statusor, lhs, expr) \
  auto statusor = expr;                                \
  ASSERT_OK(statusor);                                 \
  lhs = *std::move(statusor)
#define LEAP_MATCHERS_CONCAT(a, b) LEAP_MATCHERS_CONCAT_INNER(a, b)
#define LEAP_MATCHERS_CONCAT_INNER(a, b) a##b
