#include "service/rpc_status.h"

#include <random>
#include <string>

#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

class EveryCode : public testing::TestWithParam<int> {};

TEST_P(EveryCode, ComesBackWithItsMessage) {
  const auto code = static_cast<absl::StatusCode>(GetParam());
  const absl::Status status(code, "step 7: θ is not finite");
  const absl::Status back = FromGrpcStatus(ToGrpcStatus(status));
  EXPECT_EQ(back, status);
  EXPECT_EQ(ReasonOf(back), std::nullopt);
}

TEST_P(EveryCode, ComesBackWithItsReasonAndMetadata) {
  const auto code = static_cast<absl::StatusCode>(GetParam());
  if (code == absl::StatusCode::kOk) return;
  const absl::Status status = MakeError(code, ErrorReason::kStaleEpoch, "epoch 3 is over",
                                        {{"epoch", "4"}, {"job", "a-1"}});
  const absl::Status back = FromGrpcStatus(ToGrpcStatus(status));
  EXPECT_THAT(back, StatusIs(code, "epoch 3 is over"));
  EXPECT_THAT(back, HasReason(ErrorReason::kStaleEpoch));
  EXPECT_THAT(MetadataOf(back), UnorderedElementsAre(Pair("epoch", "4"), Pair("job", "a-1")));
}

INSTANTIATE_TEST_SUITE_P(AllSeventeen, EveryCode, testing::Range(0, 17));

TEST(RpcStatus, KeepsEmptyMetadataEmpty) {
  const absl::Status status =
      MakeError(absl::StatusCode::kNotFound, ErrorReason::kJobNotFound, "no such job");
  EXPECT_THAT(MetadataOf(FromGrpcStatus(ToGrpcStatus(status))), IsEmpty());
}

TEST(RpcStatus, TakesAnUnknownCodeForUnknown) {
  const grpc::Status odd(static_cast<grpc::StatusCode>(20), "strange");  // what the enum can hold
  EXPECT_THAT(FromGrpcStatus(odd), StatusIs(absl::StatusCode::kUnknown, "strange"));
}

TEST(RpcStatus, CutsAMessageTooLongForHeadersBetweenCharacters) {
  std::string message;
  while (message.size() < 20000) message += "θ";
  const grpc::Status status = ToGrpcStatus(absl::InvalidArgumentError("x" + message));
  EXPECT_LE(status.error_message().size(), 6100u);
  EXPECT_EQ(status.error_message().substr(status.error_message().size() - 5), "θ...");
}

TEST(RpcStatus, IgnoresDetailsThatAreForeignOrMangled) {
  const std::string good = ToGrpcStatus(MakeError(absl::StatusCode::kAborted,
                                                  ErrorReason::kStaleEpoch, "m", {{"a", "b"}}))
                               .error_details();
  std::mt19937_64 random(7);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = good;
    const int edits = 1 + static_cast<int>(random() % 4);
    for (int e = 0; e < edits; ++e) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    const absl::Status back = FromGrpcStatus(grpc::Status(grpc::ABORTED, "m", bytes));
    ASSERT_THAT(back, StatusIs(absl::StatusCode::kAborted, "m"));
  }
}

}  // namespace
}  // namespace leap
