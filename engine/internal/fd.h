// A file descriptor that closes itself, and a read that insists.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace leap {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.Release()) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd();

  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// Reads up to `size` bytes at `offset`, fewer only at the end of the file; says how many. `path` is
// for the message.
absl::StatusOr<int64_t> ReadAt(const Fd& fd, const std::string& path, int64_t offset, char* out,
                               int64_t size);

}  // namespace leap
