// Which windows of the training region make up a global batch: a pure function of (seed, data
// position), so that any world size trains on the same samples in the same order, and resuming is
// exact to the sample.
//
// `data_position` counts trained batches (it never skips or repeats, also when a leap advances the
// step counter). The training region is cut into windows of sequence_length tokens; epoch e visits
// them in the order of a seeded permutation; batch b takes the next batch_sequences of it, wrapping
// into epoch e+1. Rank r of N takes the contiguous part [r*B/N, (r+1)*B/N) of the batch.
#pragma once

#include <cstdint>
#include <vector>

namespace leap {

// Disjoint regions of a corpus of `tokens` tokens, in tokens. Gate and report windows are spread
// over the corpus (one stripe in each stretch of text) or cut from its end - here: report = last,
// gate = just before it, train = rest.
struct DataRegions {
  int64_t train_begin = 0, train_end = 0;
  int64_t gate_begin = 0, gate_end = 0;
  int64_t report_begin = 0, report_end = 0;
};

// Index of the training windows of one rank for the batch at `data_position`; `windows` = number of
// windows of the training region (> 0).
std::vector<int64_t> BatchWindows(uint64_t seed, int64_t data_position, int64_t windows,
                                  int64_t batch_sequences, int rank, int world_size);

}  // namespace leap
