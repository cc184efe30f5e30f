// Checkpoints: a folder `step-<n>` with
//   model.safetensors + config.json   weights that other tools load as they are (Hugging Face GPT-2 names)
//   optimizer.safetensors             exp_avg, exp_avg_sq (flat)
//   leap_state.safetensors            predictor state (flat buffers), if any
//   state.json                        step, data position, Adam's counter, leaps applied, seed, digests, format version
// written into `step-<n>.tmp-<random>`, fsynced, renamed, folder fsynced: a crash at any byte leaves the previous one
// valid. The digest of every buffer is checked on load; a mismatch is DataLoss naming the file, and tells which
// previous checkpoint is offered. Only the last `keep` complete ones stay.
//
// Pure file functions: call them from any thread; one writer per folder at a time (the caller's).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layout.h"
#include "engine/model.h"

namespace leap {

// Where training stands; everything besides the flat buffers that a resume needs.
struct TrainPosition {
  int64_t step = 0;            // optimizer step counter (moves with a leap only if the spec says so)
  int64_t data_position = 0;   // trained batches; never skips
  int64_t adam_step = 0;       // bias correction's counter
  int64_t leaps_applied = 0;
  uint64_t last_leap = 0;
  int64_t state_base_step = -1;  // snapshot step that the predictor state belongs to; -1: none
  auto operator<=>(const TrainPosition&) const = default;
};

struct CheckpointData {
  TrainPosition position;
  uint64_t seed = 0;
  ModelConfig config;
  std::vector<float> weights, exp_avg, exp_avg_sq;
  std::vector<std::vector<float>> state;  // predictor state S_t, whole
  std::vector<float> state_anchor;        // where training went on from at state_base_step (docs/architecture.md)
};

// Returns the path of the finished folder.
absl::StatusOr<std::string> WriteCheckpoint(const std::string& dir, const CheckpointData& data, int64_t keep);
absl::StatusOr<CheckpointData> ReadCheckpoint(const std::string& path);
// Complete checkpoints of `dir`, newest first (by step). Incomplete and foreign folders are ignored.
std::vector<std::string> ListCheckpoints(const std::string& dir);

// safetensors: named fp32 tensors of one layout, with string metadata. The reader checks header size, overlaps,
// bounds, types (F32) and says file, tensor, expected, seen.
absl::Status WriteSafetensors(const std::string& file, const WeightLayout& layout, std::span<const float> flat,
                              const std::map<std::string, std::string>& metadata);
absl::StatusOr<std::vector<float>> ReadSafetensors(const std::string& file, const WeightLayout& layout,
                                                   std::map<std::string, std::string>* metadata);

}  // namespace leap
