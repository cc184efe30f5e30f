#include "leapctl/scrape.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/metrics.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

TEST(ScrapeTest, ReadsWhatAProcessExports) {
  ASSERT_OK_AND_ASSIGN(
      const auto metrics,
      Metrics::Start({.room = kInVerifier, .listen = "127.0.0.1:0", .version = "1.2.3"}));

  EXPECT_THAT(ScrapeMetrics(metrics->port()), IsOkAndHolds(HasSubstr("leap_")));
}

TEST(ScrapeTest, NobodyThereIsAnError) {
  EXPECT_THAT(ScrapeMetrics(1), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("127.0.0.1:1")));
}

}  // namespace
}  // namespace leap
