#include "engine/device.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/cuda_plugin.h"
#include "engine/internal/torch_errors.h"

namespace leap {
namespace {

class HostDevice final : public Device {
 public:
  std::string tensors() const override { return "cpu"; }
  bool on_host() const override { return true; }

  absl::StatusOr<std::unique_ptr<Group>> Join(const GroupOptions& options,
                                              std::shared_ptr<Interrupt> interrupt) override {
    return Group::Join(options, std::move(interrupt));
  }

  absl::StatusOr<std::unique_ptr<ShardCopier>> MakeCopier() override {
    return std::make_unique<HostShardCopier>();
  }

  absl::Status Rebase(const at::Tensor& live, std::span<const float> displacement,
                      const at::Tensor& out) override {
    const float* from = live.const_data_ptr<float>();
    float* to = out.data_ptr<float>();
    for (size_t i = 0; i < displacement.size(); ++i) to[i] = from[i] + displacement[i];
    return absl::OkStatus();
  }
};

class CudaDevice final : public Device {
 public:
  CudaDevice(const CudaPlugin* plugin, int index) : plugin_(*plugin), index_(index) {}

  std::string tensors() const override { return plugin_.tensors(index_); }
  bool on_host() const override { return false; }

  absl::StatusOr<std::unique_ptr<Group>> Join(const GroupOptions& options,
                                              std::shared_ptr<Interrupt> interrupt) override {
    return JoinCuda(plugin_, options, index_, std::move(interrupt));
  }

  absl::StatusOr<std::unique_ptr<ShardCopier>> MakeCopier() override {
    return plugin_.make_copier(index_);
  }

  absl::Status Rebase(const at::Tensor& live, std::span<const float> displacement,
                      const at::Tensor& out) override {
    return Fenced("applying a leap", [&] {
      auto* const values = const_cast<float*>(displacement.data());  // only read
      out.copy_(at::from_blob(values, out.sizes(), at::kFloat));
      return plugin_.add_displacement(index_, live.const_data_ptr<float>(),
                                      out.const_data_ptr<float>(), out.data_ptr<float>(),
                                      out.numel());
    });
  }

 private:
  const CudaPlugin& plugin_;
  const int index_;
};

}  // namespace

absl::Status Device::PrepareGpu() { return LoadCudaPlugin().status(); }

absl::StatusOr<std::unique_ptr<Device>> Device::Open(const std::string& name) {
  if (name == "cpu") return std::make_unique<HostDevice>();
  if (name == "cuda") {
    LEAP_ASSIGN_OR_RETURN(const CudaPlugin* plugin, LoadCudaPlugin());
    return std::make_unique<CudaDevice>(plugin, /*index=*/0);
  }
  return absl::InvalidArgumentError(absl::StrCat("expected device cpu or cuda, saw '", name, "'"));
}

}  // namespace leap
