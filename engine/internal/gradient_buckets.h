// Tells when the gradients of which range of the flat vector are final, while backward is still
// running.
//
// The layout is cut once into buckets of whole tensors, from its end, each of at least
// `bucket_floats` (but the last, at the front). A bucket is announced when all its tensors are
// final and every later bucket has been announced: the same ranges in the same order on every rank
// and in every step, which is what a collective needs.
#pragma once

#include <cstdint>
#include <vector>

#include "core/layout.h"
#include "engine/model.h"

namespace leap {

std::vector<FlatRange> CutBuckets(const WeightLayout& layout, int64_t bucket_floats);

// Used by the thread that runs backward, from Begin to Finish. Pure bookkeeping.
class GradientBuckets {
 public:
  GradientBuckets(const WeightLayout& layout, int64_t bucket_floats);

  // Before backward. `ready` may be empty.
  void Begin(GradientReady ready);
  // The gradient of tensor `index` of the layout is final.
  void TensorReady(size_t index);
  // After backward: announces what has not been announced (a tensor without gradient has one of
  // zeros).
  void Finish();

 private:
  void Announce();

  const std::vector<FlatRange> buckets_;
  std::vector<int64_t> tensors_in_;  // by bucket
  std::vector<size_t> bucket_of_;    // by tensor
  std::vector<int64_t> waiting_for_;
  size_t next_ = 0;
  GradientReady ready_;
};

}  // namespace leap
