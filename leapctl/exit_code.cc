#include "leapctl/exit_code.h"

#include <array>

#include "absl/strings/str_format.h"
#include "base/error_reason.h"

namespace leap {

std::span<const ExitCodeInfo> ExitCodes() {
  static constexpr std::array<ExitCodeInfo, 10> kCodes = {{
      {ExitCode::kOk, "done; with --wait, watch and run: the job succeeded"},
      {ExitCode::kFailed,
       "something failed that no other code names; or the job that was waited for failed"},
      {ExitCode::kUsage, "unknown command or flag, or a value that cannot be"},
      {ExitCode::kJobSpecInvalid, "the job file has errors; each is printed with its line"},
      {ExitCode::kNotFound, "no such job, snapshot, checkpoint or file"},
      {ExitCode::kNotNow,
       "not in this state, or a limit is reached; the message says what would help"},
      {ExitCode::kUnreachable, "the coordinator could not be reached, or did not answer in time"},
      {ExitCode::kNotAllowed, "the coordinator asks for a token or certificate with another role"},
      {ExitCode::kCancelled, "the job that was waited for was cancelled"},
      {ExitCode::kInterrupted,
       "interrupted by Ctrl-C, SIGTERM or SIGHUP; watch and --wait leave the job running, run ends "
       "all that it started"},
  }};
  return kCodes;
}

std::string ExitCodeHelp() {
  std::string text;
  for (const ExitCodeInfo& info : ExitCodes()) {
    absl::StrAppendFormat(&text, "  %-4d %s\n", static_cast<int>(info.code), info.meaning);
  }
  return text;
}

ExitCode ExitCodeFor(const absl::Status& status) {
  if (ReasonOf(status) == ErrorReason::kJobSpecInvalid) return ExitCode::kJobSpecInvalid;
  if (ReasonOf(status) == ErrorReason::kTlsInvalid) return ExitCode::kUsage;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return ExitCode::kUsage;
    case absl::StatusCode::kNotFound:
      return ExitCode::kNotFound;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kFailedPrecondition:
      return ExitCode::kNotNow;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return ExitCode::kUnreachable;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return ExitCode::kNotAllowed;
    case absl::StatusCode::kCancelled:
      return ExitCode::kInterrupted;
    default:
      return ExitCode::kFailed;
  }
}

ExitCode ExitCodeFor(v1::Job::State state) {
  switch (state) {
    case v1::Job::FAILED:
      return ExitCode::kFailed;
    case v1::Job::CANCELLED:
      return ExitCode::kCancelled;
    default:
      return ExitCode::kOk;
  }
}

bool HasEnded(v1::Job::State state) {
  return state == v1::Job::SUCCEEDED || state == v1::Job::FAILED || state == v1::Job::CANCELLED;
}

}  // namespace leap
