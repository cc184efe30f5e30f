#include "base/ids.h"

#include <cctype>
#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace leap {
namespace {

constexpr size_t kMaxNameLength = 40;
constexpr size_t kMaxHexDigits = 16;

uint64_t Random64() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

std::string Slug(absl::string_view name) {
  std::string slug;
  for (const char c : name.substr(0, kMaxNameLength)) {
    const unsigned char u = static_cast<unsigned char>(c);
    if (u < 0x80 && std::isalnum(u)) {
      slug.push_back(static_cast<char>(std::tolower(u)));
    } else if (!slug.empty() && slug.back() != '-') {
      slug.push_back('-');
    }
  }
  while (!slug.empty() && slug.back() == '-') slug.pop_back();
  return slug.empty() ? "job" : slug;
}

}  // namespace

uint64_t NewIncarnation() {
  uint64_t value = 0;
  while (value == 0) value = Random64();
  return value;
}

std::string NewJobId(absl::string_view name) {
  return absl::StrFormat("%s-%06x", Slug(name), Random64() & 0xffffff);
}

std::string Hex64(uint64_t value) { return absl::StrCat(absl::Hex(value, absl::kZeroPad16)); }

absl::StatusOr<uint64_t> ParseHex64(absl::string_view text) {
  absl::string_view digits = text;
  absl::ConsumePrefix(&digits, "0x");
  bool valid = !digits.empty() && digits.size() <= kMaxHexDigits;
  for (const char c : digits) valid = valid && std::isxdigit(static_cast<unsigned char>(c));
  uint64_t value = 0;
  if (!valid || !absl::SimpleHexAtoi(digits, &value)) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected 1 to 16 hex digits, saw '", text.substr(0, 64), "'"));
  }
  return value;
}

}  // namespace leap
