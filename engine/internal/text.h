// Is this text? The corpus takes UTF-8 without NUL bytes and nothing else.
#pragma once

#include <cstddef>
#include <optional>

#include "absl/strings/string_view.h"

namespace leap {

// Offset of the first byte that does not belong to well-formed UTF-8 (Unicode 15, table 3-7: no
// overlong forms, no surrogates, nothing above U+10FFFF, nothing cut off at the end), or is NUL.
// Nothing: it is text.
std::optional<size_t> FirstNonText(absl::string_view bytes);

}  // namespace leap
