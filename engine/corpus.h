// Text as tokens: UTF-8 files -> bytes (0..255) + 256 = end of text after each file -> one
// memory-mapped token file (little-endian uint16) in a cache folder, keyed by the content (paths,
// sizes, bytes), written atomically, so that a second job, another rank or a restart maps the same
// file. The corpus is cut into disjoint regions: train, then gate, then report (core/sampling.h);
// windows of the gate and report sets never overlap one another.
//
// Immutable after Open; any thread may read. Owned by whoever opens it; windows are copied out.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/job_spec.h"
#include "core/sampling.h"

namespace leap {

inline constexpr int64_t kVocabularySize = 257;

class Corpus {
 public:
  // Errors: NotFound (a path matches nothing; names it), InvalidArgument (too little text for the
  // windows asked for: says how many tokens there are and how many are needed; not UTF-8: file and
  // offset), ResourceExhausted (disk full).
  static absl::StatusOr<std::unique_ptr<Corpus>> Open(const DataSpec& spec,
                                                      const std::string& default_cache_dir);
  virtual ~Corpus() = default;

  virtual int64_t tokens() const = 0;
  virtual const DataRegions& regions() const = 0;
  virtual std::string content_digest() const = 0;  // hex
  virtual int64_t train_windows() const = 0;

  // Copies windows of sequence_length + 1 tokens (inputs and shifted targets) as int64, row after
  // row.
  virtual std::vector<int64_t> TrainBatch(std::span<const int64_t> windows) const = 0;
  virtual std::vector<int64_t> GateSet() const = 0;    // gate_sequences rows
  virtual std::vector<int64_t> ReportSet() const = 0;  // report_sequences rows
  virtual std::vector<int64_t> Probes(
      int64_t count) const = 0;  // rows from the gate region, for fingerprints
};

}  // namespace leap
