// How a model's parameters lie in one flat vector of fp32, and how that vector is cut into shards
// and blocks.
//
// The flat order is the order of `tensors` (the engine's, by name as in Hugging Face's GPT-2).
// Shards are whole blocks, so that digests of shards add up to the digest of the weights whatever
// the world size (core/digest.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace leap {

// Floats in one block: the unit of digests and of shard boundaries (64 KiB of fp32).
inline constexpr int64_t kBlockFloats = 16384;

// A half-open range [begin, end) of floats of the flat vector.
struct FlatRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const FlatRange&) const = default;
};

struct TensorSlot {
  std::string name;            // "transformer.h.0.attn.c_attn.weight"
  std::vector<int64_t> shape;  // as in safetensors
  int64_t offset = 0;          // in floats
  int64_t size = 0;            // in floats
  bool decays = false;         // weight decay applies (matrices only)
  bool operator==(const TensorSlot&) const = default;
};

struct WeightLayout {
  std::vector<TensorSlot> tensors;  // contiguous, in order of offset
  int64_t size = 0;                 // floats in all
  bool operator==(const WeightLayout&) const = default;
};

// The shard of `rank` among `world_size`: contiguous whole blocks, sizes differing by at most one
// block; the last block may be short. A rank beyond the number of blocks gets an empty range.
FlatRange ShardOf(int64_t size, int rank, int world_size);

}  // namespace leap
