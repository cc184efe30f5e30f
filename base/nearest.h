// "did you mean": the valid name closest to what was written.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "absl/strings/string_view.h"

namespace leap {

// The candidate with the fewest single-character edits (insert, delete, replace, swap of
// neighbours; case ignored) from `name`; the first of equals. Nothing if even the best is further
// than a third of the longer word, at least one edit.
std::optional<std::string> Nearest(absl::string_view name,
                                   std::span<const absl::string_view> candidates);

// The same as the tail of a message: ", did you mean 'linear'?", or empty.
std::string DidYouMean(absl::string_view name, std::span<const absl::string_view> candidates);

}  // namespace leap
