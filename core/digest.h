// A digest of flat fp32 weights that adds up: digest(range) = sum over its blocks i of
// XXH3_64(bytes of block i, seed = i), modulo 2^64. So the digests of the shards of any partition
// into whole blocks sum to the digest of the whole, and the coordinator compares what the ranks
// hold with what a verifier scored without seeing a weight. It finds corruption and divergence; it
// is no defence against somebody who forges it on purpose.
#pragma once

#include <cstdint>
#include <span>

#include "core/layout.h"

namespace leap {

// Digest of `values`, the content of `range` of a flat vector; range.begin must be a multiple of
// kBlockFloats and range.end too, unless it is the end of the vector. Of an empty range: 0.
uint64_t DigestOf(std::span<const float> values, FlatRange range);

}  // namespace leap
