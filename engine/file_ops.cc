#include "engine/internal/file_ops.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "engine/internal/fd.h"
#include "engine/internal/running_hash.h"

namespace leap {
namespace {

class RealOutputFile final : public OutputFile {
 public:
  RealOutputFile(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  absl::Status Append(absl::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_.get(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return FileError("write", path_, errno);
      bytes.remove_prefix(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }

  absl::Status Finish() override {
    if (::fsync(fd_.get()) != 0) return FileError("sync", path_, errno);
    if (::close(fd_.Release()) != 0) return FileError("close", path_, errno);
    return absl::OkStatus();
  }

 private:
  const std::string path_;
  Fd fd_;
};

class RealOps final : public FileOps {
 public:
  absl::StatusOr<std::unique_ptr<OutputFile>> Create(const std::string& path) override {
    Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd.valid()) return FileError("create", path, errno);
    return std::make_unique<RealOutputFile>(path, std::move(fd));
  }

  absl::Status MakeFolder(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) return FileError("make the folder", path, error.value());
    return absl::OkStatus();
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
    return FileError(absl::StrCat("rename ", from, " to"), to, errno);
  }

  absl::Status Exchange(const std::string& a, const std::string& b) override {
    if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) {
      return absl::OkStatus();
    }
    if (errno == EINVAL || errno == ENOSYS) {
      return absl::UnimplementedError(
          absl::StrCat("cannot exchange ", a, " and ", b, ": the file system does not offer it"));
    }
    return FileError(absl::StrCat("exchange ", a, " and"), b, errno);
  }

  absl::Status SyncFolder(const std::string& path) override {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return FileError("open the folder", path, errno);
    if (::fsync(fd.get()) != 0) return FileError("sync the folder", path, errno);
    return absl::OkStatus();
  }

  absl::Status Remove(const std::string& path) override {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (error) return FileError("remove", path, error.value());
    return absl::OkStatus();
  }
};

absl::StatusOr<Fd> OpenRegular(const std::string& path, int64_t* size) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a FIFO must not make us wait
  if (!fd.valid()) return FileError("open", path, errno);
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return FileError("look at", path, errno);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("expected a regular file: ", path));
  }
  *size = info.st_size;
  return fd;
}

}  // namespace

FileOps& RealFileOps() {
  static auto& ops = *new RealOps;
  return ops;
}

absl::Status FileError(absl::string_view action, absl::string_view path, int error_number) {
  const std::string message = absl::StrCat("cannot ", action, " ", path, ": ",
                                           std::generic_category().message(error_number));
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kDiskFull,
                       absl::StrCat(message, "; free some room or choose another folder"),
                       {{"path", std::string(path)}});
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    default:
      return absl::UnavailableError(message);
  }
}

absl::StatusOr<std::string> ReadWholeFile(const std::string& path, int64_t limit) {
  int64_t size = 0;
  LEAP_ASSIGN_OR_RETURN(const Fd fd, OpenRegular(path, &size));
  if (size > limit) {
    return absl::OutOfRangeError(
        absl::StrCat(path, " is ", size, " bytes long; at most ", limit, " are expected"));
  }
  std::string content(static_cast<size_t>(size), '\0');
  LEAP_ASSIGN_OR_RETURN(const int64_t got, ReadAt(fd, path, 0, content.data(), size));
  content.resize(static_cast<size_t>(got));
  return content;
}

SummingFile::SummingFile(std::unique_ptr<OutputFile> file)
    : file_(std::move(file)), hash_(std::make_unique<RunningHash>()) {}
SummingFile::~SummingFile() = default;

absl::Status SummingFile::Append(absl::string_view bytes) {
  hash_->Update(bytes.data(), bytes.size());
  bytes_ += static_cast<int64_t>(bytes.size());
  return file_->Append(bytes);
}

absl::StatusOr<FileSummary> SummingFile::Finish() {
  LEAP_RETURN_IF_ERROR(file_->Finish());
  return FileSummary{bytes_, hash_->Sum64()};
}

absl::StatusOr<FileSummary> SummarizeFile(const std::string& path) {
  int64_t size = 0;
  LEAP_ASSIGN_OR_RETURN(const Fd fd, OpenRegular(path, &size));
  const int64_t chunk_bytes = std::clamp<int64_t>(size, 1, 1 << 20);
  std::string chunk(static_cast<size_t>(chunk_bytes), '\0');
  RunningHash running;
  FileSummary summary;
  while (true) {
    LEAP_ASSIGN_OR_RETURN(const int64_t got,
                          ReadAt(fd, path, summary.bytes, chunk.data(), chunk_bytes));
    if (got == 0) break;
    running.Update(chunk.data(), static_cast<size_t>(got));
    summary.bytes += got;
  }
  summary.checksum = running.Sum64();
  return summary;
}

absl::StatusOr<FileSummary> WriteWholeFile(FileOps& ops, const std::string& path,
                                           absl::string_view bytes) {
  LEAP_ASSIGN_OR_RETURN(std::unique_ptr<OutputFile> file, ops.Create(path));
  SummingFile summing(std::move(file));
  LEAP_RETURN_IF_ERROR(summing.Append(bytes));
  return summing.Finish();
}

}  // namespace leap
