// Test-only FileOps over real files, in which the `fail_at`th operation (from 0) fails.
//
// kFull: it fails as a full disk does, half of an append done; later operations work (room was
// made, or cleaning up). kCrash: the process is gone at that moment: the operation is half done or
// not at all, no later one has any effect, and what was written but not synced is lost, as after a
// power failure: each file keeps a part of what was appended since its last sync, chosen by `seed`.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "engine/internal/file_ops.h"

namespace leap {

class FakeFileOps final : public FileOps {
 public:
  enum class Fault { kFull, kCrash };

  int64_t fail_at = -1;  // never
  Fault fault = Fault::kFull;
  uint64_t seed = 1;

  // Forgets what has happened; to be called before a new attempt.
  void Reset() {
    operations_ = 0;
    crashed_ = false;
    unsynced_.clear();
  }
  int64_t operations() const { return operations_; }
  bool crashed() const { return crashed_; }

  absl::StatusOr<std::unique_ptr<OutputFile>> Create(const std::string& path) override;
  absl::Status MakeFolder(const std::string& path) override {
    return Do(path, [&] { return RealFileOps().MakeFolder(path); });
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return Do(to, [&] { return RealFileOps().Rename(from, to); });
  }
  absl::Status Exchange(const std::string& a, const std::string& b) override {
    if (!can_exchange) return absl::UnimplementedError("an old file system");
    return Do(b, [&] { return RealFileOps().Exchange(a, b); });
  }
  absl::Status SyncFolder(const std::string& path) override {
    return Do(path, [&] { return RealFileOps().SyncFolder(path); });
  }
  absl::Status Remove(const std::string& path) override {
    return Do(path, [&] { return RealFileOps().Remove(path); });
  }

  bool can_exchange = true;

 private:
  class File;

  // Whether this operation is the one that fails.
  bool Fails() { return operations_++ == fail_at; }
  absl::Status Fail(const std::string& path);

  template <typename Operation>
  absl::Status Do(const std::string& path, const Operation& operation) {
    if (crashed_) return absl::UnavailableError("the process is gone");
    return Fails() ? Fail(path) : operation();
  }

  int64_t operations_ = 0;
  bool crashed_ = false;
  std::map<std::string, int64_t> unsynced_;  // bytes of files that were never synced
};

}  // namespace leap
