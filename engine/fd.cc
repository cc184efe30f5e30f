#include "engine/internal/fd.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "engine/internal/file_ops.h"

namespace leap {

Fd::~Fd() {
  if (valid()) ::close(fd_);
}

absl::StatusOr<int64_t> ReadAt(const Fd& fd, const std::string& path, int64_t offset, char* out,
                               int64_t size) {
  int64_t done = 0;
  while (done < size) {
    const ssize_t got =
        ::pread(fd.get(), out + done, static_cast<size_t>(size - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError("read", path, errno);
    if (got == 0) break;
    done += got;
  }
  return done;
}

}  // namespace leap
