#include "core/sampling.h"

#include <bit>

#include "base/check.h"
#include "core/mixing.h"

namespace leap {
namespace {

constexpr int kRounds = 6;

// A seeded permutation of [0, count): a balanced Feistel network on the smallest even number of
// bits that holds `count`, walked along its cycle until it lands below `count` (Black & Rogaway,
// "Ciphers with arbitrary finite domains", CT-RSA 2002). Constant memory; at most four steps on
// average, since the domain is below 4 · count.
class Permutation {
 public:
  Permutation(uint64_t seed, uint64_t epoch, uint64_t count)
      : key_(Mix(seed, epoch)), count_(count), half_bits_((std::bit_width(count - 1) + 1) / 2) {}

  uint64_t operator()(uint64_t index) const {
    if (count_ == 1) return 0;
    uint64_t value = index;
    do value = Encrypt(value);
    while (value >= count_);
    return value;
  }

 private:
  uint64_t Encrypt(uint64_t value) const {
    const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
    uint64_t left = value >> half_bits_;
    uint64_t right = value & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t mixed = left ^ (Mix(key_, round, right) & mask);
      left = right;
      right = mixed;
    }
    return (left << half_bits_) | right;
  }

  uint64_t key_;
  uint64_t count_;
  int half_bits_;
};

}  // namespace

std::vector<int64_t> BatchWindows(uint64_t seed, int64_t data_position, int64_t windows,
                                  int64_t batch_sequences, int rank, int world_size) {
  Check(windows > 0 && data_position >= 0 && batch_sequences >= 0,
        "BatchWindows: nothing to sample from");
  Check(world_size > 0 && rank >= 0 && rank < world_size, "BatchWindows: no such rank");
  const int64_t begin = data_position * batch_sequences + rank * batch_sequences / world_size;
  const int64_t end = data_position * batch_sequences + (rank + 1) * batch_sequences / world_size;
  std::vector<int64_t> result;
  result.reserve(static_cast<size_t>(end - begin));
  for (int64_t sample = begin; sample < end; ++sample) {
    const Permutation permutation(seed, static_cast<uint64_t>(sample / windows),
                                  static_cast<uint64_t>(windows));
    result.push_back(static_cast<int64_t>(permutation(static_cast<uint64_t>(sample % windows))));
  }
  return result;
}

}  // namespace leap
