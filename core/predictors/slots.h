// The walk over the tensors that a range of the flat vector touches: shards are cut at blocks, not
// at tensors, so a formula with a coefficient per tensor (decay, scale) is applied piece by piece.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/layout.h"

namespace leap {

// Calls visit(tensor, begin, end) for every tensor that meets `range`, in order; `tensor` is its
// index in the layout, [begin, end) are the elements, counted from the start of the range (so they
// index the spans of PredictorInputs).
template <typename Visit>
void ForEachSlot(const WeightLayout& layout, FlatRange range, Visit visit) {
  const auto& tensors = layout.tensors;
  auto slot =
      std::partition_point(tensors.begin(), tensors.end(), [&](const TensorSlot& candidate) {
        return candidate.offset + candidate.size <= range.begin;
      });
  for (; slot != tensors.end() && slot->offset < range.end; ++slot) {
    const int64_t begin = std::max(slot->offset, range.begin) - range.begin;
    const int64_t end = std::min(slot->offset + slot->size, range.end) - range.begin;
    if (begin < end) {
      visit(static_cast<size_t>(slot - tensors.begin()), static_cast<size_t>(begin),
            static_cast<size_t>(end));
    }
  }
}

}  // namespace leap
