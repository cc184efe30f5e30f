// Seeded randomness and hashing for the simulation: the same seed gives the same run on every
// machine.
#pragma once

#include <cstdint>

namespace leap::sim {

// splitmix64's finaliser over both words.
constexpr uint64_t Mix(uint64_t a, uint64_t b = 0) {
  uint64_t x = a + 0x9e3779b97f4a7c15ULL * (b + 1);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(Mix(seed, 17)) {}
  uint64_t Next() { return Mix(state_ += 0x9e3779b97f4a7c15ULL); }
  // In [low, high].
  int64_t In(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Next() % static_cast<uint64_t>(high - low + 1));
  }
  bool Percent(int percent) { return In(1, 100) <= percent; }

 private:
  uint64_t state_;
};

}  // namespace leap::sim
