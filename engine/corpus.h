// Text as tokens: UTF-8 files -> bytes (0..255) + 256 = end of text -> one memory-mapped token file
// (little-endian uint16) in a cache folder, named by the digest of the content, written atomically,
// so that a second job, another rank or a restart maps the same file. Processes that open the same
// text at once take turns: one writes.
//
// Text drifts along a corpus, so it is dealt out in pieces: a piece is a file, or, of a file longer
// than 1/256 of all text (at least 16 KiB), stretches of about that length that end at a line's
// end. Pieces lie in the order of their content's hash, each followed by 256; equal ones count
// once. So every stretch of the token file is a sample of the whole corpus, and the same text gives
// the same tokens wherever it lies and whatever its files are called. The token file is cut into
// disjoint regions at pieces' begins: train, then gate, then report, the latter two a twentieth
// each or what their windows need (internal/corpus_regions.h). So no uncut file is in two regions.
// Windows of the gate and report sets never overlap one another; each set is spread evenly over its
// region.
//
// Text is UTF-8 without NUL bytes. A file that a job names must be text; what is found in a folder
// or by a glob and is no text is skipped, counted and logged. Names that begin with a dot are
// passed over in folders.
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

class Corpus {
 public:
  // Errors (CORPUS_INVALID): NotFound (a path matches nothing; names it), InvalidArgument (too
  // little text for the windows asked for: says how many tokens there are and how many are needed;
  // not UTF-8: file and offset), Aborted (a file changed while it was read). ResourceExhausted
  // (DISK_FULL), DeadlineExceeded (another process has been writing the token file for ten
  // minutes).
  static absl::StatusOr<std::unique_ptr<Corpus>> Open(const DataSpec& spec,
                                                      const std::string& default_cache_dir);
  virtual ~Corpus() = default;

  virtual int64_t tokens() const = 0;
  virtual const DataRegions& regions() const = 0;
  virtual std::string content_digest() const = 0;  // 32 hex digits
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
