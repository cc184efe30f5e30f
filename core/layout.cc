#include "core/layout.h"

#include <algorithm>

#include "base/check.h"

namespace leap {

FlatRange ShardOf(int64_t size, int rank, int world_size) {
  Check(size >= 0 && world_size > 0 && rank >= 0 && rank < world_size, "ShardOf: no such rank");
  const int64_t blocks = (size + kBlockFloats - 1) / kBlockFloats;
  const int64_t each = blocks / world_size;
  const int64_t longer = blocks % world_size;  // the first so many ranks hold one block more
  const int64_t first = rank * each + std::min<int64_t>(rank, longer);
  const int64_t count = each + (rank < longer ? 1 : 0);
  return {.begin = std::min(first * kBlockFloats, size),
          .end = std::min((first + count) * kBlockFloats, size)};
}

}  // namespace leap
