// The few file operations with which checkpoints and caches are written, behind an interface so
// that a test can make any of them fail, or stop the world, at any point. Reading needs no such
// seam and is plain POSIX (ReadWholeFile).
//
// A file counts as written after Finish (fsync); a name counts as given after SyncFolder of the
// folder it is in. Errors: ResourceExhausted with DISK_FULL (full, or over quota), NotFound,
// PermissionDenied, else Unavailable; the message names the operation, the path and the system's
// reason.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace leap {

// One file being written from its start. Not thread-safe. Destroying it closes the file and keeps
// what is in it.
class OutputFile {
 public:
  virtual ~OutputFile() = default;
  virtual absl::Status Append(absl::string_view bytes) = 0;
  virtual absl::Status Finish() = 0;  // fsync and close; nothing may be appended afterwards
};

// Thread-safe: it has no state of its own.
class FileOps {
 public:
  virtual ~FileOps() = default;

  // Creates or empties `path`.
  virtual absl::StatusOr<std::unique_ptr<OutputFile>> Create(const std::string& path) = 0;
  // With its parents; fine if it is there.
  virtual absl::Status MakeFolder(const std::string& path) = 0;
  // Replaces a file at `to`; a folder at `to` must be empty.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // Exchanges two names in one step. Unimplemented where the file system cannot.
  virtual absl::Status Exchange(const std::string& a, const std::string& b) = 0;
  virtual absl::Status SyncFolder(const std::string& path) = 0;
  // A file, or a folder with what is in it; fine if it is not there.
  virtual absl::Status Remove(const std::string& path) = 0;
};

// The machine's own, alive for the whole process.
FileOps& RealFileOps();

// What `action` ("write", "open", ...) on `path` ended with, as a Status.
absl::Status FileError(absl::string_view action, absl::string_view path, int error_number);

// Content of a regular file. OutOfRange if it is longer than `limit` bytes.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path, int64_t limit);

// Size and XXH3_64 of what was written to or read from a file.
struct FileSummary {
  int64_t bytes = 0;
  uint64_t checksum = 0;
  bool operator==(const FileSummary&) const = default;
};

// Reads `path` once, in bounded memory.
absl::StatusOr<FileSummary> SummarizeFile(const std::string& path);

class RunningHash;

// An OutputFile that counts and sums up what passes through it.
class SummingFile {
 public:
  explicit SummingFile(std::unique_ptr<OutputFile> file);
  ~SummingFile();
  absl::Status Append(absl::string_view bytes);
  absl::StatusOr<FileSummary> Finish();

 private:
  std::unique_ptr<OutputFile> file_;
  std::unique_ptr<RunningHash> hash_;
  int64_t bytes_ = 0;
};

// Writes a whole small file and finishes it.
absl::StatusOr<FileSummary> WriteWholeFile(FileOps& ops, const std::string& path,
                                           absl::string_view bytes);

}  // namespace leap
