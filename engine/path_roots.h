// The second look at the paths of a job file, on the machine that will read and write them: links
// are followed, globs are matched, and what comes out must lie below the folders that the operator
// of this worker or verifier allows. The coordinator has looked at their names before
// (core/job_paths.h).
//
// It is a look before use: somebody who can change the folders below a root while a job starts can
// still lead it out by a link. Let only those write there who may read all that the worker can.
// Any thread.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/job_spec.h"

namespace leap {

// For flags, at the start: a root must be an absolute path of a folder. InvalidArgument.
absl::Status CheckRootsExist(const std::vector<std::string>& roots);

// InvalidArgument (JOB_SPEC_INVALID) with field, path, and where it leads if by a link; data that
// is not there at all: as the corpus says it. No roots: all may be used.
absl::Status CheckPathsOnDisk(const JobSpec& spec, const std::vector<std::string>& roots);

}  // namespace leap
