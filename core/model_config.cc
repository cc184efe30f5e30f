#include "core/model_config.h"

#include <cmath>
#include <functional>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_macros.h"

namespace leap {
namespace {

using Json = nlohmann::json;

// No weight vector is larger: 16 TiB of fp32. Keeps every product below from overflowing.
constexpr int64_t kMaxFloats = int64_t{1} << 42;

absl::Status Invalid(absl::string_view file, absl::string_view key, absl::string_view expected,
                     absl::string_view seen) {
  return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kModelInvalid,
                   absl::StrCat(file, ": ", key, ": expected ", expected, ", saw ", seen),
                   {{"file", std::string(file)}, {"key", std::string(key)}});
}

std::string Shown(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80);
}

// Reads the keys of one file; the first error stays.
class Keys {
 public:
  Keys(const Json& json, absl::string_view file) : json_(json), file_(file) {}

  void Whole(const char* key, int64_t min, int64_t max, int64_t& out) {
    const Json* value = Find(key);
    if (value == nullptr) return;
    const bool fits = value->is_number_integer() &&
                      (!value->is_number_unsigned() ||
                       value->get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()});
    if (fits && value->get<int64_t>() >= min && value->get<int64_t>() <= max) {
      out = value->get<int64_t>();
    } else {
      Fail(key, absl::StrCat("a whole number from ", min, " to ", max), Shown(*value));
    }
  }

  void Positive(const char* key, double& out) {
    const Json* value = Find(key);
    if (value == nullptr) return;
    if (value->is_number() && value->get<double>() > 0 && std::isfinite(value->get<double>())) {
      out = value->get<double>();
    } else {
      Fail(key, "a number above 0", Shown(*value));
    }
  }

  // A key that must have one of these values, if it is there.
  void OneOf(const char* key, std::initializer_list<Json> values, absl::string_view expected) {
    const Json* value = Find(key);
    if (value == nullptr) return;
    for (const Json& allowed : values) {
      if (*value == allowed) return;
    }
    Fail(key, expected, Shown(*value));
  }

  void Dropout(const char* key) {
    const Json* value = Find(key);
    if (value == nullptr || !value->is_number() || value->get<double>() == 0) return;
    dropouts_.push_back(key);
  }

  const Json* Find(const char* key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }

  void Fail(absl::string_view key, absl::string_view expected, absl::string_view seen) {
    if (status_.ok()) status_ = Invalid(file_, key, expected, seen);
  }
  const absl::Status& status() const { return status_; }
  const std::vector<std::string>& dropouts() const { return dropouts_; }

 private:
  const Json& json_;
  const absl::string_view file_;
  absl::Status status_;
  std::vector<std::string> dropouts_;
};

// What this implementation does not do, and what a file may say about it.
void CheckFixed(Keys& keys, int64_t n_embd) {
  keys.OneOf("model_type", {"gpt2"}, "\"gpt2\"");
  keys.OneOf("activation_function", {"gelu_new", "gelu_pytorch_tanh"}, "\"gelu_new\"");
  keys.OneOf("n_inner", {4 * n_embd}, absl::StrCat("null or 4 * n_embd = ", 4 * n_embd));
  keys.OneOf("tie_word_embeddings", {true}, "true (lm_head is tied to wte)");
  keys.OneOf("scale_attn_weights", {true}, "true");
  keys.OneOf("scale_attn_by_inverse_layer_idx", {false}, "false");
  keys.OneOf("add_cross_attention", {false}, "false");
  for (const char* key : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) keys.Dropout(key);
}

}  // namespace

absl::StatusOr<ModelConfig> PresetModelConfig(absl::string_view name) {
  // 1.04 M parameters: about ten steps a second of 8 x 128 tokens on one core.
  if (name == "gpt2-tiny") {
    return ModelConfig{.vocab_size = kVocabularySize,
                       .n_positions = 512,
                       .n_embd = 192,
                       .n_layer = 2,
                       .n_head = 6};
  }
  // GPT-2's own shape, vocabulary included, so that its weights can be loaded: 124 M parameters.
  if (name == "gpt2-small") {
    return ModelConfig{
        .vocab_size = 50257, .n_positions = 1024, .n_embd = 768, .n_layer = 12, .n_head = 12};
  }
  return MakeError(
      absl::StatusCode::kInvalidArgument, ErrorReason::kModelInvalid,
      absl::StrCat("spec.model.preset: expected gpt2-tiny or gpt2-small, saw '", name, "'"),
      {{"preset", std::string(name)}});
}

absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view text, absl::string_view file) {
  const Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Invalid(file, "the file", "a JSON object", "something else");
  Keys keys(json, file);
  ModelConfig config{
      .vocab_size = 50257, .n_positions = 1024, .n_embd = 768, .n_layer = 12, .n_head = 12};
  keys.Whole("vocab_size", 2, int64_t{1} << 24, config.vocab_size);
  keys.Whole("n_ctx", 1, int64_t{1} << 24,
             config.n_positions);  // its name of old; n_positions wins
  keys.Whole("n_positions", 1, int64_t{1} << 24, config.n_positions);
  keys.Whole("n_embd", 1, int64_t{1} << 17, config.n_embd);
  keys.Whole("n_layer", 1, 4096, config.n_layer);
  keys.Whole("n_head", 1, int64_t{1} << 17, config.n_head);
  keys.Positive("layer_norm_epsilon", config.layer_norm_epsilon);
  keys.Positive("initializer_range", config.initializer_range);
  LEAP_RETURN_IF_ERROR(keys.status());
  if (config.n_embd % config.n_head != 0) {
    return Invalid(file, "n_head", absl::StrCat("a divisor of n_embd = ", config.n_embd),
                   absl::StrCat(config.n_head));
  }
  CheckFixed(keys, config.n_embd);
  LEAP_RETURN_IF_ERROR(keys.status());
  config.dropouts = keys.dropouts();
  if (LayoutOf(config).size > kMaxFloats) {
    return Invalid(file, "the model", absl::StrCat("at most ", kMaxFloats, " parameters"),
                   absl::StrCat(LayoutOf(config).size));
  }
  return config;
}

std::string ModelConfigJson(const ModelConfig& config) {
  const nlohmann::ordered_json json = {
      {"architectures", {"GPT2LMHeadModel"}},
      {"model_type", "gpt2"},
      {"vocab_size", config.vocab_size},
      {"n_positions", config.n_positions},
      {"n_ctx", config.n_positions},
      {"n_embd", config.n_embd},
      {"n_layer", config.n_layer},
      {"n_head", config.n_head},
      {"n_inner", nullptr},
      {"activation_function", "gelu_new"},
      {"layer_norm_epsilon", config.layer_norm_epsilon},
      {"initializer_range", config.initializer_range},
      {"attn_pdrop", 0.0},
      {"embd_pdrop", 0.0},
      {"resid_pdrop", 0.0},
      {"tie_word_embeddings", true},
      {"bos_token_id", kVocabularySize - 1},
      {"eos_token_id", kVocabularySize - 1},
      {"torch_dtype", "float32"},
  };
  return json.dump(2) + "\n";
}

WeightLayout LayoutOf(const ModelConfig& config) {
  WeightLayout layout;
  const auto add = [&layout](std::string name, std::vector<int64_t> shape) {
    TensorSlot slot;
    slot.name = absl::StrCat("transformer.", name);
    slot.size = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    slot.decays = shape.size() == 2;
    slot.shape = std::move(shape);
    slot.offset = layout.size;
    layout.size += slot.size;
    layout.tensors.push_back(std::move(slot));
  };
  const int64_t d = config.n_embd;
  const auto linear = [&add](const std::string& name, int64_t in,
                             int64_t out) {  // Conv1D: [in, out]
    add(name + ".weight", {in, out});
    add(name + ".bias", {out});
  };
  const auto norm = [&add, d](const std::string& name) {
    add(name + ".weight", {d});
    add(name + ".bias", {d});
  };
  add("wte.weight", {config.vocab_size, d});
  add("wpe.weight", {config.n_positions, d});
  for (int64_t layer = 0; layer < config.n_layer; ++layer) {
    const std::string prefix = absl::StrCat("h.", layer, ".");
    norm(prefix + "ln_1");
    linear(prefix + "attn.c_attn", d, 3 * d);
    linear(prefix + "attn.c_proj", d, d);
    norm(prefix + "ln_2");
    linear(prefix + "mlp.c_fc", d, 4 * d);
    linear(prefix + "mlp.c_proj", 4 * d, d);
  }
  norm("ln_f");
  return layout;
}

}  // namespace leap
