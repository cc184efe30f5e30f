#include "core/predictors/half.h"

#include <cmath>
#include <limits>

namespace leap {

float RoundToHalf(float value) {
  constexpr float kOverflow =
      65520.0f;  // halfway between the largest, 65504, and what would come next
  constexpr float kSmallestNormal = 0x1p-14f;
  const float magnitude = std::fabs(value);
  if (!(magnitude < kOverflow)) {
    return std::isnan(value) ? value : std::copysign(std::numeric_limits<float>::infinity(), value);
  }
  // Adding 1.5 * 2^23 units of the last place that is kept, and taking them away, rounds to that
  // place, ties to even.
  int exponent = 0;
  std::frexp(magnitude < kSmallestNormal ? kSmallestNormal : magnitude,
             &exponent);                                      // magnitude < 2^exponent
  const float anchor = std::ldexp(1.5f, exponent - 11 + 23);  // 11 significant bits
  const float rounded = (magnitude + anchor) - anchor;
  return std::copysign(rounded, value);
}

}  // namespace leap
