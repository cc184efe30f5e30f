#include "base/signals.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "absl/time/clock.h"

namespace leap {
namespace {

constexpr int kNone = -1;
constexpr int kByProgram = 0;

// What the handler may touch: lock-free atomics and write(2).
std::atomic<int> g_write_fd{-1};
std::atomic<int> g_stop{kNone};
static_assert(std::atomic<int>::is_always_lock_free);

void Raise(int stop) {
  int none = kNone;
  if (!g_stop.compare_exchange_strong(none, stop)) return;
  const char byte = 1;
  while (write(g_write_fd.load(), &byte, 1) < 0 && errno == EINTR) {
  }
}

void OnSignal(int signal) {
  const int saved_errno = errno;
  // From now on the signal does what it does by default: the next one ends the process. Of a closed
  // terminal kernel and shell tell one after the other, and nobody insists.
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  if (signal != SIGHUP) sigaction(signal, &action, nullptr);
  Raise(signal);
  errno = saved_errno;
}

void Install(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

// By nohup.
bool Ignored(int signal) {
  struct sigaction action = {};
  sigaction(signal, nullptr, &action);
  return action.sa_handler == SIG_IGN;
}

}  // namespace

StopSignal::StopSignal() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0)
    std::abort();  // no descriptor left at start-up: nothing would work
  read_fd_ = ends[0];
  g_stop = kNone;
  g_write_fd = ends[1];
  Install(SIGPIPE, SIG_IGN);
  Install(SIGTERM, OnSignal);
  Install(SIGINT, OnSignal);
  if (!Ignored(SIGHUP)) Install(SIGHUP, OnSignal);
}

StopSignal::~StopSignal() {
  Install(SIGTERM, SIG_DFL);
  Install(SIGINT, SIG_DFL);
  if (!Ignored(SIGHUP)) Install(SIGHUP, SIG_DFL);
  close(g_write_fd.exchange(-1));
  close(read_fd_);
}

int StopSignal::Wait() {
  std::optional<int> stop;
  while (!stop) stop = WaitFor(absl::Hours(1));
  return *stop;
}

std::optional<int> StopSignal::WaitFor(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    const int64_t left_ms =
        std::clamp<int64_t>(absl::ToInt64Milliseconds(deadline - absl::Now()), 0, 3'600'000);
    pollfd readable = {.fd = read_fd_, .events = POLLIN, .revents = 0};
    const int ready = poll(&readable, 1, static_cast<int>(left_ms));
    if (ready > 0) return g_stop.load();
    const bool interrupted = ready < 0 && errno == EINTR;
    if (!interrupted && absl::Now() >= deadline) return std::nullopt;
  }
}

bool StopSignal::requested() const { return g_stop.load() != kNone; }

void StopSignal::Request() { Raise(kByProgram); }

}  // namespace leap
