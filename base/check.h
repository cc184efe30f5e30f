// For mistakes of our own that no input can cause (a span of the wrong length, an unvalidated
// spec): say it and abort. Whatever a person, a file or a peer can cause is an absl::Status or a
// Verdict instead.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace leap {

inline void Check(bool condition, const char* message) {
  if (condition) [[likely]]
    return;
  std::fprintf(stderr, "internal error: %s\n", message);
  std::abort();
}

}  // namespace leap
