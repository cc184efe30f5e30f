#include "core/digest.h"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "base/check.h"
#include "xxhash.h"

namespace leap {

// Digests travel between machines, and bytes are hashed as they lie in memory.
static_assert(std::endian::native == std::endian::little);

uint64_t DigestOf(std::span<const float> values, FlatRange range) {
  if (values.empty() && range.size() == 0) return 0;  // a rank beyond the blocks
  Check(range.begin >= 0 && range.begin % kBlockFloats == 0,
        "DigestOf: the range does not begin at a block");
  Check(range.size() == static_cast<int64_t>(values.size()),
        "DigestOf: values and range differ in length");
  uint64_t sum = 0;
  uint64_t block = static_cast<uint64_t>(range.begin / kBlockFloats);
  while (!values.empty()) {
    const auto content = values.first(std::min(values.size(), static_cast<size_t>(kBlockFloats)));
    sum += XXH3_64bits_withSeed(content.data(), content.size_bytes(), block);
    values = values.subspan(content.size());
    ++block;
  }
  return sum;
}

}  // namespace leap
