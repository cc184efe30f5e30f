#include "engine/internal/gradient_buckets.h"

#include <utility>

namespace leap {

std::vector<FlatRange> CutBuckets(const WeightLayout& layout, int64_t bucket_floats) {
  std::vector<FlatRange> buckets;
  int64_t end = layout.size;
  for (auto slot = layout.tensors.rbegin(); slot != layout.tensors.rend(); ++slot) {
    if (end - slot->offset >= bucket_floats || slot->offset == 0) {
      buckets.push_back({slot->offset, end});
      end = slot->offset;
    }
  }
  return buckets;
}

GradientBuckets::GradientBuckets(const WeightLayout& layout, int64_t bucket_floats)
    : buckets_(CutBuckets(layout, bucket_floats)), tensors_in_(buckets_.size(), 0) {
  for (const TensorSlot& slot : layout.tensors) {
    size_t bucket = 0;
    while (slot.offset < buckets_[bucket].begin) ++bucket;
    bucket_of_.push_back(bucket);
    ++tensors_in_[bucket];
  }
}

void GradientBuckets::Begin(GradientReady ready) {
  waiting_for_ = tensors_in_;
  next_ = 0;
  ready_ = std::move(ready);
}

void GradientBuckets::TensorReady(size_t index) {
  --waiting_for_[bucket_of_[index]];
  while (next_ < buckets_.size() && waiting_for_[next_] <= 0) Announce();
}

void GradientBuckets::Finish() {
  while (next_ < buckets_.size()) Announce();
  ready_ = nullptr;
}

void GradientBuckets::Announce() {
  const FlatRange range = buckets_[next_++];
  if (ready_) ready_(range);
}

}  // namespace leap
