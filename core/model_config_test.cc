#include "core/model_config.h"

#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(ModelConfig, ReadsGpt2sOwnFile) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseModelConfig(R"({
      "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
      "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
      "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12,
      "n_inner": null, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1, "vocab_size": 50257})",
                                                                  "config.json"));
  EXPECT_EQ(LayoutOf(config).size, 124'439'808);
}

TEST(ModelConfig, WhatIsWrittenIsReadBack) {
  const ModelConfig config{.vocab_size = 300,
                           .n_positions = 64,
                           .n_embd = 48,
                           .n_layer = 3,
                           .n_head = 4,
                           .layer_norm_epsilon = 1e-6,
                           .initializer_range = 0.01};
  ASSERT_OK_AND_ASSIGN(const ModelConfig read,
                       ParseModelConfig(ModelConfigJson(config), "config.json"));
  EXPECT_EQ(LayoutOf(read), LayoutOf(config));
  EXPECT_EQ(read.n_head, 4);
  EXPECT_EQ(read.layer_norm_epsilon, 1e-6);
  EXPECT_EQ(read.initializer_range, 0.01);
}

TEST(ModelConfig, ErrorsNameFileKeyExpectedAndSeen) {
  const struct {
    const char* json;
    const char* message;
  } cases[] = {
      {"", "expected a JSON object"},
      {"[1]", "expected a JSON object"},
      {"{\"n_embd\": 12", "expected a JSON object"},
      {R"({"n_embd": "wide"})", "n_embd: expected a whole number from 1 to 131072, saw \"wide\""},
      {R"({"n_embd": 0})", "n_embd: expected a whole number from 1 to 131072, saw 0"},
      {R"({"n_layer": 2.5})", "n_layer: expected a whole number from 1 to 4096, saw 2.5"},
      {R"({"n_layer": 99999999999999999999})", "n_layer: expected a whole number"},
      {R"({"vocab_size": -1})", "vocab_size: expected a whole number"},
      {R"({"n_head": 7})", "n_head: expected a divisor of n_embd = 768, saw 7"},
      {R"({"n_inner": 100})", "n_inner: expected null or 4 * n_embd = 3072, saw 100"},
      {R"({"model_type": "llama"})", "model_type: expected \"gpt2\", saw \"llama\""},
      {R"({"activation_function": "relu"})",
       "activation_function: expected \"gelu_new\", saw \"relu\""},
      {R"({"tie_word_embeddings": false})", "tie_word_embeddings: expected true"},
      {R"({"scale_attn_by_inverse_layer_idx": true})", "expected false, saw true"},
      {R"({"layer_norm_epsilon": 0})", "layer_norm_epsilon: expected a number above 0, saw 0"},
      {R"({"n_embd": 131072, "n_head": 1, "n_layer": 4096})", "parameters"},
  };
  for (const auto& [json, message] : cases) {
    const absl::StatusOr<ModelConfig> config = ParseModelConfig(json, "/x/config.json");
    EXPECT_THAT(config, StatusIs(absl::StatusCode::kInvalidArgument,
                                 AllOf(HasSubstr("/x/config.json: "), HasSubstr(message))))
        << json;
    EXPECT_THAT(config, HasReason(ErrorReason::kModelInvalid)) << json;
  }
}

}  // namespace
}  // namespace leap
