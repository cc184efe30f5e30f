// Test-only, for LD_PRELOAD: ends the process by SIGKILL at its n-th fsync or fdatasync
// (KILL_AT_SYNC=n), before the sync has happened (KILL_BEFORE_SYNC=1) or right after it. So a test
// stops the coordinator at every point where it has made, or was about to make, something durable;
// the product has no hook for it.
#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>

namespace {

int Synced(const char* name, int fd) {
  static std::atomic<long> count{0};
  static const char* const at = std::getenv("KILL_AT_SYNC");
  static const bool before = std::getenv("KILL_BEFORE_SYNC") != nullptr;
  const bool now = at != nullptr && count.fetch_add(1) + 1 == std::atol(at);
  if (now && before) kill(getpid(), SIGKILL);
  const int result = reinterpret_cast<int (*)(int)>(dlsym(RTLD_NEXT, name))(fd);
  if (now) kill(getpid(), SIGKILL);
  return result;
}

}  // namespace

extern "C" int fsync(int fd) { return Synced("fsync", fd); }
extern "C" int fdatasync(int fd) { return Synced("fdatasync", fd); }
