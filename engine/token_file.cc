#include "engine/internal/token_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "engine/internal/fd.h"
#include "engine/internal/running_hash.h"
#include "xxhash.h"

namespace leap {
namespace {

static_assert(std::endian::native == std::endian::little,
              "tokens are mapped as they lie in the file");

constexpr std::array<char, 8> kMagic = {'L', 'E', 'A', 'P', 'T', 'O', 'K', '1'};

struct Header {
  std::array<char, 8> magic{};
  uint64_t tokens = 0;
  uint64_t checksum = 0;
  std::array<uint64_t, 5> zero{};
};
static_assert(sizeof(Header) == 64);

absl::Status Damaged(absl::string_view path, absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, ErrorReason::kCorpusInvalid,
                   absl::StrCat("the token file ", path, " is damaged: ", what),
                   {{"path", std::string(path)}});
}

absl::string_view AsBytes(std::span<const uint16_t> tokens) {
  return {reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes()};
}

// Counts and sums up the tokens of a source, and hands their bytes on.
absl::StatusOr<Header> PassThrough(const TokenFileRequest& request,
                                   const std::function<absl::Status(absl::string_view)>& write) {
  Header header{.magic = kMagic};
  RunningHash running;
  LEAP_RETURN_IF_ERROR(request.source([&](std::span<const uint16_t> tokens) {
    header.tokens += tokens.size();
    running.Update(tokens.data(), tokens.size_bytes());
    return write(AsBytes(tokens));
  }));
  if (header.tokens != static_cast<uint64_t>(request.tokens)) {
    return absl::InternalError(
        absl::StrCat("the corpus gave ", header.tokens, " tokens, not ", request.tokens));
  }
  header.checksum = running.Sum64();
  return header;
}

// The header holds the checksum and comes first, so the tokens go past twice: once to be summed up,
// once to be written. The text is in the page cache by then.
absl::Status WriteTokens(FileOps& ops, const std::string& path, const TokenFileRequest& request) {
  LEAP_ASSIGN_OR_RETURN(const Header header,
                        PassThrough(request, [](absl::string_view) { return absl::OkStatus(); }));
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<OutputFile> file, ops.Create(path));
  LEAP_RETURN_IF_ERROR(file->Append({reinterpret_cast<const char*>(&header), sizeof(header)}));
  LEAP_RETURN_IF_ERROR(PassThrough(request, [&file](absl::string_view bytes) {
                         return file->Append(bytes);
                       }).status());
  return file->Finish();
}

absl::StatusOr<Fd> Lock(Clock& clock, const std::string& path, absl::Duration patience) {
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!fd.valid()) return FileError("open", path, errno);
  const absl::Time deadline = clock.Now() + patience;
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return FileError("lock", path, errno);
    if (clock.Now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("another process has held ", path, " for ", absl::FormatDuration(patience),
                       "; look what it is doing, or choose another spec.data.cache_dir"));
    }
    clock.SleepFor(absl::Milliseconds(50));
  }
  return fd;
}

}  // namespace

TokenFile::TokenFile(void* address, size_t bytes)
    : address_(address),
      bytes_(bytes),
      tokens_(reinterpret_cast<const uint16_t*>(static_cast<const char*>(address) + sizeof(Header)),
              (bytes - sizeof(Header)) / sizeof(uint16_t)) {}

TokenFile::~TokenFile() { ::munmap(address_, bytes_); }

absl::StatusOr<std::unique_ptr<TokenFile>> TokenFile::Map(const std::string& path, int64_t tokens) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return FileError("open", path, errno);
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return FileError("look at", path, errno);
  const size_t expected = sizeof(Header) + static_cast<size_t>(tokens) * sizeof(uint16_t);
  if (static_cast<size_t>(info.st_size) != expected) {
    return Damaged(path, absl::StrCat("expected ", expected, " bytes, saw ", info.st_size));
  }
  void* const address = ::mmap(nullptr, expected, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (address == MAP_FAILED) return FileError("map", path, errno);
  std::unique_ptr<TokenFile> file(new TokenFile(address, expected));
  Header header;
  std::memcpy(&header, address, sizeof(header));
  if (header.magic != kMagic || header.tokens != static_cast<uint64_t>(tokens)) {
    return Damaged(path, "its header is not the one expected");
  }
  if (header.checksum != XXH3_64bits(file->tokens_.data(), file->tokens_.size_bytes())) {
    return Damaged(path, "its checksum does not fit its content");
  }
  return file;
}

absl::StatusOr<std::unique_ptr<TokenFile>> MapOrWrite(FileOps& ops, Clock& clock,
                                                      const TokenFileRequest& request) {
  absl::StatusOr<std::unique_ptr<TokenFile>> file = TokenFile::Map(request.path, request.tokens);
  if (file.ok()) return file;
  const size_t slash = request.path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : request.path.substr(0, slash);
  LEAP_RETURN_IF_ERROR(ops.MakeFolder(folder));
  LEAP_ASSIGN_OR_RETURN(const Fd lock, Lock(clock, request.path + ".lock", request.patience));
  file = TokenFile::Map(request.path, request.tokens);
  if (file.ok()) return file;  // another process wrote it while we waited
  if (!absl::IsNotFound(file.status())) {
    LogWarning("token_file_rewritten", {{"path", request.path}, {"error", file.status()}});
  }
  const std::string temporary = request.path + ".tmp";  // ours alone, by the lock
  absl::Status status = WriteTokens(ops, temporary, request);
  if (status.ok()) status = ops.Rename(temporary, request.path);
  if (status.ok()) status = ops.SyncFolder(folder);
  if (!status.ok()) {
    ops.Remove(temporary).IgnoreError();
    return status;
  }
  return TokenFile::Map(request.path, request.tokens);
}

}  // namespace leap
