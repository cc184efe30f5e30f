#include "service/program.h"

#include <string>
#include <vector>

#include "base/error_reason.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/test_dir.h"

namespace leap {
namespace {

struct Outcome {
  int code = 0;
  bool ran = false;
  std::string said;
};

Outcome RunWith(std::vector<std::string> words, const absl::Status& status = absl::OkStatus()) {
  ProgramFlags flags;
  Outcome outcome;
  CLI::App app("A program.", "program");
  AddProgramFlags(&app, "1.2", "nothing", &flags);
  words.insert(words.begin(), "program");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  outcome.code = RunProgram(&app, static_cast<int>(argv.size()), argv.data(), flags,
                            [&](StopSignal&) { return outcome.ran = true, status; });
  outcome.said = testing::internal::GetCapturedStdout() + testing::internal::GetCapturedStderr();
  return outcome;
}

TEST(Program, MakesItsFolderAndExitsAsItRan) {
  TestDir dir;
  const std::string folder = dir.path() + "/a/b";
  EXPECT_EQ(RunWith({"--state-dir", folder}).code, 0);
  EXPECT_TRUE(std::filesystem::is_directory(folder));
  const Outcome failed = RunWith({"--state-dir", folder}, absl::InternalError("it broke"));
  EXPECT_EQ(failed.code, 1);
  EXPECT_EQ(failed.said, "program: it broke\n");
}

TEST(Program, ExitsWithTwoWhereAFlagCannotWork) {
  TestDir dir;
  const std::string file = dir.Write("file", "");
  EXPECT_EQ(RunWith({"--state-dir", dir.path()}, absl::InvalidArgumentError("no")).code, 2);
  EXPECT_EQ(RunWith({"--state-dir", dir.path()}, MakeError(absl::StatusCode::kFailedPrecondition,
                                                           ErrorReason::kTlsInvalid, "no"))
                .code,
            2);
  EXPECT_EQ(RunWith({"--log-level", "loud"}).code, 2);
  const Outcome taken = RunWith({"--state-dir", file});
  EXPECT_EQ(taken.code, 1) << "the machine's fault, not the flag's";
  EXPECT_EQ(taken.said, "program: --state-dir " + file + ": Not a directory\n");
  EXPECT_FALSE(taken.ran);
}

TEST(Program, TellsItsVersionWithoutRunning) {
  const Outcome version = RunWith({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_EQ(version.said, "program 1.2\n");
  EXPECT_FALSE(version.ran);
}

TEST(Program, KnowsWhatANameMayBe) {
  EXPECT_TRUE(CheckAgentName("node-3.rack_1").ok());
  for (const std::string& name : {std::string(), std::string("two words"), std::string(65, 'x')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckAgentName(name))) << name;
  }
  AgentFlags flags;
  CLI::App app("A program.", "program");
  AddAgentFlags(&app, "worker", "why", &flags);
  EXPECT_TRUE(CheckAgentName(flags.name).ok()) << flags.name;
}

}  // namespace
}  // namespace leap
