// Which paths a job file names, and whether they lie below the folders that an operator allows: by
// their text alone here (the coordinator may not see the workers' disks); engine/path_roots.h looks
// at the disk. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/job_spec.h"

namespace leap {

struct JobPath {
  std::string field;  // "spec.data.paths"
  std::string path;
};

// All that are given, in the order of the job file's reference. data.paths may be globs.
std::vector<JobPath> PathsOf(const JobSpec& spec);

// Is the absolute `path` the folder `root` or in it? Component by component; "." and double slashes
// count for nothing; a path with ".." lies nowhere.
bool LiesBelow(absl::string_view path, absl::string_view root);

// What is said of a path outside: InvalidArgument (JOB_SPEC_INVALID) with field and path. `whose`:
// "this coordinator".
absl::Status OutsideRoots(const JobPath& path, absl::string_view whose);

// OutsideRoots of the first path of `spec` that is not below one of `roots`; no roots: all may be
// named.
absl::Status CheckPathNames(const JobSpec& spec, const std::vector<std::string>& roots);

// Why `path` cannot be the checkpoint of `job` at `step`; empty: it can. A rank writes them to
// `<folder>/step-<step>`; the folder is spec.checkpoint.dir, or checkpoints/<job> under the
// worker's state folder, which the coordinator does not know.
std::string CheckpointPathProblem(const JobSpec& spec, absl::string_view job, int64_t step,
                                  absl::string_view path);

}  // namespace leap
