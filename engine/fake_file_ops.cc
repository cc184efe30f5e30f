#include "engine/fake_file_ops.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include "core/mixing.h"

namespace leap {

class FakeFileOps::File final : public OutputFile {
 public:
  File(FakeFileOps* ops, std::string path, std::unique_ptr<OutputFile> real)
      : ops_(ops), path_(std::move(path)), real_(std::move(real)) {}

  absl::Status Append(absl::string_view bytes) override {
    if (ops_->crashed_) return absl::UnavailableError("the process is gone");
    const bool fails = ops_->Fails();
    const absl::string_view written = fails ? bytes.substr(0, bytes.size() / 2) : bytes;
    ops_->unsynced_[path_] += static_cast<int64_t>(written.size());
    if (absl::Status status = real_->Append(written); !status.ok()) return status;
    return fails ? ops_->Fail(path_) : absl::OkStatus();
  }

  absl::Status Finish() override {
    return ops_->Do(path_, [this] {
      ops_->unsynced_.erase(path_);
      return real_->Finish();
    });
  }

 private:
  FakeFileOps* const ops_;
  const std::string path_;
  const std::unique_ptr<OutputFile> real_;
};

absl::StatusOr<std::unique_ptr<OutputFile>> FakeFileOps::Create(const std::string& path) {
  std::unique_ptr<OutputFile> real;
  const absl::Status status = Do(path, [&]() -> absl::Status {
    absl::StatusOr<std::unique_ptr<OutputFile>> created = RealFileOps().Create(path);
    if (!created.ok()) return created.status();
    real = *std::move(created);
    unsynced_[path] = 0;
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return std::make_unique<File>(this, path, std::move(real));
}

absl::Status FakeFileOps::Fail(const std::string& path) {
  if (fault == Fault::kFull) return FileError("write", path, ENOSPC);
  crashed_ = true;
  for (const auto& [file, bytes] : unsynced_) {
    std::error_code error;  // the file may have been removed or renamed
    const uint64_t kept =
        Mix(seed, static_cast<uint64_t>(bytes)) % static_cast<uint64_t>(bytes + 1);
    if (std::filesystem::exists(file, error)) std::filesystem::resize_file(file, kept, error);
  }
  return absl::UnavailableError("the process is gone");
}

}  // namespace leap
