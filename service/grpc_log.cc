#include "service/grpc_log.h"

#include <cstring>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/mutex.h"
#include "grpc/support/log.h"

namespace leap {
namespace {

struct LastLine {
  Mutex mutex;
  std::string text ABSL_GUARDED_BY(mutex);

  // Whether `line` says something new.
  bool Replace(const std::string& line) {
    MutexLock lock(&mutex);
    if (text == line) return false;
    text = line;
    return true;
  }
};

void Log(gpr_log_func_args* args) {
  static LastLine* const last = new LastLine;  // gRPC's threads may log after main has returned
  const char* slash = std::strrchr(args->file, '/');
  const std::string where =
      absl::StrCat(slash != nullptr ? slash + 1 : args->file, ":", args->line);
  if (!last->Replace(absl::StrCat(where, " ", args->message))) return;
  if (args->severity == GPR_LOG_SEVERITY_ERROR) {
    LogWarning("grpc", {{"where", where}, {"message", args->message}});
  } else {
    LogDebug("grpc", {{"where", where}, {"message", args->message}});
  }
}

}  // namespace

void RouteGrpcLog() {
  static std::once_flag once;
  std::call_once(once, [] { gpr_set_log_function(Log); });
}

}  // namespace leap
