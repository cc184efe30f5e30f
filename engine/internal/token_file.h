// The second half of a corpus: the token file, written once and memory-mapped.
//
// Layout, little-endian: "LEAPTOK1", uint64 number of tokens, uint64 XXH3_64 of the tokens' bytes,
// 40 bytes of zero, then the tokens as uint16. The name is the digest of the content, so a file of
// that name is either this one or damaged; a damaged one is written anew.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "engine/internal/file_ops.h"

namespace leap {

// A mapped token file. Immutable; any thread may read.
class TokenFile {
 public:
  // DataLoss if it is not whole: wrong size, header or checksum.
  static absl::StatusOr<std::unique_ptr<TokenFile>> Map(const std::string& path, int64_t tokens);
  ~TokenFile();
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  std::span<const uint16_t> tokens() const { return tokens_; }

 private:
  TokenFile(void* address, size_t bytes);

  void* const address_;
  const size_t bytes_;
  std::span<const uint16_t> tokens_;
};

// Puts tokens into a file.
using AppendTokens = std::function<absl::Status(std::span<const uint16_t>)>;
using TokenSource = std::function<absl::Status(const AppendTokens& append)>;

struct TokenFileRequest {
  std::string path;    // its folder is made if it is not there
  int64_t tokens = 0;  // how many `source` appends
  TokenSource source;
  absl::Duration patience = absl::Minutes(10);  // for another process that is writing it
};

// Maps request.path; if it is not there or damaged, writes it first (beside it, synced, renamed).
// Processes that want the same file take turns by a lock file, so one writes and the others map;
// the lock of a process that dies is free. DeadlineExceeded: the writer took longer than
// `patience`.
absl::StatusOr<std::unique_ptr<TokenFile>> MapOrWrite(FileOps& ops, Clock& clock,
                                                      const TokenFileRequest& request);

}  // namespace leap
