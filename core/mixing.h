// Seeded pseudo-randomness as pure functions of numbers: no generator, no state, the same on every
// machine. SplitMix64's finalizer: Steele, Lea & Flood, "Fast splittable pseudorandom number
// generators", OOPSLA 2014.
#pragma once

#include <cstdint>

namespace leap {

// A bijection of 64-bit words that spreads every input bit over all output bits.
constexpr uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// The word for the tuple (seed, a, b).
constexpr uint64_t Mix(uint64_t seed, uint64_t a, uint64_t b = 0) {
  return Mix(Mix(Mix(seed) ^ a) ^ b);
}

// A word as a number in [0, 1).
constexpr double ToUnit(uint64_t word) { return static_cast<double>(word >> 11) * 0x1p-53; }

}  // namespace leap
