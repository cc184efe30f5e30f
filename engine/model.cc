#include "engine/model.h"

#include <ATen/core/Reduction.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/from_blob.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/device.h"
#include "engine/internal/adamw.h"
#include "engine/internal/autocast.h"
#include "engine/internal/flat_buffers.h"
#include "engine/internal/gpt2.h"
#include "engine/internal/gradient_buckets.h"
#include "engine/internal/initial_weights.h"
#include "engine/internal/torch_errors.h"
#include "engine/internal/torch_threads.h"

namespace leap {
namespace {

using at::Tensor;

// Floats of the largest intermediate of a chunk without gradient: 32 MiB.
constexpr int64_t kChunkFloats = int64_t{1} << 23;

// Fires after the gradient of one tensor has been added to its view.
class AnnounceTensor final : public torch::autograd::PostAccumulateGradHook {
 public:
  AnnounceTensor(GradientBuckets* buckets, size_t index) : buckets_(buckets), index_(index) {}
  void operator()(const Tensor& /*parameter*/) override { buckets_->TensorReady(index_); }

 private:
  GradientBuckets* const buckets_;
  const size_t index_;
};

// Rows as they come in: a batch of token windows, one more token than positions.
struct Batch {
  std::span<const int64_t> tokens;
  int64_t rows = 0;
  int64_t row_tokens = 0;

  Batch Part(int64_t begin, int64_t count) const {
    return {tokens.subspan(static_cast<size_t>(begin * row_tokens),
                           static_cast<size_t>(count * row_tokens)),
            count, row_tokens};
  }
};

Tensor HostView(std::span<float> values) {
  return at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::kFloat);
}

class Gpt2Model final : public Model {
 public:
  Gpt2Model(const ModelConfig& config, const Options& options, std::unique_ptr<Device> device,
            std::unique_ptr<ShardCopier> copier, std::unique_ptr<TorchThreads> threads)
      : config_(config),
        layout_(LayoutOf(config)),
        owner_(std::move(device)),
        device_(owner_->tensors()),
        bf16_(options.precision == "bf16"),
        threads_(std::move(threads)),
        runs_(layout_),
        buckets_(layout_, options.bucket_floats),
        buffers_(layout_, device_),
        copier_(std::move(copier)) {
    for (size_t i = 0; i < buffers_.parameters.size(); ++i) {
      torch::autograd::impl::set_post_acc_grad_hooks(
          buffers_.parameters[i], std::make_unique<AnnounceTensor>(&buckets_, i));
    }
  }

  const WeightLayout& layout() const override { return layout_; }
  const ModelConfig& config() const override { return config_; }
  Device& device() const override { return *owner_; }
  ShardCopier& copier() const override { return *copier_; }

  void ReadWeights(FlatRange range, std::span<float> out) const override {
    Read(buffers_.weights, range, out);
  }
  void WriteWeights(FlatRange range, std::span<const float> values) override {
    Write(buffers_.weights, range, values);
  }
  void ReadMoments(FlatRange range, std::span<float> exp_avg,
                   std::span<float> exp_avg_sq) const override {
    Read(buffers_.exp_avg, range, exp_avg);
    Read(buffers_.exp_avg_sq, range, exp_avg_sq);
  }
  void WriteMoments(FlatRange range, std::span<const float> exp_avg,
                    std::span<const float> exp_avg_sq) override {
    Write(buffers_.exp_avg, range, exp_avg);
    Write(buffers_.exp_avg_sq, range, exp_avg_sq);
  }
  absl::Status StartReadWeights(FlatRange range, std::span<float> out,
                                ShardCopies& copies) const override {
    return StartRead(buffers_.weights, range, out, copies);
  }
  absl::Status StartReadMoments(FlatRange range, std::span<float> exp_avg,
                                std::span<float> exp_avg_sq, ShardCopies& copies) const override {
    LEAP_RETURN_IF_ERROR(StartRead(buffers_.exp_avg, range, exp_avg, copies));
    return StartRead(buffers_.exp_avg_sq, range, exp_avg_sq, copies);
  }
  absl::Status SetWeights(FlatRange range, const Tensor& values) override {
    return Fenced("setting weights", [&]() -> absl::Status {
      LEAP_RETURN_IF_ERROR(copier_->BeforeWrite());
      buffers_.weights.narrow(0, range.begin, range.size()).copy_(values);
      return absl::OkStatus();
    });
  }

  absl::StatusOr<double> ForwardBackward(std::span<const int64_t> rows, int64_t row_tokens,
                                         int64_t global_rows, const GradientReady& ready) override;
  absl::StatusOr<double> Update(const TrainSpec& train, double lr, int64_t adam_step) override {
    return Fenced("updating the weights", [&]() -> absl::StatusOr<double> {
      LEAP_RETURN_IF_ERROR(copier_->BeforeWrite());
      return ClipAndStep(buffers_, runs_, train, lr, adam_step);
    });
  }
  absl::StatusOr<std::vector<float>> RowLosses(std::span<const int64_t> rows,
                                               int64_t row_tokens) override;
  absl::StatusOr<std::vector<float>> Fingerprint(std::span<const int64_t> rows,
                                                 int64_t row_tokens) override;

  void* FlatWeightsTensor() override { return &buffers_.weights; }
  void* FlatGradientsTensor() override { return &buffers_.gradients; }
  void RenewGradients() override {
    FencedOrDie("renewing the gradients", [this] { buffers_.RenewGradients(layout_); });
  }

 private:
  static void Read(const Tensor& flat, FlatRange range, std::span<float> out) {
    FencedOrDie("copying from the device",
                [&] { HostView(out).copy_(flat.narrow(0, range.begin, range.size())); });
  }
  void Write(const Tensor& flat, FlatRange range, std::span<const float> values) const {
    const std::span<float> source(const_cast<float*>(values.data()), values.size());  // only read
    if (const absl::Status status = copier_->BeforeWrite(); !status.ok()) DieOf(status);
    FencedOrDie("copying to the device",
                [&] { flat.narrow(0, range.begin, range.size()).copy_(HostView(source)); });
  }
  absl::Status StartRead(const Tensor& flat, FlatRange range, std::span<float> out,
                         ShardCopies& copies) const {
    LEAP_ASSIGN_OR_RETURN(std::unique_ptr<ShardCopy> copy,
                          copier_->Start(flat.const_data_ptr<float>(), range, out.data()));
    copies.push_back(std::move(copy));
    return absl::OkStatus();
  }

  absl::StatusOr<Batch> Check(std::span<const int64_t> rows, int64_t row_tokens) const;
  Tensor OnDevice(const Batch& batch) const {
    auto* const tokens = const_cast<int64_t*>(batch.tokens.data());  // only read
    return at::from_blob(tokens, {batch.rows, batch.row_tokens}, at::kLong).to(device_);
  }
  Tensor Hidden(const Tensor& tokens) const {
    return Gpt2Hidden(config_, buffers_.parameters, tokens.narrow(1, 0, tokens.size(1) - 1));
  }
  // Loss of each token or their mean, fp32.
  Tensor Loss(const Tensor& tokens, at::Reduction::Reduction reduction) const {
    const Autocast autocast(bf16_, device_.type());
    const Tensor logits = Gpt2Logits(buffers_.parameters, Hidden(tokens));
    const Tensor targets = tokens.narrow(1, 1, tokens.size(1) - 1).reshape({-1});
    return at::cross_entropy_loss(logits, targets, /*weight=*/{}, reduction);
  }
  // Mean over the tokens of each row: [rows * tokens, ...] -> [rows, ...], on the host.
  static Tensor MeanOfRows(const Tensor& values, int64_t rows) {
    return values.to(at::kFloat)
        .unflatten(0, {rows, values.size(0) / rows})
        .mean(1)
        .to(at::kCPU)
        .contiguous();
  }
  // Calls `score` on chunks of rows of bounded size, without gradient, and appends what it returns.
  template <typename Score>
  absl::StatusOr<std::vector<float>> InChunks(const Batch& batch, const Score& score) const;

  const ModelConfig config_;
  const WeightLayout layout_;
  const std::unique_ptr<Device> owner_;
  const at::Device device_;
  const bool bf16_;
  const std::unique_ptr<TorchThreads> threads_;
  const DecayRuns runs_;
  GradientBuckets buckets_;  // the hooks of the parameters point at it
  FlatBuffers buffers_;
  const std::unique_ptr<ShardCopier> copier_;  // last: it may still be reading the buffers
};

absl::StatusOr<Batch> Gpt2Model::Check(std::span<const int64_t> rows, int64_t row_tokens) const {
  const auto size = static_cast<int64_t>(rows.size());
  if (row_tokens < 2 || row_tokens - 1 > config_.n_positions || size % row_tokens != 0) {
    return absl::InvalidArgumentError(absl::StrCat("expected whole rows of 2 to ",
                                                   config_.n_positions + 1, " tokens, saw ", size,
                                                   " tokens in rows of ", row_tokens));
  }
  const auto outside = std::find_if(rows.begin(), rows.end(), [this](int64_t token) {
    return token < 0 || token >= config_.vocab_size;
  });
  if (outside != rows.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected tokens from 0 to ", config_.vocab_size - 1, ", saw ", *outside));
  }
  return Batch{rows, size / row_tokens, row_tokens};
}

absl::StatusOr<double> Gpt2Model::ForwardBackward(std::span<const int64_t> rows, int64_t row_tokens,
                                                  int64_t global_rows, const GradientReady& ready) {
  LEAP_ASSIGN_OR_RETURN(const Batch batch, Check(rows, row_tokens));
  if (global_rows < std::max<int64_t>(batch.rows, 1)) {
    return absl::InvalidArgumentError(absl::StrCat("a global batch of ", global_rows,
                                                   " rows cannot hold the ", batch.rows,
                                                   " rows of this rank"));
  }
  return Fenced("computing gradients", [&]() -> absl::StatusOr<double> {
    buffers_.gradients.zero_();
    buckets_.Begin(ready);
    double result = 0;
    if (batch.rows > 0) {
      const Tensor tokens = OnDevice(batch);
      const double share = static_cast<double>(batch.rows) / static_cast<double>(global_rows);
      const Tensor loss = Loss(tokens, at::Reduction::Mean).mul(share);  // rows are equally long
      loss.backward();
      result = loss.item<double>();
    }
    buckets_.Finish();
    return result;
  });
}

template <typename Score>
absl::StatusOr<std::vector<float>> Gpt2Model::InChunks(const Batch& batch,
                                                       const Score& score) const {
  const at::NoGradGuard no_grad;
  const int64_t row_floats =
      (batch.row_tokens - 1) * std::max(config_.vocab_size, 16 * config_.n_embd);
  const int64_t chunk = std::max<int64_t>(1, kChunkFloats / row_floats);
  std::vector<float> values;
  for (int64_t begin = 0; begin < batch.rows; begin += chunk) {
    const int64_t count = std::min(chunk, batch.rows - begin);
    const Tensor result = MeanOfRows(score(OnDevice(batch.Part(begin, count))), count);
    values.insert(values.end(), result.const_data_ptr<float>(),
                  result.const_data_ptr<float>() + result.numel());
  }
  return values;
}

absl::StatusOr<std::vector<float>> Gpt2Model::RowLosses(std::span<const int64_t> rows,
                                                        int64_t row_tokens) {
  LEAP_ASSIGN_OR_RETURN(const Batch batch, Check(rows, row_tokens));
  return Fenced("scoring", [&] {
    return InChunks(batch,
                    [this](const Tensor& tokens) { return Loss(tokens, at::Reduction::None); });
  });
}

absl::StatusOr<std::vector<float>> Gpt2Model::Fingerprint(std::span<const int64_t> rows,
                                                          int64_t row_tokens) {
  LEAP_ASSIGN_OR_RETURN(const Batch batch, Check(rows, row_tokens));
  return Fenced("taking a fingerprint", [&] {
    return InChunks(batch, [this](const Tensor& tokens) {
      const Autocast autocast(bf16_, device_.type());
      return Hidden(tokens);
    });
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> Model::Create(const ModelConfig& config,
                                                     const Options& options, uint64_t seed) {
  if (options.precision != "fp32" && options.precision != "bf16") {
    return absl::InvalidArgumentError(
        absl::StrCat("expected precision fp32 or bf16, saw '", options.precision, "'"));
  }
  return Fenced("making the model", [&]() -> absl::StatusOr<std::unique_ptr<Model>> {
    LEAP_ASSIGN_OR_RETURN(std::unique_ptr<Device> device, Device::Open(options.device));
    LEAP_ASSIGN_OR_RETURN(std::unique_ptr<ShardCopier> copier, device->MakeCopier());
    LEAP_ASSIGN_OR_RETURN(std::unique_ptr<TorchThreads> threads,
                          TorchThreads::Hold(options.threads));
    auto model = std::make_unique<Gpt2Model>(config, options, std::move(device), std::move(copier),
                                             std::move(threads));
    model->WriteWeights({0, model->layout().size}, InitialWeights(config, seed));
    return model;
  });
}

}  // namespace leap
