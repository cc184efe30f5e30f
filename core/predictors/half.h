// IEEE 754 binary16, as far as the published momentum predictor needs it: its reference code stored
// Adam's moments as float16 (leap-verify.md section 3), and this is what such storage does to a
// number.
#pragma once

namespace leap {

// `value` rounded to the nearest binary16 (ties to even) and back: magnitudes of at least 65520
// become infinite, those up to 2^-25 = 3e-8 become zero, NaN stays NaN.
float RoundToHalf(float value);

}  // namespace leap
