#include "base/log.h"

#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(Log, ALineIsTheEventAndItsFieldsInOrder) {
  ScopedLogCapture capture;

  LogInfo("leap_accepted",
          {{"job", "tiny"}, {"leap", uint64_t{3}}, {"gain", 0.012}, {"durable", true}});
  LogWarning("queue_full");

  EXPECT_THAT(capture.lines(),
              ElementsAre("info leap_accepted job=tiny leap=3 gain=0.012 durable=true",
                          "warning queue_full"));
}

TEST(Log, TextThatWouldBreakTheLineIsQuoted) {
  ScopedLogCapture capture;

  LogInfo("e",
          {{"a", "two words"}, {"b", "line\nbreak \"x\""}, {"c", ""}, {"d", std::string("k=v")}});

  EXPECT_THAT(capture.lines(),
              ElementsAre(R"(info e a="two words" b="line\nbreak \"x\"" c="" d="k=v")"));
}

TEST(Log, NumbersKeepTheirPrecision) {
  ScopedLogCapture capture;

  LogInfo("e", {{"a", 1.0 / 3}, {"b", -7}, {"c", 2.5f}, {"d", absl::Milliseconds(1500)}});

  EXPECT_THAT(capture.lines(), ElementsAre("info e a=0.33333333333333331 b=-7 c=2.5 d=1.5s"));
}

TEST(Log, AStatusShowsCodeReasonAndMessage) {
  ScopedLogCapture capture;

  LogError("rpc_failed", {{"status", MakeError(absl::StatusCode::kNotFound,
                                               ErrorReason::kJobNotFound, "no job 'x'")}});
  LogDebug("rpc_done", {{"status", absl::OkStatus()}});

  EXPECT_THAT(capture.lines(),
              ElementsAre(R"(error rpc_failed status="NOT_FOUND JOB_NOT_FOUND: no job \'x\'")",
                          "debug rpc_done status=OK"));
}

TEST(Log, WritesTimeLevelAndProgramToStandardError) {
  InitLogging("leap-test", LogLevel::kInfo);
  ::testing::internal::CaptureStderr();

  LogDebug("unseen");
  LogInfo("started", {{"port", 7700}});

  EXPECT_THAT(
      ::testing::internal::GetCapturedStderr(),
      MatchesRegex("[0-9]{4}-[0-9-]+T[0-9:]+\\.[0-9]{3}Z info leap-test started port=7700\n"));
}

TEST(Log, LevelsAreReadByNameAndASlipIsExplained) {
  EXPECT_THAT(ParseLogLevel("warning"), IsOkAndHolds(LogLevel::kWarning));
  EXPECT_THAT(ParseLogLevel("warnin"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("did you mean 'warning'?")));
}

}  // namespace
}  // namespace leap
