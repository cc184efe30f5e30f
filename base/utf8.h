// Text that others sent, cut to a bound without breaking a character: half a UTF-8 character makes
// a protobuf message unreadable for its receiver.
#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"

namespace leap {

// At most the first `bytes` of `text` (UTF-8), never half a character.
absl::string_view CutUtf8(absl::string_view text, size_t bytes);

}  // namespace leap
