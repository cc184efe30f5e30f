// Checkpoints: a folder `step-<n>` with
//   model.safetensors + config.json   weights that other tools load as they are (Hugging Face GPT-2
//   names) optimizer.safetensors             exp_avg, exp_avg_sq (flat) leap_state.safetensors
//   predictor state (flat buffers), if any state.json                        step, data position,
//   Adam's counter, leaps applied, seed, digests, format version
// written into `step-<n>.tmp-<random>`, fsynced, renamed, folder fsynced: a crash at any byte
// leaves the previous one valid. The checksum of every file and the digest of every buffer are
// checked on load; a mismatch is DataLoss naming the file, and tells which previous checkpoint is
// offered. Only the last `keep` complete ones stay.
//
// There is no state of a random generator to save: batches follow from (seed, data position), and
// nothing else is random after the first weights.
//
// Pure file functions: call them from any thread; one writer per folder at a time (the caller's).
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layout.h"
#include "engine/model.h"
#include "engine/safetensors.h"

namespace leap {

// Where training stands; everything besides the flat buffers that a resume needs.
struct TrainPosition {
  int64_t rollbacks = 0;      // leaps undone; of two states the one with more is the newer
  int64_t step = 0;           // optimizer step counter (moves with a leap only if the spec says so)
  int64_t data_position = 0;  // trained batches; never skips
  int64_t adam_step = 0;      // bias correction's counter
  int64_t leaps_applied = 0;
  uint64_t last_leap = 0;
  int64_t state_base_step = -1;  // snapshot step that the predictor state belongs to; -1: none
  double train_loss = 0;         // of the newest batch, in nats; 0 before the first
  auto operator<=>(const TrainPosition&) const = default;
};

struct CheckpointData {
  TrainPosition position;
  std::string job;  // whose group wrote it, in which epoch; empty, 0: not known
  uint64_t epoch = 0;
  uint64_t seed = 0;
  ModelConfig config;
  std::vector<float> weights, exp_avg, exp_avg_sq;
  std::vector<std::vector<float>> state;  // predictor state S_t, whole
  std::vector<float>
      state_anchor;  // where training went on from at state_base_step (docs/architecture.md)
};

// Returns the path of the finished folder. `dir` is made if it is not there; a checkpoint of the
// same step is replaced. Whatever goes wrong, what was in `dir` before can still be read.
// ResourceExhausted: the disk is full. FailedPrecondition, STALE_EPOCH: a later epoch of the same
// job has written to `dir`, so this group was given up, and nothing is written. Afterwards what an
// earlier crash left behind is removed, and older checkpoints beyond `keep` (at least 1, this one
// counted); those of a later step are left alone. A failure of that is logged and not returned.
absl::StatusOr<std::string> WriteCheckpoint(const std::string& dir, const CheckpointData& data,
                                            int64_t keep);

// Errors: NotFound, CHECKPOINT_NOT_FOUND: no checkpoint at `path`. DataLoss, CHECKPOINT_CORRUPT: a
// file is damaged; the message names it and the next older checkpoint, which also stands in the
// metadata as "older" (absent if there is none).
absl::StatusOr<CheckpointData> ReadCheckpoint(const std::string& path);

// Removes the checkpoints of `dir` whose step is later: the run went back to `step`.
absl::Status RemoveCheckpointsAfter(const std::string& dir, int64_t step);

// Complete checkpoints of `dir`, newest first (by step). Incomplete and foreign folders are
// ignored. Complete: all files are there; whether they are sound, ReadCheckpoint says.
std::vector<std::string> ListCheckpoints(const std::string& dir);

}  // namespace leap
