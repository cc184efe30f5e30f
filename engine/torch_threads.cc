#include "engine/internal/torch_threads.h"

#include <ATen/Parallel.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"

namespace leap {
namespace {

struct Held {
  Mutex mutex;
  int threads ABSL_GUARDED_BY(mutex) = 0;
  int holders ABSL_GUARDED_BY(mutex) = 0;
};

Held& State() {
  static auto& held = *new Held;
  return held;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TorchThreads>> TorchThreads::Hold(int threads) {
  if (threads < 1) {
    return absl::InvalidArgumentError(absl::StrCat("expected at least one thread, saw ", threads));
  }
  Held& held = State();
  MutexLock lock(&held.mutex);
  if (held.holders > 0 && held.threads != threads) {
    return absl::FailedPreconditionError(absl::StrCat("a model of this process computes with ",
                                                      held.threads, " threads; one with ", threads,
                                                      " needs another process"));
  }
  if (held.threads != threads) at::set_num_threads(threads);
  held.threads = threads;
  ++held.holders;
  return std::unique_ptr<TorchThreads>(new TorchThreads);
}

TorchThreads::~TorchThreads() {
  Held& held = State();
  MutexLock lock(&held.mutex);
  --held.holders;
}

}  // namespace leap
