#include "engine/cuda_plugin.h"

#include <dlfcn.h>

#include <cstddef>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "engine/reaper.h"

namespace leap {
namespace {

constexpr CudaHost kHost = {
    .bury = [](absl::AnyInvocable<void()> end) { Reaper::Get().Bury(std::move(end)); }};

absl::Status Unavailable(absl::string_view found, absl::string_view remedy) {
  return MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kDeviceUnavailable,
                   absl::StrCat("the job asks for spec.train.device: cuda, but ", found, "; ",
                                remedy, ", or set spec.train.device: cpu"),
                   {{"device", "cuda"}});
}

// dlerror() begins with the name of the library that is not there, which may be another one.
absl::Status CannotLoad(const std::string& library, absl::string_view reason) {
  if (absl::StartsWith(reason, absl::StrCat(library, ": cannot open"))) {
    return Unavailable(
        absl::StrCat(library, " is not where this program looks for it (", reason, ")"),
        "build Leap with it (scripts/setup.sh --cuda, then make build PRESET=cuda) and put its "
        "folder "
        "into LD_LIBRARY_PATH");
  }
  return Unavailable(
      absl::StrCat(library, " cannot be loaded on this machine (", reason, ")"),
      "install what is named there (docs/decisions/2026-11-23-cuda.md lists what it needs) and put "
      "its folder into LD_LIBRARY_PATH");
}

absl::StatusOr<const CudaPlugin*> Open(const std::string& library) {
  dlerror();
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* reason = dlerror();
    return CannotLoad(library, reason == nullptr ? "no reason given" : reason);
  }
  const auto entry = reinterpret_cast<decltype(&leap_cuda_plugin)>(dlsym(handle, kCudaPluginEntry));
  if (entry == nullptr) {
    return Unavailable(absl::StrCat(library, " has no symbol ", kCudaPluginEntry),
                       "install the one that was built with this program");
  }
  return entry(&kHost);
}

absl::Status CheckBuild(const CudaPlugin& plugin, const std::string& library) {
  if (plugin.version == kCudaPluginVersion &&
      absl::string_view(plugin.compiler) == kCudaPluginCompiler) {
    return absl::OkStatus();
  }
  return Unavailable(absl::StrCat(library, " is of another build (interface ", plugin.version,
                                  ", compiler ", plugin.compiler, "; this program: interface ",
                                  kCudaPluginVersion, ", compiler ", kCudaPluginCompiler, ")"),
                     "install the one that was built with this program");
}

// NCCL wants a GPU for each rank, and what it says where two share one does not name them. Those
// two fail; the others are sound, and wait for the epoch to be given up.
absl::Status CheckApart(const CudaPlugin& plugin, int device, const GroupOptions& options,
                        Interrupt& interrupt, Group& host_group) {
  LEAP_ASSIGN_OR_RETURN(const CudaIdentity mine, plugin.identity(device));
  LEAP_ASSIGN_OR_RETURN(const auto all, host_group.GatherInts(mine));
  bool apart = true;
  for (size_t a = 0; a < all.size(); ++a) {
    for (size_t b = a + 1; b < all.size(); ++b) {
      if (all[a] != all[b]) continue;
      apart = false;
      const auto rank = static_cast<size_t>(options.rank);
      if (rank != a && rank != b) continue;
      return Unavailable(absl::StrCat("ranks ", a, " and ", b, " are on the same GPU"),
                         "start each worker with a GPU of its own (CUDA_VISIBLE_DEVICES=0 for one, "
                         "CUDA_VISIBLE_DEVICES=1 for the next)");
    }
  }
  if (apart) return absl::OkStatus();
  const absl::Status waited = interrupt.Await([] { return false; }, options.join_timeout,
                                              "other ranks are on the same GPU");
  if (absl::IsAborted(waited)) return waited;
  return MakeError(absl::StatusCode::kUnavailable, ErrorReason::kCollectiveFailed,
                   waited.message());
}

}  // namespace

absl::StatusOr<const CudaPlugin*> LoadCudaPlugin(const std::string& library) {
  LEAP_ASSIGN_OR_RETURN(const CudaPlugin* plugin, Open(library));
  LEAP_RETURN_IF_ERROR(CheckBuild(*plugin, library));
  if (const absl::StatusOr<int> devices = plugin->device_count(); !devices.ok()) {
    return Unavailable(
        absl::StrCat("this machine has no GPU that CUDA can use (", devices.status().message(),
                     ")"),
        "see whether nvidia-smi lists one and whether its driver is new enough for CUDA 13 "
        "(580 or later)");
  }
  return plugin;
}

absl::StatusOr<std::unique_ptr<Group>> JoinCuda(const CudaPlugin& plugin,
                                                const GroupOptions& options, int device,
                                                std::shared_ptr<Interrupt> interrupt) {
  LEAP_ASSIGN_OR_RETURN(std::unique_ptr<Group> host_group, Group::Join(options, interrupt));
  LEAP_RETURN_IF_ERROR(CheckApart(plugin, device, options, *interrupt, *host_group));
  return plugin.join(options, device, std::move(interrupt), std::move(host_group));
}

}  // namespace leap
