// Test-only: where the repository and its build folder are, whatever folder a test is started from.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace leap {

// "core/testdata/x.yaml" -> "/…/leap/core/testdata/x.yaml".
std::string SourcePath(absl::string_view path);

// "leapctl/leapctl" -> "/…/leap/build/dev/leapctl/leapctl".
std::string BuildPath(absl::string_view path);

}  // namespace leap
