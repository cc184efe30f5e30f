// Loading the CUDA half of the engine: every way in which it can be missing says what to do. Needs
// no GPU: the libraries are fakes (engine/cuda/fake_plugin.cc).
#include "engine/cuda_plugin.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "base/test_paths.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Fake(const std::string& name) {
  return BuildPath(absl::StrCat("engine/cuda/libleap_fake_cuda_", name, ".so"));
}

void ExpectError(const std::string& library, const std::string& found, const std::string& remedy) {
  const absl::Status status = LoadCudaPlugin(library).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition,
                               AllOf(HasSubstr("the job asks for spec.train.device: cuda, but "),
                                     HasSubstr(found), HasSubstr(remedy),
                                     HasSubstr("or set spec.train.device: cpu"))));
  EXPECT_THAT(status, HasReason(ErrorReason::kDeviceUnavailable));
}

TEST(CudaPluginTest, LibraryIsMissing) {
  ExpectError("libleap_engine_cuda_that_is_not.so",
              "libleap_engine_cuda_that_is_not.so is not where this program looks for it",
              "make build PRESET=cuda");
}

TEST(CudaPluginTest, SomethingItNeedsIsMissing) {
  ExpectError(Fake("needy"), "cannot be loaded on this machine (libleap_fake_cuda_absent.so:",
              "install what is named there");
}

TEST(CudaPluginTest, LibraryIsSomethingElse) {
  ExpectError("libm.so.6", "libm.so.6 has no symbol leap_cuda_plugin",
              "install the one that was built with this program");
}

TEST(CudaPluginTest, LibraryIsOfAnotherVersion) {
  ExpectError(Fake("version"), "is of another build (interface 999",
              "install the one that was built with this program");
}

TEST(CudaPluginTest, LibraryIsOfAnotherCompiler) {
  ExpectError(Fake("compiler"), "compiler of somebody else",
              "install the one that was built with this program");
}

TEST(CudaPluginTest, NoDriver) {
  ExpectError(Fake("driver"),
              "this machine has no GPU that CUDA can use (CUDA driver version is insufficient)",
              "nvidia-smi");
}

TEST(CudaPluginTest, LoadsAndIsGivenTheReaper) {
  ASSERT_OK_AND_ASSIGN(const CudaPlugin* plugin, LoadCudaPlugin(Fake("good")));
  ASSERT_OK_AND_ASSIGN(const int devices, plugin->device_count());  // buries something
  EXPECT_EQ(devices, 2);
  EXPECT_TRUE(DrainGroups(absl::Seconds(5)));
  EXPECT_THAT(plugin->make_copier(7),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("buried 2")));
  EXPECT_EQ(*LoadCudaPlugin(Fake("good")), plugin);
}

// More copies than its thread's queue holds, so that some are the caller's.
TEST(HostShardCopierTest, CopiesWhatWasThereBeforeTheNextWrite) {
  HostShardCopier copier;
  std::vector<float> flat(1 << 20, 1);
  std::vector<std::vector<float>> outs(40, std::vector<float>(flat.size() - 1));
  std::vector<std::unique_ptr<ShardCopy>> copies;
  for (std::vector<float>& out : outs) {
    ASSERT_OK_AND_ASSIGN(const HostPin pin, copier.Pin(out));
    ASSERT_OK_AND_ASSIGN(auto copy, copier.Start(flat.data(), {1, 1 << 20}, out.data()));
    copies.push_back(std::move(copy));
  }
  EXPECT_OK(copier.BeforeWrite());
  std::ranges::fill(flat, 2.f);
  for (size_t i = 0; i < outs.size(); ++i) {
    EXPECT_OK(copies[i]->Wait(absl::ZeroDuration()));
    EXPECT_TRUE(std::ranges::all_of(outs[i], [](float copied) { return copied == 1; })) << i;
  }
}

TEST(HostShardCopierTest, WaitingForACopyIsEnough) {
  HostShardCopier copier;
  std::vector<float> flat = {1, 2, 3, 4}, out(2);
  ASSERT_OK_AND_ASSIGN(const auto copy, copier.Start(flat.data(), {1, 3}, out.data()));
  EXPECT_OK(copy->Wait(absl::ZeroDuration()));
  EXPECT_THAT(out, ElementsAre(2, 3));
}

}  // namespace
}  // namespace leap
