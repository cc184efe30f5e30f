// Test-only: random models for predictors, and predictions of them in one piece or in shards.
#pragma once

#include <bit>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/predictor.h"
#include "gtest/gtest.h"

namespace leap {

// Everything that a formula may read, for a whole model.
struct TestModel {
  WeightLayout layout;
  std::vector<std::vector<float>> snapshots;  // [0] = θ_t
  std::vector<float> exp_avg, exp_avg_sq;
  std::vector<std::vector<float>> state;
  AdamContext adam;

  PredictorInputs Inputs(FlatRange range) const {
    const auto part = [&](const std::vector<float>& values) {
      return std::span(values).subspan(static_cast<size_t>(range.begin),
                                       static_cast<size_t>(range.size()));
    };
    PredictorInputs in{
        .range = range, .exp_avg = part(exp_avg), .exp_avg_sq = part(exp_avg_sq), .adam = adam};
    for (const auto& snapshot : snapshots) in.snapshots.push_back(part(snapshot));
    for (const auto& buffer : state) in.state.push_back(part(buffer));
    return in;
  }
  PredictorInputs Whole() const { return Inputs({.begin = 0, .end = layout.size}); }
};

// A model of `tensors` tensors of 1 to 40 floats, every other one decaying; weights near 0.1,
// snapshots near each other, moments as small as those of real models.
inline TestModel RandomModel(uint64_t seed, int tensors = 7, int snapshots = 6) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  TestModel model;
  for (int i = 0; i < tensors; ++i) {
    const int64_t size = 1 + static_cast<int64_t>(random() % 40);
    model.layout.tensors.push_back({.name = "t" + std::to_string(i),
                                    .shape = {size},
                                    .offset = model.layout.size,
                                    .size = size,
                                    .decays = random() % 2 == 0});
    model.layout.size += size;
  }
  const auto vector = [&](float mean, float scale) {
    std::vector<float> values(static_cast<size_t>(model.layout.size));
    for (float& value : values) value = mean + scale * normal(random);
    return values;
  };
  const std::vector<float> centre = vector(0, 0.1f);
  for (int k = 0; k < snapshots; ++k) {
    std::vector<float> snapshot = vector(0, 0.01f);
    for (size_t i = 0; i < snapshot.size(); ++i) snapshot[i] += centre[i];
    model.snapshots.push_back(std::move(snapshot));
  }
  model.exp_avg = vector(0, 1e-5f);
  model.exp_avg_sq = vector(0, 1e-5f);
  for (float& value : model.exp_avg_sq) value *= value;
  model.state = {vector(0, 0.1f), vector(0, 0.01f)};
  model.adam = {.adam_step = 300, .lr = 1e-3};
  return model;
}

inline std::vector<float> Predict(const Predictor& predictor, const TestModel& model,
                                  const PredictorInputs& in, int64_t horizon_steps) {
  std::vector<float> out(static_cast<size_t>(in.range.size()), -1e30f);
  predictor.Predict(in, horizon_steps, model.layout, out);
  return out;
}

// As a verifier does it: scales from the whole model, then θ̂ of all of it.
inline std::vector<float> PredictWhole(const Predictor& predictor, const TestModel& model,
                                       int64_t horizon_steps) {
  PredictorInputs in = model.Whole();
  if (predictor.needs().scales) in.scales = predictor.Scales(in, model.layout);
  return Predict(predictor, model, in, horizon_steps);
}

inline std::unique_ptr<Predictor> Made(const PredictorSpec& spec, int64_t interval_steps = 50) {
  auto predictor = MakePredictor(spec, interval_steps);
  EXPECT_TRUE(predictor.ok()) << predictor.status();
  return predictor.ok() ? *std::move(predictor) : nullptr;
}

inline std::vector<uint32_t> Bits(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

// A product, sum, … that the compiler cannot fuse with the next one or compute more precisely: what
// "separately rounded" means, the slow way.
inline float Rounded(float value) {
  volatile float stored = value;
  return stored;
}

// The tensor that element `index` belongs to, by looking at every one.
inline size_t TensorOf(const WeightLayout& layout, size_t index) {
  const auto position = static_cast<int64_t>(index);
  for (size_t i = 0; i < layout.tensors.size(); ++i) {
    const TensorSlot& slot = layout.tensors[i];
    if (position >= slot.offset && position < slot.offset + slot.size) return i;
  }
  ADD_FAILURE() << "no tensor holds element " << index;
  return 0;
}

}  // namespace leap
