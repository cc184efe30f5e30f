// Identities: job ids, incarnations, and how 64-bit digests are written. A digest or incarnation is
// a plain uint64_t; people and files see it as sixteen lower-case hex digits.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace leap {

// A random number that names one start of one process; never zero, which stands for "none".
uint64_t NewIncarnation();

// "tiny-gpt" -> "tiny-gpt-7f3a2c": the name, reduced to [a-z0-9-] and 40 characters, and six random
// hex digits. An empty or unusable name becomes "job".
std::string NewJobId(absl::string_view name);

// 255 -> "00000000000000ff".
std::string Hex64(uint64_t value);

// The inverse of Hex64: one to sixteen hex digits, either case, with or without "0x".
// InvalidArgument otherwise.
absl::StatusOr<uint64_t> ParseHex64(absl::string_view text);

}  // namespace leap
