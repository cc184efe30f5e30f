// How a token file is cut into train, gate and report, and which windows the held-out sets are.
// Pure.
//
// Pieces lie in the token file in the order of their hash, which is as good as shuffled, so any
// stretch of it is text of the whole corpus. The report region is its end, the gate region what
// comes before: each a twentieth of the tokens or what its windows need, whichever is more, begun
// at a piece's begin, so that no file (no piece of one, if the file had to be cut) is in two
// regions. Only where that would take more than half of the tokens (a corpus of few pieces) are the
// regions cut to the exact length instead, within a piece.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "core/job_spec.h"
#include "core/sampling.h"

namespace leap {

inline constexpr uint16_t kEndOfText = 256;

// InvalidArgument with CORPUS_INVALID: too few tokens; says how many there are and how many are
// needed.
absl::StatusOr<DataRegions> CutRegions(std::span<const uint16_t> tokens, const DataSpec& spec);

// Begins of `count` windows of `window` tokens, spread evenly over [begin, end), from its first
// token to its last. They do not overlap if count * window tokens fit in; otherwise they overlap
// evenly. `window` must fit in.
std::vector<int64_t> SpreadWindows(int64_t begin, int64_t end, int64_t window, int64_t count);

}  // namespace leap
