// What every predictor of the registry owes the ranks and the verifiers (core/predictor.h).

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/predictors/predictor_testing.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

constexpr int64_t kInterval = 50;

// Every predictor in every form, with every parameter off its default too.
std::vector<PredictorSpec> EveryPredictor() {
  std::vector<PredictorSpec> specs;
  for (const PredictorInfo& info : RegisteredPredictors()) {
    std::vector<std::string> forms = info.forms;
    if (forms.empty()) forms.push_back("");
    for (const std::string& form : forms) specs.push_back({.name = info.name, .form = form});
  }
  specs.push_back({.name = "momentum", .params = {{"damping", 0.9}}});
  specs.push_back({.name = "momentum", .params = {{"fp16_moments", 1}}, .form = "code"});
  specs.push_back({.name = "average", .params = {{"n", 6}}});
  specs.push_back({.name = "trend", .params = {{"n", 3}}});
  return specs;
}

std::vector<int64_t> HorizonsOf(const Predictor& predictor) {
  if (!predictor.needs().horizon) return {0};
  std::vector<int64_t> horizons = {0, 1, 5, 25, 50, 100};
  if (predictor.name() == "trend") horizons.push_back(-75);
  return horizons;
}

// [0, size) cut at up to `cuts` random places; pieces may be empty.
std::vector<FlatRange> RandomPartition(int64_t size, int cuts, std::mt19937_64& random) {
  std::vector<int64_t> places = {0, size};
  for (int i = 0; i < cuts; ++i) {
    places.push_back(static_cast<int64_t>(random() % static_cast<uint64_t>(size + 1)));
  }
  std::ranges::sort(places);
  std::vector<FlatRange> ranges;
  for (size_t i = 1; i < places.size(); ++i) {
    ranges.push_back({.begin = places[i - 1], .end = places[i]});
  }
  return ranges;
}

TEST(EveryPredictorTest, ShardsOfAnyPartitionAreTheWholeBitForBit) {
  for (uint64_t seed = 0; seed < 25; ++seed) {
    std::mt19937_64 random(seed);
    const TestModel model = RandomModel(seed, 9);
    for (const PredictorSpec& spec : EveryPredictor()) {
      const auto predictor = Made(spec, kInterval);
      std::vector<double> scales;
      if (predictor->needs().scales) scales = predictor->Scales(model.Whole(), model.layout);
      for (const int64_t steps : HorizonsOf(*predictor)) {
        std::vector<float> pieces;
        for (const FlatRange range : RandomPartition(model.layout.size, 5, random)) {
          PredictorInputs in = model.Inputs(range);
          in.scales = scales;
          const std::vector<float> piece = Predict(*predictor, model, in, steps);
          pieces.insert(pieces.end(), piece.begin(), piece.end());
        }
        EXPECT_EQ(Bits(pieces), Bits(PredictWhole(*predictor, model, steps)))
            << spec.name << " " << spec.form << ", K " << steps << ", seed " << seed;
      }
    }
  }
}

TEST(EveryPredictorTest, StateAdvancedInShardsIsTheStateAdvancedWhole) {
  for (uint64_t seed = 0; seed < 25; ++seed) {
    std::mt19937_64 random(seed);
    for (const PredictorSpec& spec : EveryPredictor()) {
      const auto predictor = Made(spec, kInterval);
      if (predictor->needs().state_buffers == 0) continue;
      TestModel whole = RandomModel(seed), sharded = whole;
      const auto parts = [](TestModel& model, FlatRange range) {
        std::vector<std::span<float>> spans;
        for (auto& buffer : model.state) {
          spans.push_back(std::span(buffer).subspan(range.begin, range.size()));
        }
        return spans;
      };
      const FlatRange all{.begin = 0, .end = whole.layout.size};
      const PredictorInputs in = whole.Inputs(all);
      predictor->AdvanceState(in.snapshots[1], in.snapshots[0], parts(whole, all));
      for (const FlatRange range : RandomPartition(all.end, 4, random)) {
        const PredictorInputs piece = sharded.Inputs(range);
        predictor->AdvanceState(piece.snapshots[1], piece.snapshots[0], parts(sharded, range));
      }
      for (size_t i = 0; i < whole.state.size(); ++i) {
        EXPECT_EQ(Bits(whole.state[i]), Bits(sharded.state[i])) << spec.name;
      }
    }
  }
}

TEST(EveryPredictorTest, ReadsNoMoreThanItSaysItNeeds) {
  const TestModel full = RandomModel(4);
  for (const PredictorSpec& spec : EveryPredictor()) {
    const auto predictor = Made(spec, kInterval);
    const PredictorNeeds needs = predictor->needs();
    TestModel poisoned = full;
    const auto poison = [](std::vector<float>& values) {
      std::ranges::fill(values, std::numeric_limits<float>::quiet_NaN());
    };
    for (size_t k = needs.snapshots; k < poisoned.snapshots.size(); ++k) {
      poison(poisoned.snapshots[k]);
    }
    if (!needs.moments) poison(poisoned.exp_avg), poison(poisoned.exp_avg_sq);
    for (size_t k = needs.state_buffers; k < poisoned.state.size(); ++k) poison(poisoned.state[k]);
    const int64_t steps = needs.horizon ? 25 : 0;
    EXPECT_EQ(Bits(PredictWhole(*predictor, poisoned, steps)),
              Bits(PredictWhole(*predictor, full, steps)))
        << spec.name << " " << spec.form;
  }
}

TEST(EveryPredictorTest, StaysWhereItIsIfNothingMoved) {
  TestModel model = RandomModel(6);
  for (auto& snapshot : model.snapshots) snapshot = model.snapshots[0];
  std::ranges::fill(model.exp_avg, 0.0f);
  model.adam.weight_decay = 0;
  model.state[0] = model.snapshots[0];
  std::ranges::fill(model.state[1], 0.0f);
  for (const PredictorSpec& spec : EveryPredictor()) {
    const auto predictor = Made(spec, kInterval);
    for (const int64_t steps : HorizonsOf(*predictor)) {
      EXPECT_EQ(PredictWhole(*predictor, model, steps), model.snapshots[0]) << spec.name;
    }
  }
}

TEST(EveryPredictorTest, WithHorizonZeroPredictsThePresent) {
  const TestModel model = RandomModel(7);
  for (const PredictorSpec& spec : EveryPredictor()) {
    const auto predictor = Made(spec, kInterval);
    if (!predictor->needs().horizon || spec.name == "trend") continue;  // trend: the line at t
    EXPECT_EQ(PredictWhole(*predictor, model, 0), model.snapshots[0]) << spec.name << spec.form;
  }
}

}  // namespace
}  // namespace leap
