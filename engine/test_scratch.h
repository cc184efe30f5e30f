// Test-only: a folder of this process's own, in memory where there is such a place: thousands of
// syncs take a minute on a disk.
#pragma once

#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace leap {

// Not made, only named.
inline std::string ScratchPath(absl::string_view test) {
  const std::string parent = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm/" : testing::TempDir();
  return absl::StrCat(parent, "leap_", test, "_", ::getpid());
}

}  // namespace leap
