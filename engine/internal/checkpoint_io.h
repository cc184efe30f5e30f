// WriteCheckpoint with the file operations handed in, so that a test can end the world at any of
// them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint.h"
#include "engine/internal/file_ops.h"

namespace leap {

absl::StatusOr<std::string> WriteCheckpointWith(FileOps& ops, const std::string& dir,
                                                const CheckpointData& data, int64_t keep);

}  // namespace leap
