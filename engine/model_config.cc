#include "core/model_config.h"

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "engine/internal/file_ops.h"
#include "engine/model.h"

namespace leap {
namespace {

constexpr int64_t kMaxConfigBytes = 1 << 20;

absl::Status CheckFits(const ModelConfig& config, int64_t sequence_length,
                       absl::string_view source) {
  if (sequence_length < 1 || sequence_length > config.n_positions) {
    return MakeError(
        absl::StatusCode::kInvalidArgument, ErrorReason::kModelInvalid,
        absl::StrCat("spec.data.sequence_length_tokens: expected 1 to ", config.n_positions,
                     ", the positions of ", source, ", saw ", sequence_length),
        {{"sequence_length_tokens", absl::StrCat(sequence_length)}});
  }
  if (config.vocab_size < kVocabularySize) {
    return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kModelInvalid,
                     absl::StrCat(source, ": vocab_size: expected at least ", kVocabularySize,
                                  " (bytes and end of text), saw ", config.vocab_size),
                     {{"file", std::string(source)}, {"key", "vocab_size"}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ResolveModelConfig(const ModelSpec& spec,
                                               int64_t sequence_length_tokens) {
  if (spec.config.empty()) {
    LEAP_ASSIGN_OR_RETURN(const ModelConfig config, PresetModelConfig(spec.preset));
    LEAP_RETURN_IF_ERROR(CheckFits(config, sequence_length_tokens, spec.preset));
    return config;
  }
  const absl::StatusOr<std::string> text = ReadWholeFile(spec.config, kMaxConfigBytes);
  if (!text.ok()) {
    return MakeError(text.status().code(), ErrorReason::kModelInvalid,
                     absl::StrCat("spec.model.config: ", text.status().message()),
                     {{"file", spec.config}});
  }
  LEAP_ASSIGN_OR_RETURN(const ModelConfig config, ParseModelConfig(*text, spec.config));
  for (const std::string& key : config.dropouts) {
    LogWarning("dropout_not_applied", {{"file", spec.config}, {"key", key}});
  }
  LEAP_RETURN_IF_ERROR(CheckFits(config, sequence_length_tokens, spec.config));
  return config;
}

}  // namespace leap
