// A GPT-2-shaped decoder whose parameters, gradients and Adam moments are each ONE flat fp32 buffer
// (tensors are views into it), so that snapshots, shards, digests, collectives and leaps are plain
// ranges. LibTorch stays behind this header.
//
// Order and names of the tensors: LayoutOf in core/model_config.h. No dropout (a config.json that
// asks for it is accepted; the log says it is not applied). Deterministic on a CPU for a fixed
// number of threads.
//
// One thread at a time may call the non-const methods (the training or scoring thread).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/job_spec.h"
#include "core/layout.h"
#include "core/model_config.h"
#include "engine/shard_copier.h"

namespace at {
class Tensor;
}

namespace leap {

class Device;

// Preset or config.json of `spec`. Errors name the file, the key, what was expected and seen.
// `sequence_length` must fit n_positions; vocab_size must hold the byte vocabulary (257).
absl::StatusOr<ModelConfig> ResolveModelConfig(const ModelSpec& spec,
                                               int64_t sequence_length_tokens);

// Called while backward runs (autograd thread) when all gradients of `range` are final; ranges come
// in reverse layout order and together cover the flat vector exactly once a backward.
using GradientReady = std::function<void(FlatRange range)>;

class Model {
 public:
  struct Options {
    std::string device = "cpu";
    std::string precision = "fp32";
    int threads = 1;
    int64_t bucket_floats = 1 << 20;  // granularity of GradientReady
  };
  // Weights: random from `seed` (N(0, initializer_range), residual projections scaled by 1/sqrt(2
  // n_layer)). Errors of Device::Open as they are.
  static absl::StatusOr<std::unique_ptr<Model>> Create(const ModelConfig& config,
                                                       const Options& options, uint64_t seed);
  virtual ~Model() = default;

  virtual const WeightLayout& layout() const = 0;
  virtual const ModelConfig& config() const = 0;
  virtual Device& device() const = 0;
  // For copies out of its buffers. What writes to them below waits for such copies by itself.
  virtual ShardCopier& copier() const = 0;

  // Host copies of ranges of the flat buffers. Spans have the range's size.
  virtual void ReadWeights(FlatRange range, std::span<float> out) const = 0;
  virtual void WriteWeights(FlatRange range, std::span<const float> values) = 0;
  virtual void ReadMoments(FlatRange range, std::span<float> exp_avg,
                           std::span<float> exp_avg_sq) const = 0;
  virtual void WriteMoments(FlatRange range, std::span<const float> exp_avg,
                            std::span<const float> exp_avg_sq) = 0;
  // Like ReadWeights and ReadMoments, but may return before the copies are made: adds them to
  // `copies`, to be waited for. Errors: the device's.
  virtual absl::Status StartReadWeights(FlatRange range, std::span<float> out,
                                        ShardCopies& copies) const = 0;
  virtual absl::Status StartReadMoments(FlatRange range, std::span<float> exp_avg,
                                        std::span<float> exp_avg_sq, ShardCopies& copies) const = 0;
  // Like WriteWeights, from a tensor of the model's device.
  virtual absl::Status SetWeights(FlatRange range, const at::Tensor& values) = 0;

  // Gradient of (sum over rows of the row's mean token loss) / global_rows, accumulated from zero.
  // `rows`: windows of sequence_length + 1 tokens, row after row. Returns that same scaled sum
  // (all-reduce SUM over ranks = mean loss).
  virtual absl::StatusOr<double> ForwardBackward(std::span<const int64_t> rows, int64_t row_tokens,
                                                 int64_t global_rows,
                                                 const GradientReady& ready) = 0;

  // Clips by the global norm of the gradients, then fused AdamW (weight decay on decaying tensors
  // only). `adam_step` counts from 1. Returns the gradient norm before clipping; if that is not
  // finite, weights and moments are left as they are.
  virtual absl::StatusOr<double> Update(const TrainSpec& train, double lr, int64_t adam_step) = 0;

  // Mean token loss of each row, nats, no gradient.
  virtual absl::StatusOr<std::vector<float>> RowLosses(std::span<const int64_t> rows,
                                                       int64_t row_tokens) = 0;

  // Fingerprint: final hidden state (after the last norm), mean over the sequence, per row;
  // concatenated (rows * n_embd floats). Leap+Verify section 2.
  virtual absl::StatusOr<std::vector<float>> Fingerprint(std::span<const int64_t> rows,
                                                         int64_t row_tokens) = 0;

  // For engine/ only: the flat tensors, as opaque pointers to at::Tensor. Rooms outside engine/
  // must not use it.
  virtual void* FlatWeightsTensor() = 0;
  virtual void* FlatGradientsTensor() = 0;
  // Replaces the gradient buffer by a fresh one: a collective that was given up may still write
  // into the old one.
  virtual void RenewGradients() = 0;
};

}  // namespace leap
