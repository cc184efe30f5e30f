// safetensors (https://huggingface.co/docs/safetensors): eight bytes of header length, a JSON
// header with name, type, shape and byte range of each tensor, then the data. Read here: any file
// in that format whose tensors of interest are fp32. Written here: fp32 in the order of a layout,
// header padded to eight bytes.
//
// The reader trusts nothing: header at most 16 MiB, no name twice, ranges in bounds, fitting type
// and shape, without gap or overlap. Errors: DataLoss with CHECKPOINT_CORRUPT for a file that is
// not well-formed; InvalidArgument with CHECKPOINT_MISMATCH for a well-formed one with other
// tensors than expected. Both name file, tensor, what was expected and what was seen.
//
// Pure file functions: call them from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/layout.h"

namespace leap {

// Writes `<file>.tmp-<random>`, syncs, renames: `file` is whole or not there.
absl::Status WriteSafetensors(const std::string& file, const WeightLayout& layout,
                              std::span<const float> flat,
                              const std::map<std::string, std::string>& metadata);

// The tensors of `layout`, as one flat vector. `metadata` may be null. Names may lack the prefix
// "transformer.", as in the files of the first GPT-2 models; attention masks and a lm_head.weight
// are passed over (it is tied to wte), any other tensor that the layout does not have is an error.
absl::StatusOr<std::vector<float>> ReadSafetensors(const std::string& file,
                                                   const WeightLayout& layout,
                                                   std::map<std::string, std::string>* metadata);

}  // namespace leap
