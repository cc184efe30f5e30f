// Fakes of libleap_engine_cuda.so for engine/cuda_plugin_test.cc; FAKE_… says what is wrong.
#include <atomic>

#include "absl/strings/str_cat.h"
#include "engine/cuda/plugin.h"

#ifndef FAKE_VERSION
#define FAKE_VERSION leap::kCudaPluginVersion
#endif
#ifndef FAKE_COMPILER
#define FAKE_COMPILER leap::kCudaPluginCompiler
#endif

#ifdef FAKE_NEEDS
extern "C" int leap_fake_cuda_absent();
int needed = leap_fake_cuda_absent();
#endif

namespace {

const leap::CudaHost* host = nullptr;
std::atomic<int> buried = 0;

absl::StatusOr<int> DeviceCount() {
#ifdef FAKE_NO_DRIVER
  return absl::FailedPreconditionError("CUDA driver version is insufficient");
#else
  host->bury([] { ++buried; });
  return 2;
#endif
}

absl::StatusOr<std::unique_ptr<leap::ShardCopier>> MakeCopier(int) {
  return absl::UnimplementedError(absl::StrCat("buried ", buried.load()));
}

constexpr leap::CudaPlugin kPlugin = {.version = FAKE_VERSION,
                                      .compiler = FAKE_COMPILER,
                                      .device_count = DeviceCount,
                                      .tensors = nullptr,
                                      .identity = nullptr,
                                      .join = nullptr,
                                      .make_copier = MakeCopier,
                                      .add_displacement = nullptr};

}  // namespace

extern "C" const leap::CudaPlugin* leap_cuda_plugin(const leap::CudaHost* program) {
  host = program;
  return &kPlugin;
}
