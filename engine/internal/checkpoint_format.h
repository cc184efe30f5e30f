// state.json of a checkpoint: what a resume needs besides the buffers, and what each file and
// buffer must sum up to. Pure: values to text and back. Its own last line of defence is `checksum`,
// XXH3_64 of the text without it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint.h"
#include "engine/internal/file_ops.h"

namespace leap {

inline constexpr char kWeightsFile[] = "model.safetensors";
inline constexpr char kConfigFile[] = "config.json";
inline constexpr char kOptimizerFile[] = "optimizer.safetensors";
inline constexpr char kLeapStateFile[] = "leap_state.safetensors";
inline constexpr char kStateFile[] = "state.json";

struct CheckpointState {
  TrainPosition position;
  std::string job;
  uint64_t epoch = 0;
  uint64_t seed = 0;
  std::map<std::string, FileSummary> files;  // all but state.json
  // By buffer: exp_avg, exp_avg_sq, weights, state.<i>, state_anchor (core/digest.h).
  std::map<std::string, uint64_t> digests;
  std::vector<int64_t> state_floats;  // sizes of state.<i>
  int64_t anchor_floats = 0;          // 0: no anchor
  bool operator==(const CheckpointState&) const = default;
};

std::string CheckpointStateJson(const CheckpointState& state);

// DataLoss with a message without the file's name: what was expected and what was seen.
absl::StatusOr<CheckpointState> ParseCheckpointState(absl::string_view json);

}  // namespace leap
