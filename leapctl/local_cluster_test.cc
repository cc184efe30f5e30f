// The cluster of leapctl run, with programs that are shell scripts.
#include "leapctl/local_cluster.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Writes its pid into ARGUMENT-OF---name.pid (or coordinator.pid), then idles until it is told to
// end.
constexpr absl::string_view kIdle =
    "trap 'echo bye; exit 0' TERM\n"
    "while true; do read -r -t 1 <> \"$fifo\"; done\n";

class LocalClusterTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::path(testing::TempDir()) / absl::StrCat("local-cluster-", getpid());
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    const std::string prologue = absl::StrCat(
        "#!/bin/bash\n"
        "name=coordinator\n"
        "while [ $# -gt 0 ]; do case $1 in --name) name=$2;; --port-file) port_file=$2;; esac; "
        "shift; done\n"
        "echo $$ > ",
        dir_.string(),
        "/$name.pid\n"
        "fifo=",
        dir_.string(), "/$name.fifo; mkfifo $fifo\n");
    Write("leap-coordinator", absl::StrCat(prologue, "echo 4711 > $port_file\n", kIdle));
    Write("leap-worker", absl::StrCat(prologue, kIdle));
    Write("leap-verifier", absl::StrCat(prologue, kIdle));
  }
  void TearDown() override { fs::remove_all(dir_); }

  void Write(const std::string& program, absl::string_view script) {
    const fs::path path = dir_ / program;
    std::ofstream(path) << script;
    fs::permissions(path, fs::perms::owner_all);
  }
  LocalClusterOptions Options(int workers, int verifiers) {
    return {
        .state_dir = dir_.string(),
        .workers = workers,
        .verifiers = verifiers,
        .find = [this](const std::string& name, const std::string&) -> absl::StatusOr<std::string> {
          return (dir_ / name).string();
        }};
  }
  // The pid that a program wrote, once it has.
  pid_t PidOf(const std::string& name) {
    pid_t pid = 0;
    while (!(std::ifstream(dir_ / (name + ".pid")) >> pid))
      RealClock().SleepFor(absl::Milliseconds(5));
    return pid;
  }
  // Whether it runs: one that nobody has reaped yet does not.
  static bool Alive(pid_t pid) {
    std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
    const std::string text((std::istreambuf_iterator<char>(status)),
                           std::istreambuf_iterator<char>());
    return !text.empty() && text.find("State:\tZ") == std::string::npos;
  }

  fs::path dir_;
  StopSignal stop_;
};

TEST_F(LocalClusterTest, StartsAllAndEndsAll) {
  std::vector<pid_t> pids;
  {
    ASSERT_OK_AND_ASSIGN(const auto cluster, LocalCluster::Start(Options(2, 1), stop_));
    EXPECT_EQ(cluster->coordinator(), "127.0.0.1:4711");
    EXPECT_OK(cluster->Check());
    for (const char* name : {"coordinator", "worker-0", "worker-1", "verifier-0"})
      pids.push_back(PidOf(name));
    for (pid_t pid : pids) EXPECT_TRUE(Alive(pid));
  }
  for (pid_t pid : pids) EXPECT_FALSE(Alive(pid));
}

TEST_F(LocalClusterTest, TellsOfALostVerifierAndGoesOn) {
  ASSERT_OK_AND_ASSIGN(const auto cluster, LocalCluster::Start(Options(1, 1), stop_));
  const pid_t pid = PidOf("verifier-0");
  kill(pid, SIGKILL);
  while (cluster->News().empty() && Alive(pid)) {
  }

  EXPECT_OK(cluster->Check());
}

TEST_F(LocalClusterTest, WithoutAnyWorkerNothingGoesOn) {
  ASSERT_OK_AND_ASSIGN(const auto cluster, LocalCluster::Start(Options(1, 0), stop_));
  const pid_t pid = PidOf("worker-0");
  kill(pid, SIGKILL);
  std::vector<std::string> news;
  while (news.empty()) news = cluster->News();

  EXPECT_THAT(news, ElementsAre(HasSubstr("worker-0 ended (signal 9)")));
  EXPECT_THAT(cluster->Check(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("worker-0 ended (signal 9)")));
  EXPECT_TRUE(cluster->News().empty()) << "told once";
}

TEST_F(LocalClusterTest, ACoordinatorThatEndsAtOnceIsExplainedByItsLog) {
  Write("leap-coordinator", "#!/bin/bash\necho 'port taken'\nexit 2\n");

  EXPECT_THAT(LocalCluster::Start(Options(1, 0), stop_).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("(exit status 2)")));
  EXPECT_THAT(LocalCluster::Start(Options(1, 0), stop_).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("  port taken")));
}

TEST_F(LocalClusterTest, CtrlCWhileStartingIsObeyed) {
  Write("leap-coordinator", "#!/bin/bash\nexec sleep 100\n");
  stop_.Request();

  EXPECT_THAT(LocalCluster::Start(Options(1, 0), stop_).status(),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(LocalClusterTest, AMissingProgramIsNamed) {
  EXPECT_THAT(FindProgram("leap-no-such-program", "nowhere").status(),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("leap-no-such-program is neither beside leapctl")));
}

// Children follow leapctl even if it is killed in a way that it cannot catch.
TEST_F(LocalClusterTest, NobodyOutlivesAKilledParent) {
  const pid_t parent = fork();
  if (parent == 0) {
    StopSignal stop;
    const auto cluster = LocalCluster::Start(Options(1, 1), stop);
    if (cluster.ok()) pause();
    _exit(1);
  }
  const pid_t worker = PidOf("worker-0");
  const pid_t verifier = PidOf("verifier-0");
  kill(parent, SIGKILL);
  waitpid(parent, nullptr, 0);
  for (int i = 0; i < 1000 && (Alive(worker) || Alive(verifier)); ++i) {
    RealClock().SleepFor(absl::Milliseconds(5));
  }

  EXPECT_FALSE(Alive(worker));
  EXPECT_FALSE(Alive(verifier));
}

}  // namespace
}  // namespace leap
