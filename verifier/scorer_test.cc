// The scorer with a real, very small model and text.
#include "verifier/scorer.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/fake_clock.h"
#include "base/status_matchers.h"
#include "core/sampling.h"
#include "core/schedule.h"
#include "engine/corpus.h"
#include "engine/model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRowTokens = 17;

struct ScorerTest : ::testing::Test {
  ScorerTest() {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    folder = fs::path(::testing::TempDir()) / ("scorer-" + name);
    fs::remove_all(folder);
    fs::create_directories(folder / "text");
    std::ofstream text(folder / "text" / "a.txt");
    for (int i = 0; i < 3000; ++i) text << "leap " << (i * i) % 97 << (i % 11 == 0 ? "\n" : " ");
    text.close();
    std::ofstream config(folder / "config.json");
    config << R"({"model_type": "gpt2", "vocab_size": 257, "n_positions": 16, "n_embd": 16,
                  "n_layer": 1, "n_head": 2})";
    config.close();
    spec.model = {.preset = "", .config = (folder / "config.json").string()};
    spec.data = {.paths = {(folder / "text").string()},
                 .sequence_length_tokens = kRowTokens - 1,
                 .gate_sequences = 5,
                 .report_sequences = 7};
    spec.train = {.steps = 100, .batch_sequences = 6};
    spec.regime.probes = 3;
    scorer = *MakeScorer(spec, folder.string());
    const ModelConfig model_config = *ResolveModelConfig(spec.model, kRowTokens - 1);
    model = *Model::Create(model_config, {}, 11);
    corpus = *Corpus::Open(spec.data, (folder / "corpus").string());
    weights.resize(static_cast<size_t>(scorer->layout().size));
    model->ReadWeights({0, scorer->layout().size}, weights);
  }
  ~ScorerTest() override { fs::remove_all(folder); }

  fs::path folder;
  JobSpec spec;
  FakeClock clock;
  TaskControl control{clock, absl::InfiniteFuture()};
  std::unique_ptr<Scorer> scorer;
  std::unique_ptr<Model> model;  // the main run's
  std::unique_ptr<Corpus> corpus;
  std::vector<float> weights;
};

TEST_F(ScorerTest, LossesAndFingerprintsBelongToTheWeights) {
  scorer->Load(weights);
  ASSERT_OK_AND_ASSIGN(const std::vector<float> first, scorer->GateLosses(control));
  ASSERT_EQ(first.size(), 5u);
  EXPECT_NEAR(first[0], std::log(257.0), 0.3);  // nothing learnt yet
  ASSERT_OK_AND_ASSIGN(const std::vector<float> expected,
                       model->RowLosses(corpus->GateSet(), kRowTokens));
  for (size_t i = 0; i < first.size(); ++i) EXPECT_NEAR(first[i], expected[i], 1e-6);
  ASSERT_OK_AND_ASSIGN(const std::vector<float> print, scorer->Fingerprint(control));
  EXPECT_EQ(print.size(), 3u * 16u);

  std::vector<float> halved = weights;
  for (float& weight : halved) weight /= 2;
  scorer->Load(halved);
  ASSERT_OK_AND_ASSIGN(const std::vector<float> other, scorer->GateLosses(control));
  EXPECT_NE(other, first);
  scorer->Load(weights);
  ASSERT_OK_AND_ASSIGN(const std::vector<float> again, scorer->GateLosses(control));
  EXPECT_EQ(again, first) << "equal weights, equal losses, to the last bit";
}

TEST_F(ScorerTest, ReportLossIsAnotherSetsMean) {
  scorer->Load(weights);
  ASSERT_OK_AND_ASSIGN(const double loss, scorer->ReportLoss(control));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> rows,
                       model->RowLosses(corpus->ReportSet(), kRowTokens));
  double sum = 0;
  for (const float row : rows) sum += row;
  EXPECT_NEAR(loss, sum / 7, 1e-6);
}

TEST_F(ScorerTest, AnAuditTrainsAsTheMainRunDoes) {
  const int64_t size = scorer->layout().size;
  const auto train = [&](int64_t from, int64_t to) {
    for (int64_t step = from; step < to; ++step) {
      const std::vector<int64_t> rows =
          corpus->TrainBatch(BatchWindows(spec.train.seed, step, corpus->train_windows(), 6, 0, 1));
      ASSERT_OK(model->ForwardBackward(rows, kRowTokens, 6, [](FlatRange) {}));
      ASSERT_OK(model->Update(spec.train, LearningRate(spec.train, step), step + 1));
    }
  };
  train(0, 4);
  std::vector<float> at4(weights.size()), m(weights.size()), v(weights.size());
  model->ReadWeights({0, size}, at4);
  model->ReadMoments({0, size}, m, v);
  train(4, 10);
  std::vector<float> at10(weights.size());
  model->ReadWeights({0, size}, at10);

  scorer->Load(at4);
  scorer->LoadMoments(m, v);
  ASSERT_OK(scorer->TrainOn({.step = 4, .data_position = 4, .adam_step = 4}, 6, control));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> audited, scorer->GateLosses(control));
  scorer->Load(at10);
  ASSERT_OK_AND_ASSIGN(const std::vector<float> trained, scorer->GateLosses(control));
  EXPECT_EQ(audited, trained) << "one rank, one thread: bit for bit";
}

TEST_F(ScorerTest, StopsBetweenChunksAndSteps) {
  scorer->Load(weights);
  control.Cancel("superseded");
  EXPECT_EQ(scorer->GateLosses(control).status(), absl::CancelledError("superseded"));
  EXPECT_EQ(scorer->TrainOn({}, 100, control), absl::CancelledError("superseded"));
}

TEST_F(ScorerTest, SaysWhatCannotBeOpened) {
  spec.data.paths = {"/no/such/text"};
  const auto missing = MakeScorer(spec, folder.string());
  EXPECT_THAT(std::string(missing.status().message()), ::testing::HasSubstr("/no/such/text"));
}

}  // namespace
}  // namespace leap
