#include "engine/internal/corpus_files.h"

#include <fcntl.h>
#include <glob.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <filesystem>
#include <map>
#include <optional>
#include <system_error>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "engine/internal/fd.h"
#include "engine/internal/file_ops.h"
#include "engine/internal/text.h"

namespace leap {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMinPiece = int64_t{16} << 10;
constexpr int64_t kMaxPiece = int64_t{16} << 20;
constexpr int64_t kPiecesOfCorpus = 256;

absl::Status Invalid(absl::StatusCode code, absl::string_view path, absl::string_view what) {
  return MakeError(code, ErrorReason::kCorpusInvalid,
                   absl::StrCat("spec.data.paths: ", path, ": ", what),
                   {{"path", std::string(path)}});
}

// The same file under two names is one file.
std::string Canonical(const std::string& path) {
  std::error_code error;
  const fs::path canonical = fs::canonical(path, error);
  return error ? path : canonical.string();
}

class Finder {
 public:
  absl::Status Add(const std::string& path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (fs::is_regular_file(status)) return AddFile(path, /*named=*/true);
    if (fs::is_directory(status)) return AddFolder(path);
    if (fs::exists(status))
      return Invalid(absl::StatusCode::kInvalidArgument, path, "expected a file or a folder");
    if (path.find_first_of("*?[") != std::string::npos) return AddGlob(path);
    return Invalid(absl::StatusCode::kNotFound, path, "there is no such file or folder");
  }

  std::vector<TextFile> Sorted() && {
    std::vector<TextFile> files;
    for (auto& [path, file] : files_) {
      if (file.bytes > 0) files.push_back(std::move(file));
    }
    return files;
  }

 private:
  absl::Status AddFile(const std::string& path, bool named) {
    std::error_code error;
    const auto bytes = fs::file_size(path, error);
    if (error) return FileError("look at", path, error.value());
    TextFile& file = files_[Canonical(path)];
    file.path = path;
    file.bytes = static_cast<int64_t>(bytes);
    file.named |= named;
    return absl::OkStatus();
  }

  absl::Status AddFolder(const std::string& folder) {
    std::error_code error;
    fs::recursive_directory_iterator it(folder, error), end;
    for (; !error && it != end; it.increment(error)) {
      if (absl::string_view(it->path().filename().native())[0] == '.') {
        it.disable_recursion_pending();
        continue;
      }
      std::error_code ignored;  // a link that leads nowhere is no file
      if (it->is_regular_file(ignored))
        LEAP_RETURN_IF_ERROR(AddFile(it->path().string(), /*named=*/false));
    }
    return error ? FileError("read the folder", folder, error.value()) : absl::OkStatus();
  }

  absl::Status AddGlob(const std::string& pattern) {
    glob_t matches{};
    const int result = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &matches);
    std::vector<std::string> paths(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
    ::globfree(&matches);
    if (result == GLOB_NOSPACE)
      return absl::ResourceExhaustedError(absl::StrCat("no memory to match ", pattern));
    if (paths.empty())
      return Invalid(absl::StatusCode::kNotFound, pattern, "nothing matches this pattern");
    for (const std::string& path : paths) {
      std::error_code error;
      if (fs::is_directory(path, error)) {
        LEAP_RETURN_IF_ERROR(AddFolder(path));
      } else if (fs::is_regular_file(path, error)) {
        LEAP_RETURN_IF_ERROR(AddFile(path, /*named=*/false));
      }
    }
    return absl::OkStatus();
  }

  std::map<std::string, TextFile> files_;
};

// Deals out a file in pieces, holding one at a time.
class PieceReader {
 public:
  static absl::StatusOr<PieceReader> Open(const std::string& path, int64_t limit) {
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd.valid()) return FileError("open", path, errno);
    return PieceReader(path, std::move(fd), limit);
  }

  // The next piece, valid until the next call; empty at the end.
  absl::StatusOr<absl::string_view> Next() {
    offset_ += length_;
    LEAP_ASSIGN_OR_RETURN(const int64_t got, ReadAt(fd_, path_, offset_, buffer_.data(), limit_));
    const absl::string_view bytes(buffer_.data(), static_cast<size_t>(got));
    length_ = got < limit_ ? got : Cut(bytes);
    return bytes.substr(0, static_cast<size_t>(length_));
  }
  int64_t offset() const { return offset_; }

 private:
  PieceReader(std::string path, Fd fd, int64_t limit)
      : path_(std::move(path)),
        fd_(std::move(fd)),
        limit_(limit),
        buffer_(static_cast<size_t>(limit), '\0') {}

  // How much of a full buffer to hand out: up to the last line's end, or the last character's.
  static int64_t Cut(absl::string_view bytes) {
    const size_t line_end = bytes.rfind('\n');
    if (line_end != absl::string_view::npos && line_end >= bytes.size() / 2) {
      return static_cast<int64_t>(line_end) + 1;
    }
    size_t cut = bytes.size();
    const auto continues = [&bytes](size_t i) {
      return (static_cast<uint8_t>(bytes[i]) & 0xc0) == 0x80;
    };
    for (int back = 0; back < 3 && continues(cut - 1); ++back) --cut;
    if (static_cast<uint8_t>(bytes[cut - 1]) >= 0xc0)
      --cut;  // a lead byte, perhaps without its tail
    return static_cast<int64_t>(cut);
  }

  std::string path_;
  Fd fd_;
  int64_t limit_;
  std::string buffer_;
  int64_t offset_ = 0;
  int64_t length_ = 0;
};

// Appends the pieces of one file; says where it is no text, if it is not.
absl::StatusOr<std::optional<int64_t>> ReadFile(const TextFile& file, int64_t index, int64_t limit,
                                                std::vector<Piece>& pieces) {
  LEAP_ASSIGN_OR_RETURN(PieceReader reader, PieceReader::Open(file.path, limit));
  const size_t before = pieces.size();
  while (true) {
    LEAP_ASSIGN_OR_RETURN(const absl::string_view bytes, reader.Next());
    if (bytes.empty()) return std::nullopt;
    if (const std::optional<size_t> wrong = FirstNonText(bytes)) {
      pieces.resize(before);
      return reader.offset() + static_cast<int64_t>(*wrong);
    }
    pieces.push_back({index, reader.offset(), static_cast<int64_t>(bytes.size()),
                      XXH3_128bits(bytes.data(), bytes.size())});
  }
}

auto Key(const Piece& piece) {
  return std::tuple(piece.hash.high64, piece.hash.low64, piece.bytes);
}

}  // namespace

absl::StatusOr<std::vector<TextFile>> FindFiles(const std::vector<std::string>& paths) {
  Finder finder;
  for (const std::string& path : paths) LEAP_RETURN_IF_ERROR(finder.Add(path));
  return std::move(finder).Sorted();
}

int64_t PieceLimit(const std::vector<TextFile>& files) {
  uint64_t total = 0;
  for (const TextFile& file : files) total += static_cast<uint64_t>(file.bytes);
  return std::clamp(static_cast<int64_t>(std::bit_floor(total / kPiecesOfCorpus)), kMinPiece,
                    kMaxPiece);
}

absl::StatusOr<Pieces> ReadPieces(const std::vector<TextFile>& files, int64_t piece_limit) {
  Pieces result;
  for (size_t i = 0; i < files.size(); ++i) {
    LEAP_ASSIGN_OR_RETURN(const std::optional<int64_t> wrong,
                          ReadFile(files[i], static_cast<int64_t>(i), piece_limit, result.pieces));
    if (!wrong) continue;
    const std::string what = absl::StrCat("not UTF-8 text at byte ", *wrong);
    if (files[i].named) return Invalid(absl::StatusCode::kInvalidArgument, files[i].path, what);
    if (result.skipped_files++ == 0) result.first_skipped = absl::StrCat(files[i].path, ": ", what);
  }
  std::vector<Piece>& pieces = result.pieces;
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const Piece& a, const Piece& b) { return Key(a) < Key(b); });
  const auto same = [](const Piece& a, const Piece& b) { return Key(a) == Key(b); };
  const auto end = std::unique(pieces.begin(), pieces.end(), same);
  result.duplicate_pieces = pieces.end() - end;
  pieces.erase(end, pieces.end());
  return result;
}

absl::Status ReadPiece(const TextFile& file, const Piece& piece, std::string& out) {
  const Fd fd(::open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return FileError("open", file.path, errno);
  out.resize(static_cast<size_t>(piece.bytes));
  LEAP_ASSIGN_OR_RETURN(const int64_t got,
                        ReadAt(fd, file.path, piece.offset, out.data(), piece.bytes));
  const XXH128_hash_t hash = XXH3_128bits(out.data(), static_cast<size_t>(got));
  if (got == piece.bytes && XXH128_isEqual(hash, piece.hash)) return absl::OkStatus();
  return Invalid(absl::StatusCode::kAborted, file.path,
                 "it changed while it was being read; try again");
}

}  // namespace leap
