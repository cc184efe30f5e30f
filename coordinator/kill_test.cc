// kill -9 of the real coordinator at every durable transition of a job's life (start, epoch,
// snapshots, a leap's PREPARE, COMMIT and outcome, the job's end), just before it is durable and
// just after: each time it is started again on the same ledger, its agents come back, and the job
// ends as if nothing had happened.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_matchers.h"
#include "base/test_paths.h"
#include "coordinator/store.h"
#include "coordinator/test_cluster.h"
#include "gtest/gtest.h"
#include "service/test_dir.h"

namespace leap {
namespace {

// The program as it is installed; killed if the test ends first.
class Process {
 public:
  Process(const std::string& state_dir, const std::string& listen,
          std::vector<std::string> environment) {
    const std::string program = BuildPath("coordinator/leap-coordinator");
    const std::string port_file = state_dir + "/port";
    unlink(port_file.c_str());
    std::vector<std::string> words = {program,    "--state-dir", state_dir,
                                      "--listen", listen,        "--port-file",
                                      port_file,  "--log-level", "error"};
    std::vector<char*> argv, envp;
    for (std::string& word : words) argv.push_back(word.data());
    for (std::string& variable : environment) envp.push_back(variable.data());
    argv.push_back(nullptr);
    envp.push_back(nullptr);
    EXPECT_EQ(posix_spawn(&pid_, program.c_str(), nullptr, nullptr, argv.data(), envp.data()), 0);
    for (int i = 0; i < 2000 && port_ == 0 && !Ended(); ++i) {
      if (!absl::SimpleAtoi(TestDir::Read(port_file), &port_))
        RealClock().SleepFor(absl::Milliseconds(2));
    }
  }
  ~Process() {
    if (!ended_) kill(pid_, SIGKILL);
    if (!ended_) waitpid(pid_, nullptr, 0);
  }

  int port() const { return port_; }  // 0: it ended before it listened
  bool Ended() {
    if (!ended_ && waitpid(pid_, &status_, WNOHANG) == pid_) ended_ = true;
    return ended_;
  }
  bool Killed() { return Ended() && WIFSIGNALED(status_) && WTERMSIG(status_) == SIGKILL; }

 private:
  pid_t pid_ = 0;
  int port_ = 0;
  int status_ = 0;
  bool ended_ = false;
};

std::string Spec() {
  return PaperJob(
      "a",
      "  verifiers: {min_replicas: 1}\n"
      "  leap: {policy: line-search, interval_steps: 50, warmup_steps: 0, audit_every_leaps: 0,\n"
      "         regimes: [unknown, chaotic, transition, stable]}\n");
}

// One life of a job, with the coordinator killed at its `at`-th sync (0: never).
class Life {
 public:
  Life(int at, bool before) {
    std::vector<std::string> environment;
    if (at > 0) {
      environment = {absl::StrCat("LD_PRELOAD=", BuildPath("coordinator/libkill_at_sync.so")),
                     absl::StrCat("KILL_AT_SYNC=", at),
                     // AddressSanitizer otherwise refuses to start behind a preloaded library.
                     "ASAN_OPTIONS=verify_asan_link_order=0"};
      if (before) environment.push_back("KILL_BEFORE_SYNC=1");
    }
    coordinator_ = std::make_unique<Process>(dir_.path(), "127.0.0.1:0", environment);
    if (coordinator_->port() == 0) Restart();  // killed while it made the ledger
    address_ = absl::StrCat("127.0.0.1:", coordinator_->port());
    worker_ = std::make_unique<PaperAgent>(address_, "w0", v1::ROLE_WORKER);
    verifier_ = std::make_unique<PaperAgent>(address_, "v0", v1::ROLE_VERIFIER);
  }

  // Runs the job to its end, whatever happens to the coordinator; false: it did not end in time.
  bool Run() {
    // It may be killed between two looks: the next is not to wait for who starts it again, us.
    TestClient client(address_, "", absl::Seconds(1));
    const absl::Time give_up = RealClock().Now() + absl::Seconds(30);
    int64_t step = 50;
    bool ending = false;
    while (RealClock().Now() < give_up) {
      if (coordinator_->Ended()) Restart();
      const absl::StatusOr<v1::Job> job = Look(client);
      if (job.ok() && job->state() == v1::Job::SUCCEEDED) return true;
      if (job.ok() && job->state() == v1::Job::RUNNING) {
        const bool settled = job->leaps().committed() > 0 && worker_->applied().size() >= 1;
        if (!ending && settled && Applied(client) > 0) {
          worker_->EndJob(1000);
          ending = true;
        }
        if (!ending) worker_->Snapshot(step += 50);
      }
      RealClock().SleepFor(absl::Milliseconds(30));
    }
    return false;
  }

  // What the ledger and the worker say of the leaps.
  void Check() {
    coordinator_.reset();  // killed: what counts is on disk
    ASSERT_OK_AND_ASSIGN(auto store, Store::Open(dir_.path() + "/ledger.db"));
    ASSERT_OK_AND_ASSIGN(const auto page, store->Leaps(job_, 0, 1000));
    std::set<uint64_t> applied;
    std::string told;
    for (const machine::LeapRecord& leap : page.rows) {
      absl::StrAppend(&told, "\n  leap ", leap.leap, ": ", LeapStateName(leap.state), ", ",
                      leap.reason);
      EXPECT_NE(leap.state, machine::LeapState::kPreparing) << "leap " << leap.leap;
      EXPECT_NE(leap.state, machine::LeapState::kCommitted) << "leap " << leap.leap;
      if (leap.state == machine::LeapState::kApplied) applied.insert(leap.leap);
    }
    EXPECT_EQ(applied, worker_->applied()) << "ledger and rank do not agree:" << told;
  }

  bool killed() const { return killed_; }

 private:
  absl::StatusOr<v1::Job> Look(TestClient& client) {
    if (job_.empty()) {
      const auto made = client.Create(Spec(), "the-request");  // safe to repeat
      if (made.ok()) job_ = made->job();
      return made;
    }
    return client.Get(job_);
  }

  int Applied(TestClient& client) {
    grpc::ClientContext context;
    client.Prepare(&context);
    v1::ListLeapsRequest request;
    request.set_job(job_);
    v1::ListLeapsResponse response;
    int applied = 0;
    if (!client.stub().ListLeaps(&context, request, &response).ok()) return 0;
    for (const v1::Leap& leap : response.leaps()) applied += leap.state() == v1::Leap::APPLIED;
    return applied;
  }

  void Restart() {
    killed_ = killed_ || coordinator_->Killed();
    const std::string listen = address_.empty() ? "127.0.0.1:0" : address_;
    coordinator_ = std::make_unique<Process>(dir_.path(), listen, std::vector<std::string>());
    ASSERT_NE(coordinator_->port(), 0);
  }

  TestDir dir_;
  std::unique_ptr<Process> coordinator_;
  std::string address_;
  std::string job_;
  bool killed_ = false;
  std::unique_ptr<PaperAgent> worker_;
  std::unique_ptr<PaperAgent> verifier_;
};

// Syncs are counted from the first one of the process; beyond the last the coordinator is not
// killed any more.
void Walk(bool before) {
  int kills = 0;
  for (int at = 1; at < 200; ++at) {
    SCOPED_TRACE(absl::StrCat("killed ", before ? "before" : "after", " sync ", at));
    Life life(at, before);
    ASSERT_TRUE(life.Run());
    life.Check();
    if (testing::Test::HasFailure()) return;
    if (!life.killed()) break;
    ++kills;
  }
  EXPECT_GT(kills, 10) << "a job's life has more durable transitions than that";
  std::printf("killed %s each of %d syncs; the job ended well every time\n",
              before ? "before" : "after", kills);
}

TEST(KillTest, AfterEveryDurableTransition) { Walk(false); }
TEST(KillTest, BeforeEveryDurableTransition) { Walk(true); }

}  // namespace
}  // namespace leap
