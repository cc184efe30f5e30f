#include "base/error_reason.h"

#include <set>
#include <string>

#include "base/status_matchers.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::AllOf;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

TEST(ErrorReason, EveryNameIsUpperSnakeAndReadsBack) {
  std::set<std::string> names;
  for (int i = 0; i <= static_cast<int>(ErrorReason::kShuttingDown); ++i) {
    const auto reason = static_cast<ErrorReason>(i);
    const std::string name(ErrorReasonName(reason));
    EXPECT_THAT(name, MatchesRegex("[A-Z][A-Z_]+[A-Z]"));
    EXPECT_EQ(ParseErrorReason(name), reason);
    EXPECT_TRUE(names.insert(name).second) << name << " stands for two reasons";
  }
  EXPECT_EQ(ParseErrorReason("NO_SUCH_REASON"), std::nullopt);
}

TEST(ErrorReason, TravelsOnTheStatusWithItsMetadata) {
  const absl::Status status =
      MakeError(absl::StatusCode::kAborted, ErrorReason::kStaleEpoch, "expected epoch 4, saw 3",
                {{"epoch", "4"}, {"file", "a\xff\"b"}});

  EXPECT_THAT(status, AllOf(StatusIs(absl::StatusCode::kAborted, "expected epoch 4, saw 3"),
                            HasReason(ErrorReason::kStaleEpoch)));
  EXPECT_THAT(MetadataOf(status),
              UnorderedElementsAre(Pair("epoch", "4"), Pair("file", "a\uFFFD\"b")));
}

TEST(ErrorReason, IsAbsentFromOtherStatuses) {
  EXPECT_EQ(ReasonOf(absl::OkStatus()), std::nullopt);
  EXPECT_EQ(ReasonOf(absl::NotFoundError("x")), std::nullopt);
  EXPECT_THAT(MetadataOf(absl::NotFoundError("x")), IsEmpty());
}

TEST(ErrorReason, AnUnreadablePayloadIsNoReason) {
  for (const char* payload :
       {"", "{", "[]", "{}", R"({"reason":7})", R"({"reason":"FROM_THE_FUTURE"})"}) {
    absl::Status status = absl::InternalError("x");
    status.SetPayload("leap-verify/error-reason", absl::Cord(payload));
    EXPECT_EQ(ReasonOf(status), std::nullopt) << payload;
  }
}

TEST(ErrorReason, ContextGoesBeforeTheMessageAndKeepsTheReason) {
  const absl::Status status = MakeError(absl::StatusCode::kUnavailable, ErrorReason::kDiskFull,
                                        "no space left", {{"path", "/x"}});

  const absl::Status longer = WithContext(status, "while appending to the ledger");

  EXPECT_THAT(longer, StatusIs(absl::StatusCode::kUnavailable,
                               "while appending to the ledger: no space left"));
  EXPECT_THAT(longer, HasReason(ErrorReason::kDiskFull));
  EXPECT_THAT(MetadataOf(longer), UnorderedElementsAre(Pair("path", "/x")));
  EXPECT_OK(WithContext(absl::OkStatus(), "context"));
}

}  // namespace
}  // namespace leap
