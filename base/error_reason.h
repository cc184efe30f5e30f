// Why something failed, for programs: one list of reasons, carried on an absl::Status beside its
// code and message.
//
//   return MakeError(absl::StatusCode::kNotFound, ErrorReason::kJobNotFound,
//                    absl::StrCat("there is no job '", id, "'; leapctl list shows them"), {{"job",
//                    id}});
//
// On the wire it is a google.rpc.ErrorInfo with domain kErrorDomain (service/rpc_status translates;
// nobody else does). A rejected leap is not an error and has no reason here. Messages: lower case,
// no full stop, what was expected and what was seen, then what to do; what the message interpolates
// also stands in the metadata.
//
// Codes say what a caller may do about it:
//   InvalidArgument     wrong whatever the state is         FailedPrecondition  fix the state first
//   Aborted             your epoch or plan is old: refetch  Unavailable         retry with backoff
//   ResourceExhausted   wait for room or quota              DataLoss            checksum mismatch
#pragma once

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace leap {

inline constexpr absl::string_view kErrorDomain = "leap-verify";

// New reasons go at the end of their group, here and in the table of error_reason.cc; names are
// never reused.
enum class ErrorReason {
  // Jobs.
  kJobSpecInvalid,
  kJobNotFound,
  kJobAlreadyExists,
  kJobFinished,
  kRequestIdReused,
  kQuotaExceeded,
  // Identity: an old epoch, process, step or leap is answered, never acted on.
  kStaleEpoch,
  kStaleIncarnation,
  kStaleStep,
  kLeapSuperseded,
  kLeapNotFound,
  kDigestMismatch,
  // Agents.
  kAgentUnknown,
  kAgentVersionMismatch,
  kWorkersInsufficient,
  kQuorumTooSmall,
  kVerifierBusy,
  kVerifierQuarantined,
  kLeaseExpired,
  kQueueFull,
  // Weights and checkpoints.
  kWeightsCorrupt,
  kSnapshotNotFound,
  kCheckpointCorrupt,
  kCheckpointNotFound,
  kCheckpointMismatch,
  kCorpusInvalid,
  kModelInvalid,
  kCollectiveFailed,
  kDeviceUnavailable,
  // Storage.
  kLedgerUnavailable,
  kLedgerCorrupt,
  kDiskFull,
  // Reaching each other.
  kPortTaken,
  kAddressInvalid,
  kCoordinatorUnreachable,
  kTlsInvalid,
  kUnauthenticated,
  kPermissionDenied,
  kProtocolViolation,
  kConfigInvalid,
  kShuttingDown,
};

// "JOB_NOT_FOUND".
absl::string_view ErrorReasonName(ErrorReason reason);

// The inverse; nothing for a name that is not in the list.
std::optional<ErrorReason> ParseErrorReason(absl::string_view name);

using ErrorMetadata = std::map<std::string, std::string>;

// A Status that carries `reason` and `metadata` as a payload. `code` must not be kOk.
absl::Status MakeError(absl::StatusCode code, ErrorReason reason, absl::string_view message,
                       const ErrorMetadata& metadata = {});

// The reason that MakeError attached; nothing for another Status, also for an OK one.
std::optional<ErrorReason> ReasonOf(const absl::Status& status);

// The metadata that MakeError attached; empty for another Status.
ErrorMetadata MetadataOf(const absl::Status& status);

// The same code, reason and metadata with "context: " before the message; OK stays OK.
absl::Status WithContext(const absl::Status& status, absl::string_view context);

}  // namespace leap
