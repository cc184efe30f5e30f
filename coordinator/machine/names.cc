#include "coordinator/machine/record.h"

namespace leap::machine {

const char* JobStateName(JobState state) {
  switch (state) {
    case JobState::kUnspecified:
      break;
    case JobState::kQueued:
      return "QUEUED";
    case JobState::kStarting:
      return "STARTING";
    case JobState::kRunning:
      return "RUNNING";
    case JobState::kPaused:
      return "PAUSED";
    case JobState::kRecovering:
      return "RECOVERING";
    case JobState::kSucceeded:
      return "SUCCEEDED";
    case JobState::kFailed:
      return "FAILED";
    case JobState::kCancelled:
      return "CANCELLED";
  }
  return "STATE_UNSPECIFIED";
}

const char* LeapStateName(LeapState state) {
  switch (state) {
    case LeapState::kUnspecified:
      break;
    case LeapState::kPreparing:
      return "PREPARING";
    case LeapState::kCommitted:
      return "COMMITTED";
    case LeapState::kApplied:
      return "APPLIED";
    case LeapState::kAborted:
      return "ABORTED";
    case LeapState::kExpired:
      return "EXPIRED";
    case LeapState::kRolledBack:
      return "ROLLED_BACK";
    case LeapState::kRollingBack:
      return "ROLLING_BACK";
  }
  return "STATE_UNSPECIFIED";
}

}  // namespace leap::machine
