#include "leapctl/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "leapctl/text.h"

namespace leap {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(20);
constexpr int kNoProgram = 127;

// Between fork and exec: only calls that are safe in a process with other threads.
[[noreturn]] void BecomeProgram(const char* program, char* const* arguments, int log, int null,
                                pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kNoProgram);  // it died before we asked
  setpgid(0, 0);                               // Ctrl-C is for leapctl, which ends us in order
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  dup2(null, STDIN_FILENO);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  execv(program, arguments);
  _exit(kNoProgram);
}

std::string EndingOf(int status) {
  if (WIFSIGNALED(status)) return absl::StrCat("signal ", WTERMSIG(status));
  return absl::StrCat("exit status ", WEXITSTATUS(status));
}

bool IsProgram(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error) && access(path.c_str(), X_OK) == 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Child>> Child::Start(const ChildOptions& options) {
  const auto refuse = [&](absl::string_view what) {
    return MakeError(
        absl::StatusCode::kFailedPrecondition, ErrorReason::kConfigInvalid,
        absl::StrCat("cannot start ", options.name, ": ", what, ": ", std::strerror(errno)));
  };
  const int log = open(options.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) return refuse(options.log);
  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  std::vector<std::string> words = options.arguments;
  words.insert(words.begin(), options.program);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  // A signal between fork and exec must not run our handlers, which share a pipe with the parent.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = fork();
  if (pid == 0) BecomeProgram(options.program.c_str(), arguments.data(), log, null, parent);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  const absl::Status failed = pid < 0 ? refuse("fork") : absl::OkStatus();
  close(log);
  if (null >= 0) close(null);
  if (!failed.ok()) return failed;
  return std::unique_ptr<Child>(new Child(options, pid));
}

Child::~Child() {
  if (!Running()) return;
  Signal(SIGKILL);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
}

bool Child::Running() {
  if (!ending_.empty()) return false;
  int status = 0;
  const pid_t ended = waitpid(pid_, &status, WNOHANG);
  if (ended == 0) return true;
  ending_ = ended == pid_ ? EndingOf(status) : "already gone";
  return false;
}

void Child::Signal(int signal) {
  if (Running()) kill(pid_, signal);
}

bool Child::WaitFor(absl::Duration timeout) {
  for (absl::Duration waited; Running(); waited += kPoll) {
    if (waited >= timeout) return false;
    RealClock().SleepFor(kPoll);
  }
  return true;
}

std::string Child::LogTail(int lines) const {
  std::ifstream file(options_.log);
  std::deque<std::string> tail;
  for (std::string line; std::getline(file, line);) {
    tail.push_back(absl::StrCat("  ", Clean(line)));
    if (static_cast<int>(tail.size()) > lines) tail.pop_front();
  }
  return absl::StrJoin(tail, "\n");
}

absl::StatusOr<std::string> FindProgram(const std::string& name, const std::string& room) {
  std::vector<std::filesystem::path> places;
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    places.push_back(self.parent_path() / name);
    places.push_back(self.parent_path().parent_path() / room / name);
  }
  const char* path = std::getenv("PATH");
  for (absl::string_view folder :
       absl::StrSplit(path == nullptr ? "" : path, ':', absl::SkipEmpty())) {
    places.push_back(std::filesystem::path(std::string(folder)) / name);
  }
  for (const std::filesystem::path& place : places) {
    if (IsProgram(place)) return place.string();
  }
  return MakeError(absl::StatusCode::kNotFound, ErrorReason::kConfigInvalid,
                   absl::StrCat(name, " is neither beside leapctl (", self.parent_path().string(),
                                ") nor on PATH; build it (make build) or install it there"),
                   {{"program", name}});
}

}  // namespace leap
