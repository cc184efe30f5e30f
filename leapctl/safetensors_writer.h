// A safetensors file of fp32 tensors (https://huggingface.co/docs/safetensors): eight bytes of
// header length, a JSON header padded to eight bytes, the data. engine/safetensors.h writes
// checkpoints; this one is for a tool without LibTorch.
#pragma once

#include <map>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "core/layout.h"

namespace leap {

// The header, its length included. `layout` is contiguous from 0.
std::string SafetensorsHeader(const WeightLayout& layout,
                              const std::map<std::string, std::string>& metadata);

// By way of a file beside it, so that `path` is whole or not there. AlreadyExists if it is there
// and not `overwrite`; FailedPrecondition, DISK_FULL.
absl::Status WriteSafetensorsFile(const std::string& path, bool overwrite,
                                  const WeightLayout& layout, std::span<const float> flat,
                                  const std::map<std::string, std::string>& metadata);

}  // namespace leap
