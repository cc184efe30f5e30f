// Parts of safetensors.h for checkpoint.cc and tests: several buffers in one file, and the header
// as values.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/internal/file_ops.h"

namespace leap {

inline constexpr int64_t kMaxSafetensorsHeader = int64_t{16} << 20;

// Tensors that need not lie in one buffer. Shapes and sizes must agree.
struct NamedTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::span<const float> values;
};

// Writes `path` itself (no rename) through `ops`.
absl::StatusOr<FileSummary> WriteTensors(FileOps& ops, const std::string& path,
                                         std::span<const NamedTensor> tensors,
                                         const std::map<std::string, std::string>& metadata);

struct TensorEntry {
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t begin = 0, end = 0;  // bytes, from the start of the data
};

struct SafetensorsHeader {
  std::map<std::string, TensorEntry> tensors;
  std::map<std::string, std::string> metadata;
};

// Checks and parses a JSON header for a data part of `data_bytes`. `file` is for messages.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view json, int64_t data_bytes,
                                                         absl::string_view file);

}  // namespace leap
