#include "engine/internal/token_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/fake_clock.h"
#include "base/status_matchers.h"
#include "engine/fake_file_ops.h"
#include "engine/internal/fd.h"
#include "engine/test_scratch.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

namespace fs = std::filesystem;

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TokenFileTest : public ::testing::Test {
 protected:
  TokenFileTest() : root_(ScratchPath("token_file_test")) {
    fs::remove_all(root_);
    request_ = {.path = root_ + "/cache/x.tokens",
                .tokens = 3,
                .source = [](const AppendTokens& append) -> absl::Status {
                  const std::vector<uint16_t> head = {1, 2}, tail = {256};
                  if (absl::Status status = append(head); !status.ok()) return status;
                  return append(tail);
                },
                .patience = absl::ZeroDuration()};
  }
  ~TokenFileTest() override { fs::remove_all(root_); }

  const std::string root_;
  TokenFileRequest request_;
  FakeClock clock_;
};

TEST_F(TokenFileTest, HoldsItsTokens) {
  ASSERT_OK_AND_ASSIGN(const auto file, MapOrWrite(RealFileOps(), clock_, request_));
  EXPECT_THAT(std::vector<uint16_t>(file->tokens().begin(), file->tokens().end()),
              ElementsAre(1, 2, 256));
}

TEST_F(TokenFileTest, ADiskThatIsFullLeavesNothingBehind) {
  FakeFileOps ops;
  for (ops.fail_at = 0;; ++ops.fail_at) {
    ops.Reset();
    const auto file = MapOrWrite(ops, clock_, request_);
    if (file.ok()) break;
    EXPECT_THAT(file, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr(root_)));
    EXPECT_THAT(file, HasReason(ErrorReason::kDiskFull));
    EXPECT_FALSE(fs::exists(request_.path + ".tmp"));
    ASSERT_LT(ops.fail_at, 100);
  }
  EXPECT_GT(ops.fail_at, 5);
}

TEST_F(TokenFileTest, WaitsForAnotherWriterOnlySoLong) {
  fs::create_directories(root_ + "/cache");
  const Fd other(::open((request_.path + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  EXPECT_THAT(MapOrWrite(RealFileOps(), clock_, request_),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("x.tokens.lock")));
}

TEST_F(TokenFileTest, ASourceThatGivesAnotherNumberIsRefused) {
  request_.tokens = 4;
  EXPECT_THAT(MapOrWrite(RealFileOps(), clock_, request_), StatusIs(absl::StatusCode::kInternal));
}

}  // namespace
}  // namespace leap
