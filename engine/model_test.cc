#include "engine/model.h"

#include <ATen/core/Tensor.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "base/status_matchers.h"
#include "core/digest.h"
#include "engine/internal/initial_weights.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr int64_t kRowTokens = 17;

ModelConfig Small() {
  return {.vocab_size = 257, .n_positions = 32, .n_embd = 24, .n_layer = 2, .n_head = 3};
}

std::unique_ptr<Model> Make(const ModelConfig& config = Small(), uint64_t seed = 1,
                            Model::Options options = {.bucket_floats = 1000}) {
  absl::StatusOr<std::unique_ptr<Model>> model = Model::Create(config, options, seed);
  EXPECT_OK(model);
  return *std::move(model);
}

// Text-like rows that a model can learn something from.
std::vector<int64_t> Rows(int64_t rows, int64_t salt = 0) {
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < rows * kRowTokens; ++i)
    tokens.push_back((i * i + salt * 31 + i / 7) % 251);
  return tokens;
}

std::vector<float> Weights(const Model& model) {
  std::vector<float> weights(static_cast<size_t>(model.layout().size));
  model.ReadWeights({0, model.layout().size}, weights);
  return weights;
}

uint64_t Digest(const Model& model) { return DigestOf(Weights(model), {0, model.layout().size}); }

std::vector<float> Gradients(Model& model) {
  const auto& tensor = *static_cast<at::Tensor*>(model.FlatGradientsTensor());
  return {tensor.const_data_ptr<float>(), tensor.const_data_ptr<float>() + tensor.numel()};
}

void SetGradients(Model& model, const std::vector<float>& values) {
  auto& tensor = *static_cast<at::Tensor*>(model.FlatGradientsTensor());
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<float>());
}

double Backward(Model& model, const std::vector<int64_t>& rows, int64_t global_rows,
                const GradientReady& ready = {}) {
  const absl::StatusOr<double> loss = model.ForwardBackward(rows, kRowTokens, global_rows, ready);
  EXPECT_OK(loss);
  return loss.value_or(0);
}

void Train(Model& model, int64_t steps) {
  const TrainSpec spec;
  for (int64_t step = 1; step <= steps; ++step) {
    Backward(model, Rows(4, step), 4);
    ASSERT_OK(model.Update(spec, 1e-3, step));
  }
}

TEST(Layout, HasTheSizesOfItsPresets) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig tiny, ResolveModelConfig({.preset = "gpt2-tiny"}, 128));
  EXPECT_EQ(LayoutOf(tiny).size, 1'037'760);
  ASSERT_OK_AND_ASSIGN(const ModelConfig small, ResolveModelConfig({.preset = "gpt2-small"}, 1024));
  EXPECT_EQ(LayoutOf(small).size, 124'439'808);  // what is called GPT-2 124M
}

TEST(InitialWeights, AreGpt2s) {
  const ModelConfig config = Small();
  const std::vector<float> weights = InitialWeights(config, 7);
  for (const TensorSlot& slot : LayoutOf(config).tensors) {
    SCOPED_TRACE(slot.name);
    const std::span<const float> values = std::span(weights).subspan(slot.offset, slot.size);
    if (slot.shape.size() == 1) {
      const bool gain = slot.name.ends_with("ln_1.weight") || slot.name.ends_with("ln_2.weight") ||
                        slot.name.ends_with("ln_f.weight");
      EXPECT_THAT(std::vector<float>(values.begin(), values.end()), Each(gain ? 1.0f : 0.0f));
      continue;
    }
    double sum = 0, squares = 0;
    for (const double value : values) sum += value, squares += value * value;
    const auto n = static_cast<double>(values.size());
    const double expected = slot.name.ends_with("c_proj.weight") ? 0.02 / 2 : 0.02;  // sqrt(2 * 2)
    EXPECT_NEAR(sum / n, 0, 5 * expected / std::sqrt(n));
    EXPECT_NEAR(std::sqrt(squares / n), expected, 5 * expected / std::sqrt(2 * n));
  }
  EXPECT_EQ(weights, InitialWeights(config, 7));
  EXPECT_NE(weights, InitialWeights(config, 8));
}

TEST(Model, ReadsBackExactlyWhatWasWritten) {
  const auto model = Make();
  const FlatRange range{100, model->layout().size - 5};
  std::vector<float> bits, moments;
  for (int64_t i = 0; i < range.size(); ++i) {
    bits.push_back(
        std::bit_cast<float>(static_cast<uint32_t>(i) * 2654435761u));  // NaNs, denormals and all
    moments.push_back(static_cast<float>(i));
  }
  const auto same_bits = [](const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  };
  const std::vector<float> before = Weights(*model);
  model->WriteWeights(range, bits);
  model->WriteMoments(range, bits, moments);
  std::vector<float> weights(bits.size()), exp_avg(bits.size()), exp_avg_sq(bits.size());
  model->ReadWeights(range, weights);
  model->ReadMoments(range, exp_avg, exp_avg_sq);
  EXPECT_TRUE(same_bits(weights, bits));
  EXPECT_TRUE(same_bits(exp_avg, bits));
  EXPECT_TRUE(same_bits(exp_avg_sq, moments));
  EXPECT_EQ(Weights(*model)[99], before[99]);
  EXPECT_EQ(Weights(*model).back(), before.back());
}

TEST(Model, TwoRunsGiveTheSameBits) {
  const auto first = Make(), second = Make();
  EXPECT_EQ(Digest(*first), Digest(*second));
  Train(*first, 10);
  Train(*second, 10);
  EXPECT_EQ(Digest(*first), Digest(*second));
  EXPECT_NE(Digest(*first), Digest(*Make(Small(), 2)));
}

// At the size that jobs have, where LibTorch does spread its work over threads.
TEST(Model, TwoRunsGiveTheSameBitsOnTwoThreads) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig tiny, ResolveModelConfig({.preset = "gpt2-tiny"}, 128));
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < 4 * 65; ++i) rows.push_back(i * i % 251);
  std::vector<uint64_t> digests;
  for (int run = 0; run < 2; ++run) {
    const auto model = Make(tiny, 1, {.threads = 2});
    for (int64_t step = 1; step <= 1; ++step) {
      ASSERT_OK(model->ForwardBackward(rows, 65, 4, {}));
      ASSERT_OK(model->Update(TrainSpec{}, 1e-3, step));
    }
    digests.push_back(Digest(*model));
  }
  EXPECT_EQ(digests[0], digests[1]);
}

TEST(Model, GoesOnFromWrittenWeightsAndMomentsAsIfNothingHadHappened) {
  const auto whole = Make(), resumed = Make(Small(), 99);
  Train(*whole, 3);
  const FlatRange all{0, whole->layout().size};
  std::vector<float> weights(all.size()), exp_avg(all.size()), exp_avg_sq(all.size());
  whole->ReadWeights(all, weights);
  whole->ReadMoments(all, exp_avg, exp_avg_sq);
  resumed->WriteWeights(all, weights);
  resumed->WriteMoments(all, exp_avg, exp_avg_sq);
  for (Model* model : {whole.get(), resumed.get()}) {
    Backward(*model, Rows(4, 50), 4);
    ASSERT_OK(model->Update(TrainSpec{}, 1e-3, 4));
  }
  EXPECT_EQ(Digest(*whole), Digest(*resumed));
}

TEST(Model, AnnouncesEachRangeOnceInReverseOrderAndFinal) {
  const auto model = Make();
  std::vector<FlatRange> ranges;
  std::vector<std::vector<float>> announced;
  Backward(*model, Rows(4), 4, [&](FlatRange range) {
    ranges.push_back(range);
    const std::vector<float> all = Gradients(*model);
    announced.emplace_back(all.begin() + range.begin, all.begin() + range.end);
  });
  const std::vector<float> gradients = Gradients(*model);
  ASSERT_GT(ranges.size(), 3u);
  int64_t end = model->layout().size;
  for (size_t i = 0; i < ranges.size(); ++i) {
    EXPECT_EQ(ranges[i].end, end);
    EXPECT_GE(ranges[i].size(), i + 1 < ranges.size() ? 1000 : 1);
    EXPECT_EQ(announced[i], std::vector<float>(gradients.begin() + ranges[i].begin,
                                               gradients.begin() + ranges[i].end));
    end = ranges[i].begin;
  }
  EXPECT_EQ(end, 0);
}

TEST(Model, AnnouncesWhileBackwardIsStillRunning) {
  const auto model = Make();
  std::vector<float> at_first;
  Backward(*model, Rows(4), 4, [&](FlatRange) {
    if (at_first.empty()) at_first = Gradients(*model);
  });
  const TensorSlot& wte = model->layout().tensors[0];
  EXPECT_THAT(std::vector<float>(at_first.begin(), at_first.begin() + wte.size), Each(0.0f));
  EXPECT_NE(at_first, Gradients(*model));
}

TEST(Model, TheGradientIsTheSlopeOfTheLoss) {
  const auto model = Make();
  const std::vector<int64_t> rows = Rows(4);
  const double loss = Backward(*model, rows, 4);
  const std::vector<float> gradient = Gradients(*model), weights = Weights(*model);
  const double squares =
      std::inner_product(gradient.begin(), gradient.end(), gradient.begin(), 0.0);
  const auto loss_at = [&](double step) {
    std::vector<float> moved = weights;
    for (size_t i = 0; i < moved.size(); ++i) moved[i] += static_cast<float>(step * gradient[i]);
    model->WriteWeights({0, model->layout().size}, moved);
    return Backward(*model, rows, 4);
  };
  const double h = 2e-3 / std::sqrt(squares);
  EXPECT_NEAR((loss_at(h) - loss_at(-h)) / (2 * h), squares, 0.01 * squares);
  EXPECT_NEAR(loss, std::log(257), 0.2);  // it knows nothing yet
}

TEST(Model, PartsOfABatchAddUpToTheWhole) {
  const auto model = Make();
  const std::vector<int64_t> rows = Rows(5);
  const double whole_loss = Backward(*model, rows, 5);
  const std::vector<float> whole = Gradients(*model);
  const std::vector<int64_t> head(rows.begin(), rows.begin() + 2 * kRowTokens);
  const std::vector<int64_t> tail(rows.begin() + 2 * kRowTokens, rows.end());
  const double head_loss = Backward(*model, head, 5);
  const std::vector<float> head_gradient = Gradients(*model);
  const double tail_loss = Backward(*model, tail, 5);
  const std::vector<float> tail_gradient = Gradients(*model);
  EXPECT_NEAR(head_loss + tail_loss, whole_loss, 1e-5);
  for (size_t i = 0; i < whole.size(); ++i) {
    ASSERT_NEAR(head_gradient[i] + tail_gradient[i], whole[i], 1e-6) << i;
  }
}

TEST(Model, ARankWithoutRowsAnnouncesZeros) {
  const auto model = Make();
  std::vector<FlatRange> usual, without;
  Backward(*model, Rows(2), 2, [&](FlatRange range) { usual.push_back(range); });
  EXPECT_EQ(Backward(*model, {}, 2, [&](FlatRange range) { without.push_back(range); }), 0);
  EXPECT_EQ(without, usual);
  EXPECT_THAT(Gradients(*model), Each(0.0f));
}

TEST(Model, AGradientBufferThatWasGivenUpIsLeftAlone) {
  const auto model = Make();
  Backward(*model, Rows(2), 2);
  at::Tensor old = *static_cast<at::Tensor*>(model->FlatGradientsTensor());
  const std::vector<float> expected = Gradients(*model);
  model->RenewGradients();
  old.fill_(std::numeric_limits<float>::quiet_NaN());  // a late collective
  EXPECT_THAT(Gradients(*model), Each(0.0f));
  Backward(*model, Rows(2), 2);
  EXPECT_EQ(Gradients(*model), expected);
}

// AdamW by its definition, one number at a time, in double.
struct SlowAdamW {
  double weight, m = 0, v = 0;
  void Step(double gradient, const TrainSpec& spec, double lr, double decay, int64_t t) {
    m = spec.beta1 * m + (1 - spec.beta1) * gradient;
    v = spec.beta2 * v + (1 - spec.beta2) * gradient * gradient;
    const double m_hat = m / (1 - std::pow(spec.beta1, static_cast<double>(t)));
    const double v_hat = v / (1 - std::pow(spec.beta2, static_cast<double>(t)));
    weight -= lr * decay * weight;
    weight -= lr * m_hat / (std::sqrt(v_hat) + spec.epsilon);
  }
};

TEST(Update, IsAdamWWithClippingAndDecayOnMatricesOnly) {
  const auto model = Make();
  const TrainSpec spec{.weight_decay = 0.1, .clip_norm = 1.0};
  const auto size = static_cast<size_t>(model->layout().size);
  const std::vector<float> start = Weights(*model);
  std::vector<SlowAdamW> twin(start.begin(), start.end());
  for (int64_t t = 1; t <= 3; ++t) {
    std::vector<float> gradient(size);
    double squares = 0;
    for (size_t i = 0; i < size; ++i) {
      gradient[i] = 0.01f * std::sin(static_cast<float>(i * static_cast<size_t>(t)));
      squares += static_cast<double>(gradient[i]) * gradient[i];
    }
    SetGradients(*model, gradient);
    const double norm = std::sqrt(squares);
    ASSERT_GT(norm, 1);
    ASSERT_OK_AND_ASSIGN(const double seen, model->Update(spec, 1e-2, t));
    EXPECT_NEAR(seen, norm, 1e-6 * norm);
    for (const TensorSlot& slot : model->layout().tensors) {
      for (int64_t i = slot.offset; i < slot.offset + slot.size; ++i) {
        twin[i].Step(gradient[i] / norm, spec, 1e-2, slot.decays ? spec.weight_decay : 0, t);
      }
    }
  }
  const std::vector<float> weights = Weights(*model);
  for (size_t i = 0; i < size; ++i) ASSERT_NEAR(weights[i], twin[i].weight, 2e-6) << i;
}

TEST(Update, LeavesEverythingAsItIsIfTheGradientIsNotFinite) {
  const auto model = Make();
  Train(*model, 2);
  const uint64_t before = Digest(*model);
  const FlatRange all{0, model->layout().size};
  std::vector<float> m(all.size()), v(all.size()), m_after(all.size()), v_after(all.size());
  model->ReadMoments(all, m, v);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> gradient(static_cast<size_t>(all.size()), 0.1f);
    gradient[1234] = bad;
    SetGradients(*model, gradient);
    ASSERT_OK_AND_ASSIGN(const double norm, model->Update(TrainSpec{}, 1e-3, 3));
    EXPECT_FALSE(std::isfinite(norm));
    EXPECT_EQ(Digest(*model), before);
    model->ReadMoments(all, m_after, v_after);
    EXPECT_EQ(m, m_after);
    EXPECT_EQ(v, v_after);
  }
}

TEST(Model, Learns) {
  const auto model = Make();
  const std::vector<int64_t> rows = Rows(4);
  const double before = Backward(*model, rows, 4);
  for (int64_t step = 1; step <= 40; ++step) {
    Backward(*model, rows, 4);
    ASSERT_OK(model->Update(TrainSpec{}, 1e-2, step));
  }
  EXPECT_LT(Backward(*model, rows, 4), before - 1);
}

TEST(RowLosses, AreThoseOfTheTrainingLossWhateverTheChunks) {
  const auto model = Make();
  // More rows than a chunk holds: 8 Mi floats / (16 tokens * 384 floats).
  const int64_t count = 1500;
  const std::vector<int64_t> rows = Rows(count);
  ASSERT_OK_AND_ASSIGN(const std::vector<float> losses, model->RowLosses(rows, kRowTokens));
  ASSERT_THAT(losses, SizeIs(count));
  const double mean =
      std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(count);
  EXPECT_NEAR(mean, Backward(*model, rows, count), 1e-5);
  for (const int64_t i : {int64_t{0}, int64_t{1364}, int64_t{1365}, count - 1}) {
    const std::vector<int64_t> row(rows.begin() + i * kRowTokens,
                                   rows.begin() + (i + 1) * kRowTokens);
    ASSERT_OK_AND_ASSIGN(const std::vector<float> alone, model->RowLosses(row, kRowTokens));
    EXPECT_NEAR(alone[0], losses[static_cast<size_t>(i)], 1e-5);
  }
  ASSERT_OK_AND_ASSIGN(const std::vector<float> again, model->RowLosses(rows, kRowTokens));
  EXPECT_EQ(losses, again);
}

TEST(RowLosses, AreNotAFailureWhenTheyAreNotNumbers) {
  const auto model = Make();
  std::vector<float> weights = Weights(*model);
  weights[0] =
      std::numeric_limits<float>::quiet_NaN();  // embedding of token 0, and so of every score
  model->WriteWeights({0, model->layout().size}, weights);
  ASSERT_OK_AND_ASSIGN(const std::vector<float> losses, model->RowLosses(Rows(2), kRowTokens));
  EXPECT_TRUE(std::isnan(losses[0]));
}

TEST(Fingerprint, HasAHiddenStatePerRow) {
  const auto model = Make();
  ASSERT_OK_AND_ASSIGN(const std::vector<float> print, model->Fingerprint(Rows(3), kRowTokens));
  EXPECT_THAT(print, SizeIs(3 * 24));
  EXPECT_THAT(model->Fingerprint({}, kRowTokens), IsOkAndHolds(SizeIs(0)));
}

TEST(Model, Bf16IsCloseToFp32) {
  const auto exact = Make();
  const auto rough = Make(Small(), 1, {.precision = "bf16", .bucket_floats = 1000});
  EXPECT_NEAR(Backward(*rough, Rows(4), 4), Backward(*exact, Rows(4), 4), 0.02);
  const std::vector<float> a = Gradients(*exact), b = Gradients(*rough);
  const double dot = std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  const double aa = std::inner_product(a.begin(), a.end(), a.begin(), 0.0);
  const double bb = std::inner_product(b.begin(), b.end(), b.begin(), 0.0);
  EXPECT_GT(dot / std::sqrt(aa * bb), 0.999);
  EXPECT_NE(a, b);  // it did run in another precision
  ASSERT_OK(rough->Update(TrainSpec{}, 1e-3, 1));
  EXPECT_LT(Backward(*rough, Rows(4), 4),
            Backward(*exact, Rows(4), 4));  // no stale bf16 copies of the weights
}

TEST(Model, RefusesRowsThatAreNone) {
  const auto model = Make();
  EXPECT_THAT(model->RowLosses(std::vector<int64_t>(40), 17),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(model->RowLosses(std::vector<int64_t>(34), 34),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rows of 2 to 33 tokens")));
  std::vector<int64_t> rows = Rows(1);
  for (const int64_t wrong : {int64_t{-1}, int64_t{257}}) {
    rows[3] = wrong;
    EXPECT_THAT(model->RowLosses(rows, 17),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tokens from 0 to 256")));
  }
  EXPECT_THAT(model->ForwardBackward(Rows(3), 17, 2, {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Model, RefusesOptionsItCannotHonour) {
  EXPECT_THAT(Model::Create(Small(), {.precision = "fp8"}, 1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("fp8")));
  EXPECT_THAT(Model::Create(Small(), {.device = "tpu"}, 1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tpu")));
  EXPECT_THAT(Model::Create(Small(), {.threads = 0}, 1),
              StatusIs(absl::StatusCode::kInvalidArgument));
  const auto model = Make();
  EXPECT_THAT(Model::Create(Small(), {.threads = 2}, 1),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another process")));
}

TEST(Model, SaysThatThereIsNoGpu) {
  const absl::StatusOr<std::unique_ptr<Model>> model =
      Model::Create(Small(), {.device = "cuda"}, 1);
  if (model.ok()) GTEST_SKIP() << "there is one";
  EXPECT_THAT(model,
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("spec.train.device: cpu")));
  EXPECT_THAT(model, HasReason(ErrorReason::kDeviceUnavailable));
}

TEST(Model, AModelThatDoesNotFitIsAnErrorThatSaysSo) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer's allocator ends the process instead";
#endif
  ModelConfig config = Small();
  config.vocab_size = int64_t{1} << 40;
  EXPECT_THAT(Model::Create(config, {}, 1),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("smaller model")));
}

}  // namespace
}  // namespace leap
