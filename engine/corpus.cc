#include "engine/corpus.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "engine/internal/corpus_files.h"
#include "engine/internal/corpus_regions.h"
#include "engine/internal/running_hash.h"
#include "engine/internal/token_file.h"

namespace leap {
namespace {

// Part of every digest: to be changed with anything that changes the tokens of a given text.
constexpr absl::string_view kTokenization = "leap-bytes/1";

std::string ContentDigest(const std::vector<Piece>& pieces) {
  RunningHash running;
  running.Update(kTokenization.data(), kTokenization.size());
  for (const Piece& piece : pieces) {
    const uint64_t parts[] = {piece.hash.high64, piece.hash.low64,
                              static_cast<uint64_t>(piece.bytes)};
    running.Update(parts, sizeof(parts));
  }
  const XXH128_hash_t hash = running.Sum128();
  return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
}

TokenSource Tokenizer(const std::vector<TextFile>& files, const std::vector<Piece>& pieces) {
  return [&files, &pieces](const AppendTokens& append) -> absl::Status {
    std::string bytes;
    std::vector<uint16_t> tokens;
    for (const Piece& piece : pieces) {
      LEAP_RETURN_IF_ERROR(ReadPiece(files[static_cast<size_t>(piece.file)], piece, bytes));
      tokens.clear();
      for (const char byte : bytes) tokens.push_back(static_cast<uint8_t>(byte));
      tokens.push_back(kEndOfText);
      LEAP_RETURN_IF_ERROR(append(tokens));
    }
    return absl::OkStatus();
  };
}

class MappedCorpus final : public Corpus {
 public:
  MappedCorpus(DataSpec spec, std::string digest, std::unique_ptr<TokenFile> file,
               DataRegions regions)
      : spec_(std::move(spec)),
        digest_(std::move(digest)),
        file_(std::move(file)),
        regions_(regions) {}

  int64_t tokens() const override { return static_cast<int64_t>(file_->tokens().size()); }
  const DataRegions& regions() const override { return regions_; }
  std::string content_digest() const override { return digest_; }
  // A window's last target is the next one's first token, so the last window needs one token more.
  int64_t train_windows() const override {
    return (regions_.train_end - regions_.train_begin - 1) / spec_.sequence_length_tokens;
  }

  std::vector<int64_t> TrainBatch(std::span<const int64_t> windows) const override {
    std::vector<int64_t> begins;
    for (const int64_t window : windows) {
      begins.push_back(regions_.train_begin + window * spec_.sequence_length_tokens);
    }
    return Rows(begins);
  }
  std::vector<int64_t> GateSet() const override { return Probes(spec_.gate_sequences); }
  std::vector<int64_t> ReportSet() const override {
    return Rows(SpreadWindows(regions_.report_begin, regions_.report_end, row_tokens(),
                              spec_.report_sequences));
  }
  std::vector<int64_t> Probes(int64_t count) const override {
    return Rows(SpreadWindows(regions_.gate_begin, regions_.gate_end, row_tokens(), count));
  }

 private:
  int64_t row_tokens() const { return spec_.sequence_length_tokens + 1; }

  std::vector<int64_t> Rows(const std::vector<int64_t>& begins) const {
    std::vector<int64_t> rows;
    rows.reserve(begins.size() * static_cast<size_t>(row_tokens()));
    for (const int64_t begin : begins) {
      const auto row =
          file_->tokens().subspan(static_cast<size_t>(begin), static_cast<size_t>(row_tokens()));
      rows.insert(rows.end(), row.begin(), row.end());
    }
    return rows;
  }

  const DataSpec spec_;
  const std::string digest_;
  const std::unique_ptr<TokenFile> file_;
  const DataRegions regions_;
};

void LogReady(const Corpus& corpus, const std::vector<TextFile>& files, const Pieces& pieces) {
  if (pieces.skipped_files > 0) {
    LogInfo("corpus_files_skipped",
            {{"files", pieces.skipped_files}, {"first", pieces.first_skipped}});
  }
  const DataRegions& regions = corpus.regions();
  LogInfo("corpus_ready", {{"files", static_cast<int64_t>(files.size()) - pieces.skipped_files},
                           {"pieces", pieces.pieces.size()},
                           {"duplicates", pieces.duplicate_pieces},
                           {"tokens", corpus.tokens()},
                           {"train", regions.train_end - regions.train_begin},
                           {"gate", regions.gate_end - regions.gate_begin},
                           {"report", regions.report_end - regions.report_begin},
                           {"digest", corpus.content_digest()}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Corpus>> Corpus::Open(const DataSpec& spec,
                                                     const std::string& default_cache_dir) {
  LEAP_ASSIGN_OR_RETURN(const std::vector<TextFile> files, FindFiles(spec.paths));
  LEAP_ASSIGN_OR_RETURN(const Pieces pieces, ReadPieces(files, PieceLimit(files)));
  int64_t tokens = 0;
  for (const Piece& piece : pieces.pieces) tokens += piece.bytes + 1;
  if (tokens == 0) {
    return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kCorpusInvalid,
                     absl::StrCat("spec.data.paths: no text found in ", files.size(), " files",
                                  pieces.first_skipped.empty() ? "" : "; ", pieces.first_skipped));
  }
  const std::string digest = ContentDigest(pieces.pieces);
  const std::string& folder = spec.cache_dir.empty() ? default_cache_dir : spec.cache_dir;
  LEAP_ASSIGN_OR_RETURN(std::unique_ptr<TokenFile> file,
                        MapOrWrite(RealFileOps(), RealClock(),
                                   {.path = absl::StrCat(folder, "/", digest, ".tokens"),
                                    .tokens = tokens,
                                    .source = Tokenizer(files, pieces.pieces)}));
  LEAP_ASSIGN_OR_RETURN(const DataRegions regions, CutRegions(file->tokens(), spec));
  auto corpus = std::make_unique<MappedCorpus>(spec, digest, std::move(file), regions);
  LogReady(*corpus, files, pieces);
  return corpus;
}

}  // namespace leap
