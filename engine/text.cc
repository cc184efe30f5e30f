#include "engine/internal/text.h"

#include <cstdint>
#include <cstring>

namespace leap {
namespace {

constexpr uint64_t kHighBits = 0x8080808080808080u;
constexpr uint64_t kLowBits = 0x0101010101010101u;

// Eight bytes of 0x01..0x7f.
bool IsPlainAscii(const char* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return ((word | (word - kLowBits)) & kHighBits) == 0;
}

// Length of the well-formed sequence at the start of `s`, or 0.
size_t SequenceLength(absl::string_view s) {
  const auto at = [s](size_t i) { return i < s.size() ? static_cast<uint8_t>(s[i]) : uint8_t{0}; };
  const auto within = [&at](size_t i, uint8_t low, uint8_t high) {
    return at(i) >= low && at(i) <= high;
  };
  const auto tail = [&within](size_t i) { return within(i, 0x80, 0xbf); };
  const uint8_t lead = at(0);
  if (lead >= 0x01 && lead <= 0x7f) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return tail(1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    const uint8_t low = lead == 0xe0 ? 0xa0 : 0x80;   // no overlong forms
    const uint8_t high = lead == 0xed ? 0x9f : 0xbf;  // no surrogates
    return within(1, low, high) && tail(2) ? 3 : 0;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    const uint8_t low = lead == 0xf0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xf4 ? 0x8f : 0xbf;  // no more than U+10FFFF
    return within(1, low, high) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::optional<size_t> FirstNonText(absl::string_view bytes) {
  size_t i = 0;
  while (i < bytes.size()) {
    if (bytes.size() - i >= sizeof(uint64_t) && IsPlainAscii(bytes.data() + i)) {
      i += sizeof(uint64_t);
      continue;
    }
    const size_t length = SequenceLength(bytes.substr(i));
    if (length == 0) return i;
    i += length;
  }
  return std::nullopt;
}

}  // namespace leap
