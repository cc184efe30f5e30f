// The shape of a GPT-2-like model: its presets, Hugging Face's config.json, and in which order its
// parameters lie in the flat vector. What trains it is engine/model.h. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/layout.h"

namespace leap {

// Bytes, and the end of text.
inline constexpr int64_t kVocabularySize = 257;

struct ModelConfig {
  int64_t vocab_size = kVocabularySize;
  int64_t n_positions = 128;
  int64_t n_embd = 128;
  int64_t n_layer = 4;
  int64_t n_head = 4;
  double layer_norm_epsilon = 1e-5;
  double initializer_range = 0.02;
  std::vector<std::string> dropouts =
      {};  // keys of a config.json that ask for one: none is applied
};

// spec.model.preset: gpt2-tiny or gpt2-small. InvalidArgument with MODEL_INVALID: another name.
absl::StatusOr<ModelConfig> PresetModelConfig(absl::string_view name);

// Reads a Hugging Face style config.json. A key that is absent has the default of their GPT2Config;
// keys that do not change a forward pass are passed over. InvalidArgument with MODEL_INVALID names
// `file`, key, what was expected and what was seen.
absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view json, absl::string_view file);
std::string ModelConfigJson(const ModelConfig& config);

// Hugging Face GPT-2's names and order ("transformer.wte.weight", ...); c_attn etc. are Conv1D:
// [in, out]; lm_head is tied to wte.
WeightLayout LayoutOf(const ModelConfig& config);

}  // namespace leap
