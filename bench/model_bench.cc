// What one step, one scoring and one copy of the weights cost on this machine's CPU. One thread
// unless an argument says otherwise; "steps/s" counts CPU time, so a busy machine does not change
// it much.
//
//   build/release/bench/model_bench [--benchmark_filter=tiny]
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <vector>

#include "engine/model.h"

namespace leap {
namespace {

struct Shape {
  const char* preset;
  const char* precision;
  int64_t rows;
  int64_t tokens;
};

std::unique_ptr<Model> Make(const Shape& shape) {
  const absl::StatusOr<ModelConfig> config =
      ResolveModelConfig({.preset = shape.preset}, shape.tokens);
  if (config.ok()) {
    absl::StatusOr<std::unique_ptr<Model>> model =
        Model::Create(*config, {.precision = shape.precision}, 1);
    if (model.ok()) return *std::move(model);
    std::cerr << model.status() << "\n";
  }
  std::exit(1);
}

std::vector<int64_t> Rows(int64_t rows, int64_t row_tokens) {
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < rows * row_tokens; ++i) tokens.push_back(i * i % 251);
  return tokens;
}

// A training step: gradients, clipping, update.
void Step(benchmark::State& state, const Shape& shape) {
  const std::unique_ptr<Model> model = Make(shape);
  const std::vector<int64_t> rows = Rows(shape.rows, shape.tokens + 1);
  int64_t step = 0;
  for (auto _ : state) {
    const auto loss = model->ForwardBackward(rows, shape.tokens + 1, shape.rows, {});
    const auto norm = model->Update(TrainSpec{}, 1e-3, ++step);
    if (!loss.ok() || !norm.ok()) state.SkipWithError("the step failed");
  }
  state.counters["steps/s"] =
      benchmark::Counter(static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  state.counters["parameters"] = static_cast<double>(model->layout().size);
}

// The update alone.
void Update(benchmark::State& state, const Shape& shape) {
  const std::unique_ptr<Model> model = Make(shape);
  (void)model->ForwardBackward(Rows(1, shape.tokens + 1), shape.tokens + 1, 1, {});
  int64_t step = 0;
  for (auto _ : state) benchmark::DoNotOptimize(model->Update(TrainSpec{}, 1e-3, ++step));
}

// Losses of a gate set.
void Score(benchmark::State& state, const Shape& shape) {
  const std::unique_ptr<Model> model = Make(shape);
  const std::vector<int64_t> rows = Rows(shape.rows, shape.tokens + 1);
  for (auto _ : state) benchmark::DoNotOptimize(model->RowLosses(rows, shape.tokens + 1));
}

// A plain copy of all weights.
void Copy(benchmark::State& state, const Shape& shape) {
  const std::unique_ptr<Model> model = Make(shape);
  std::vector<float> out(static_cast<size_t>(model->layout().size));
  for (auto _ : state) model->ReadWeights({0, model->layout().size}, out);
}

constexpr Shape kTiny{"gpt2-tiny", "fp32", 8, 128};
BENCHMARK_CAPTURE(Step, tiny_8x128_fp32, kTiny)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Step, tiny_8x128_bf16, Shape{"gpt2-tiny", "bf16", 8, 128})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Step, tiny_16x128_fp32, Shape{"gpt2-tiny", "fp32", 16, 128})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Update, tiny, kTiny)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Score, tiny_64x128_fp32, Shape{"gpt2-tiny", "fp32", 64, 128})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Copy, tiny, kTiny)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Step, small_1x128_fp32, Shape{"gpt2-small", "fp32", 1, 128})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Update, small, Shape{"gpt2-small", "fp32", 1, 128})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace leap

BENCHMARK_MAIN();
