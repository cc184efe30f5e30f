// Exported weights mean to others what they mean to us: a checkpoint's model.safetensors and
// config.json are read by an implementation that shares nothing with ours
// (tests/outsider/gpt2_numpy.py, numpy, float64).
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_matchers.h"
#include "base/test_paths.h"
#include "engine/checkpoint.h"
#include "engine/model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace leap {
namespace {

// What `command` prints; its exit status goes to `status`.
std::string Output(const std::string& command, int* status) {
  std::string output;
  FILE* const pipe = ::popen(command.c_str(), "r");
  char buffer[4096];
  while (const size_t got = std::fread(buffer, 1, sizeof(buffer), pipe)) output.append(buffer, got);
  *status = ::pclose(pipe);
  return output;
}

// A Python that has numpy: the distribution's, or the one on the path.
std::string Python() {
  for (const char* python : {"/usr/bin/python3", "python3"}) {
    int status = 0;
    Output(absl::StrCat(python, " -c 'import numpy' 2>&1"), &status);
    if (status == 0) return python;
  }
  return "";
}

TEST(Outsider, ComputesTheSameRowLossesAndFingerprints) {
  const std::string python = Python();
  ASSERT_NE(python, "") << "no Python with numpy; run scripts/setup.sh (Debian's python3-numpy)";
  const ModelConfig config{
      .vocab_size = 257, .n_positions = 64, .n_embd = 48, .n_layer = 3, .n_head = 4};
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Model> model, Model::Create(config, {}, 5));
  constexpr int64_t kRowTokens = 49;
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < 6 * kRowTokens; ++i) rows.push_back((i * i * 7 + i / 5) % 257);
  for (int64_t step = 1; step <= 20; ++step) {  // so that biases and gains are not 0 and 1 any more
    ASSERT_OK(model->ForwardBackward(rows, kRowTokens, 6, {}));
    ASSERT_OK(model->Update(TrainSpec{}, 1e-2, step));
  }
  ASSERT_OK_AND_ASSIGN(const std::vector<float> losses, model->RowLosses(rows, kRowTokens));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> print, model->Fingerprint(rows, kRowTokens));

  CheckpointData data{.config = config};
  const FlatRange all{0, model->layout().size};
  for (auto* buffer : {&data.weights, &data.exp_avg, &data.exp_avg_sq}) buffer->resize(all.size());
  model->ReadWeights(all, data.weights);
  const std::string dir = testing::TempDir() + "/outsider_test";
  std::filesystem::remove_all(dir);
  ASSERT_OK_AND_ASSIGN(const std::string checkpoint, WriteCheckpoint(dir, data, 1));
  nlohmann::json text = nlohmann::json::array();
  for (size_t row = 0; row < 6; ++row) {
    text.push_back(std::vector<int64_t>(rows.begin() + row * kRowTokens,
                                        rows.begin() + (row + 1) * kRowTokens));
  }
  std::ofstream(dir + "/rows.json") << text;

  int status = 0;
  const std::string output =
      Output(absl::StrJoin({python, SourcePath("tests/outsider/gpt2_numpy.py"),
                            checkpoint + "/model.safetensors", checkpoint + "/config.json",
                            dir + "/rows.json"},
                           " "),
             &status);
  ASSERT_EQ(status, 0) << output;
  const auto theirs = nlohmann::json::parse(output, nullptr, false);
  ASSERT_TRUE(theirs.is_object()) << output;
  ASSERT_EQ(theirs["losses"].size(), losses.size());
  for (size_t i = 0; i < losses.size(); ++i)
    EXPECT_NEAR(theirs["losses"][i].get<double>(), losses[i], 1e-5);
  ASSERT_EQ(theirs["fingerprint"].size(), print.size());
  for (size_t i = 0; i < print.size(); ++i)
    EXPECT_NEAR(theirs["fingerprint"][i].get<double>(), print[i], 1e-4);
}

}  // namespace
}  // namespace leap
