#include "leapctl/cli.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/str_split.h"
#include "base/test_paths.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

Invocation Parse(absl::string_view line) {
  return ParseCommandLine(absl::StrSplit(line, ' ', absl::SkipEmpty()));
}

struct BadLine {
  const char* line;
  const char* expected;  // how the message begins, after "leapctl: "
};

class BadLineTest : public testing::TestWithParam<BadLine> {};

TEST_P(BadLineTest, IsRefusedInTheseWords) {
  const Invocation invocation = Parse(GetParam().line);

  EXPECT_EQ(invocation.run, nullptr);
  EXPECT_EQ(invocation.code, ExitCode::kUsage);
  EXPECT_THAT(invocation.text, StartsWith(absl::StrCat("leapctl: ", GetParam().expected)));
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadLineTest,
    testing::Values(
        BadLine{"", "expected a command: submit, run, list"},
        BadLine{"sumbit x.yaml", "unknown command 'sumbit', did you mean 'submit'?"},
        BadLine{"frobnicate", "unknown command 'frobnicate'\n"},
        BadLine{"checkpoint", "expected a command: export"},
        BadLine{"snapshot exprt", "unknown command 'exprt', did you mean 'export'?"},
        BadLine{"submit", "FILE is required"}, BadLine{"get", "JOB is required"},
        BadLine{"get a b", "The following argument was not expected: b"},
        BadLine{"submit --wiat x.yaml", "unknown flag '--wiat', did you mean '--wait'?"},
        BadLine{"list --outptu json", "unknown flag '--outptu', did you mean '--output'?"},
        BadLine{"list -x", "unknown flag '-x'"},
        BadLine{"--cordinator=a:1 list",
                "unknown flag '--cordinator', did you mean '--coordinator'?"},
        BadLine{
            "list -o jsn",
            "--output: expected one of table, json, yaml, jsonl, saw 'jsn', did you mean 'json'?"},
        BadLine{"events demo --last 0", "--last: Value 0 not in range 1 to 1000000"},
        BadLine{"events demo --last many", "--last: Value many not in range 1 to 1000000"},
        BadLine{"run x.yaml --workers 0", "--workers: Value 0 not in range 1 to 64"},
        BadLine{"run x.yaml --verifiers -1", "--verifiers: Value -1 not in range 0 to 64"},
        BadLine{"snapshot export demo --out f", "--step is required"},
        BadLine{"snapshot export demo --out f --step -3",
                "--step: Value -3 not in range 0 to 1000000000"},
        BadLine{"checkpoint export demo", "--out is required"},
        BadLine{"completion tcsh", "SHELL: tcsh not in {bash,zsh,fish}"},
        BadLine{"docs jobs", "PAGE: jobs not in {job,schema,cli}"}));

TEST(CommandLineTest, FlagsOfEveryCommandMayStandAnywhere) {
  for (const char* line :
       {"--coordinator h:1 -o json get demo-1", "get demo-1 -o json --coordinator h:1",
        "get --output=json --coordinator=h:1 demo-1"}) {
    const Invocation invocation = Parse(line);
    ASSERT_NE(invocation.run, nullptr) << line << ": " << invocation.text;
    EXPECT_EQ(invocation.run, &Get);
    EXPECT_EQ(invocation.options.job, "demo-1");
    EXPECT_EQ(invocation.options.output, OutputFormat::kJson);
    EXPECT_EQ(invocation.options.coordinator, "h:1");
  }
}

TEST(CommandLineTest, TheCoordinatorComesFromTheFlagThenTheEnvironmentThenTheDefault) {
  unsetenv("LEAP_COORDINATOR");
  EXPECT_EQ(Parse("list").options.coordinator, "127.0.0.1:7070");
  setenv("LEAP_COORDINATOR", "c:7", 1);
  EXPECT_EQ(Parse("list").options.coordinator, "c:7");
  EXPECT_EQ(Parse("list --coordinator d:8").options.coordinator, "d:8");
  unsetenv("LEAP_COORDINATOR");
}

TEST(CommandLineTest, CommandsOfTwoWords) {
  EXPECT_EQ(Parse("checkpoint export demo --out dir").run, &CheckpointExport);
  const Invocation invocation =
      Parse("snapshot export demo --step 400 --out f.safetensors --force");
  EXPECT_EQ(invocation.run, &SnapshotExport);
  EXPECT_EQ(invocation.options.step, 400);
  EXPECT_TRUE(invocation.options.force);
}

TEST(CommandLineTest, HelpIsNoErrorAndNamesTheExitCodes) {
  const Invocation help = Parse("--help");
  EXPECT_EQ(help.code, ExitCode::kOk);
  for (const char* word : {"submit", "describe", "Exit status:", "130", "LEAP_COORDINATOR"}) {
    EXPECT_THAT(help.text, HasSubstr(word));
  }
  EXPECT_THAT(Parse("snapshot export --help").text, HasSubstr("leapctl snapshot export"));
  EXPECT_THAT(Parse("--version").text, StartsWith("leapctl "));
}

TEST(CommandLineTest, TheReferencePageIsTheCodes) {
  std::ifstream file(SourcePath("docs/leapctl.md"));
  std::stringstream page;
  page << file.rdbuf();
  EXPECT_EQ(page.str(), CommandReferenceMarkdown()) << "run: leapctl docs cli > docs/leapctl.md";
}

// What bash offers after `line`; the word at its end is being typed. Its leapctl knows one job at
// the usual coordinator and one at far:1.
std::string BashOffers(const std::string& line) {
  const std::string path = testing::TempDir() + "/leapctl-completion.bash";
  std::ofstream(path) << CompletionScript("bash")
                      << "leapctl() { local job=demo-1; [[ $* == *'--coordinator far:1'* ]] && "
                         "job=far-1; echo \"{\\\"job\\\":\\\"$job\\\",\\\"x\\\":1}\"; }\n"
                      << "COMP_LINE=$1\n"
                      << "read -ra COMP_WORDS <<< \"$1\"; [[ $1 == *' ' ]] && COMP_WORDS+=('')\n"
                      << "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _leapctl; "
                         "echo \"${COMPREPLY[*]}\"\n";
  const std::string command = absl::StrCat("bash ", path, " '", line, "'");
  std::string offers;
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  while (pipe != nullptr && fgets(buffer, sizeof buffer, pipe) != nullptr) offers += buffer;
  EXPECT_EQ(pclose(pipe), 0);
  return offers;
}

TEST(CompletionTest, BashCompletesCommandsFlagsAndJobs) {
  EXPECT_EQ(BashOffers("leapctl des"), "describe\n");
  EXPECT_EQ(BashOffers("leapctl checkpoint ex"), "export\n");
  EXPECT_EQ(BashOffers("leapctl checkpoint export --f"), "--force\n");
  EXPECT_EQ(BashOffers("leapctl list --out"), "--output\n");
  EXPECT_EQ(BashOffers("leapctl list -o y"), "yaml\n");
  EXPECT_EQ(BashOffers("leapctl completion f"), "fish\n");
  EXPECT_EQ(BashOffers("leapctl describe "), "demo-1\n");
  EXPECT_EQ(BashOffers("leapctl summary demo-1 --baseline d"), "demo-1\n");
  EXPECT_EQ(BashOffers("leapctl submit /etc/host"), BashOffers("leapctl run /etc/host"));
  EXPECT_THAT(BashOffers("leapctl submit /etc/host"), HasSubstr("/etc/hosts"));
}

TEST(CompletionTest, JobsAreThoseOfTheCoordinatorThatTheLineNames) {
  EXPECT_EQ(BashOffers("leapctl --coordinator far:1 describe "), "far-1\n");
}

// zsh ties the variable `path` to PATH: a function that has one of its own finds no program.
TEST(CompletionTest, ZshKeepsItsPath) {
  EXPECT_THAT(CompletionScript("zsh"), Not(HasSubstr(" path=")));
}

TEST(CompletionTest, EveryShellHasAScriptWithEveryCommand) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    EXPECT_THAT(CompletionScript(shell), HasSubstr("candidates")) << shell;
    EXPECT_THAT(CompletionScript(shell), HasSubstr("with-baseline")) << shell;
    EXPECT_THAT(CompletionScript(shell), HasSubstr("table json yaml jsonl")) << shell;
  }
}

}  // namespace
}  // namespace leap
