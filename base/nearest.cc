#include "base/nearest.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace leap {
namespace {

constexpr size_t kMaxLength = 64;  // longer input is no slip of the pen

// Optimal string alignment distance, with three rolling rows.
size_t Edits(absl::string_view a, absl::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replace});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(last);
    last.swap(row);
  }
  return last[b.size()];
}

}  // namespace

std::optional<std::string> Nearest(absl::string_view name,
                                   std::span<const absl::string_view> candidates) {
  if (name.empty() || name.size() > kMaxLength) return std::nullopt;
  const std::string wanted = absl::AsciiStrToLower(name);
  std::optional<std::string> nearest;
  size_t fewest = std::numeric_limits<size_t>::max();
  for (const absl::string_view candidate : candidates) {
    if (candidate.size() > kMaxLength) continue;
    const size_t edits = Edits(wanted, absl::AsciiStrToLower(candidate));
    const size_t limit = std::max<size_t>(1, std::max(name.size(), candidate.size()) / 3);
    if (edits > limit || edits >= fewest) continue;
    fewest = edits;
    nearest = std::string(candidate);
  }
  return nearest;
}

std::string DidYouMean(absl::string_view name, std::span<const absl::string_view> candidates) {
  const std::optional<std::string> nearest = Nearest(name, candidates);
  return nearest ? absl::StrCat(", did you mean '", *nearest, "'?") : "";
}

}  // namespace leap
