// The first half of a corpus: from paths to pieces of text, still on disk.
//
// A piece is what is kept together: a whole file, or, where a file is longer than `piece_limit`, a
// stretch of it that ends at a line's end (at a character's, where a line is longer than half the
// limit). A piece is text by itself, and the token file puts end of text after it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "xxhash.h"

namespace leap {

struct TextFile {
  std::string path;
  int64_t bytes = 0;
  bool named = false;  // by the job file itself; others were found in a folder or by a glob
};

// Files of `paths`: files, folders (recursively; names that begin with a dot are passed over, links
// to files are followed, links to folders are not), globs. Sorted, each once; empty files left out.
// NotFound with CORPUS_INVALID names the path that matches nothing.
absl::StatusOr<std::vector<TextFile>> FindFiles(const std::vector<std::string>& paths);

struct Piece {
  int64_t file = 0;  // index into the list of files
  int64_t offset = 0;
  int64_t bytes = 0;
  XXH128_hash_t hash{};  // XXH3_128 of its bytes
};

struct Pieces {
  std::vector<Piece> pieces;  // in order of hash, each content once
  int64_t skipped_files = 0;  // found, but no text
  std::string first_skipped;  // "path: not UTF-8 at byte 17"
  int64_t duplicate_pieces = 0;
};

// From 1/256 of all bytes, rounded down to a power of two, but at least 16 KiB and at most 16 MiB:
// a corpus of few large files still has pieces enough to deal out, one of many small files is not
// cut.
int64_t PieceLimit(const std::vector<TextFile>& files);

// Reads every file once. A named file that is no text is an error (InvalidArgument: file and
// offset), one that was found is skipped.
absl::StatusOr<Pieces> ReadPieces(const std::vector<TextFile>& files, int64_t piece_limit);

// Reads one piece again, into `out`. Aborted if it has changed since.
absl::Status ReadPiece(const TextFile& file, const Piece& piece, std::string& out);

}  // namespace leap
