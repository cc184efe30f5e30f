// Parts of model_config.cc that checkpoints and tests use besides what model.h declares.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/model.h"

namespace leap {

// Reads a Hugging Face style config.json. A key that is absent has the default of their GPT2Config;
// keys that do not change a forward pass are passed over; dropout above zero is accepted and
// logged, because it is not applied. InvalidArgument with MODEL_INVALID names `file`, key, what was
// expected and what was seen.
absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view json, absl::string_view file);

}  // namespace leap
