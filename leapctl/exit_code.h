// What leapctl's exit status means: one table, printed by `leapctl --help` and `leapctl docs cli`.
// Pure.
#pragma once

#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "leap/v1/job.pb.h"

namespace leap {

// Values are an interface for scripts: never change or reuse one.
enum class ExitCode {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,
  kJobSpecInvalid = 3,
  kNotFound = 4,
  kNotNow = 5,
  kUnreachable = 6,
  kNotAllowed = 7,
  kCancelled = 8,
  kInterrupted = 130,
};

struct ExitCodeInfo {
  ExitCode code;
  absl::string_view meaning;
};
std::span<const ExitCodeInfo> ExitCodes();

// "  0    done; ..." a line each.
std::string ExitCodeHelp();

ExitCode ExitCodeFor(const absl::Status& status);
// Of a command that waited for the job's end. A job that has not ended is kOk.
ExitCode ExitCodeFor(v1::Job::State state);

// True for states that a job never leaves.
bool HasEnded(v1::Job::State state);

}  // namespace leap
