#include "base/error_reason.h"

#include <array>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace leap {
namespace {

constexpr absl::string_view kPayloadUrl = "leap-verify/error-reason";

struct NamedReason {
  ErrorReason reason;
  absl::string_view name;
};

constexpr std::array kReasons = {
    NamedReason{ErrorReason::kJobSpecInvalid, "JOB_SPEC_INVALID"},
    NamedReason{ErrorReason::kJobNotFound, "JOB_NOT_FOUND"},
    NamedReason{ErrorReason::kJobAlreadyExists, "JOB_ALREADY_EXISTS"},
    NamedReason{ErrorReason::kJobFinished, "JOB_FINISHED"},
    NamedReason{ErrorReason::kRequestIdReused, "REQUEST_ID_REUSED"},
    NamedReason{ErrorReason::kQuotaExceeded, "QUOTA_EXCEEDED"},
    NamedReason{ErrorReason::kStaleEpoch, "STALE_EPOCH"},
    NamedReason{ErrorReason::kStaleIncarnation, "STALE_INCARNATION"},
    NamedReason{ErrorReason::kStaleStep, "STALE_STEP"},
    NamedReason{ErrorReason::kLeapSuperseded, "LEAP_SUPERSEDED"},
    NamedReason{ErrorReason::kLeapNotFound, "LEAP_NOT_FOUND"},
    NamedReason{ErrorReason::kDigestMismatch, "DIGEST_MISMATCH"},
    NamedReason{ErrorReason::kAgentUnknown, "AGENT_UNKNOWN"},
    NamedReason{ErrorReason::kAgentVersionMismatch, "AGENT_VERSION_MISMATCH"},
    NamedReason{ErrorReason::kWorkersInsufficient, "WORKERS_INSUFFICIENT"},
    NamedReason{ErrorReason::kQuorumTooSmall, "QUORUM_TOO_SMALL"},
    NamedReason{ErrorReason::kVerifierBusy, "VERIFIER_BUSY"},
    NamedReason{ErrorReason::kVerifierQuarantined, "VERIFIER_QUARANTINED"},
    NamedReason{ErrorReason::kLeaseExpired, "LEASE_EXPIRED"},
    NamedReason{ErrorReason::kQueueFull, "QUEUE_FULL"},
    NamedReason{ErrorReason::kWeightsCorrupt, "WEIGHTS_CORRUPT"},
    NamedReason{ErrorReason::kSnapshotNotFound, "SNAPSHOT_NOT_FOUND"},
    NamedReason{ErrorReason::kCheckpointCorrupt, "CHECKPOINT_CORRUPT"},
    NamedReason{ErrorReason::kCheckpointNotFound, "CHECKPOINT_NOT_FOUND"},
    NamedReason{ErrorReason::kCheckpointMismatch, "CHECKPOINT_MISMATCH"},
    NamedReason{ErrorReason::kCorpusInvalid, "CORPUS_INVALID"},
    NamedReason{ErrorReason::kModelInvalid, "MODEL_INVALID"},
    NamedReason{ErrorReason::kCollectiveFailed, "COLLECTIVE_FAILED"},
    NamedReason{ErrorReason::kDeviceUnavailable, "DEVICE_UNAVAILABLE"},
    NamedReason{ErrorReason::kLedgerUnavailable, "LEDGER_UNAVAILABLE"},
    NamedReason{ErrorReason::kLedgerCorrupt, "LEDGER_CORRUPT"},
    NamedReason{ErrorReason::kDiskFull, "DISK_FULL"},
    NamedReason{ErrorReason::kPortTaken, "PORT_TAKEN"},
    NamedReason{ErrorReason::kAddressInvalid, "ADDRESS_INVALID"},
    NamedReason{ErrorReason::kCoordinatorUnreachable, "COORDINATOR_UNREACHABLE"},
    NamedReason{ErrorReason::kTlsInvalid, "TLS_INVALID"},
    NamedReason{ErrorReason::kUnauthenticated, "UNAUTHENTICATED"},
    NamedReason{ErrorReason::kPermissionDenied, "PERMISSION_DENIED"},
    NamedReason{ErrorReason::kProtocolViolation, "PROTOCOL_VIOLATION"},
    NamedReason{ErrorReason::kConfigInvalid, "CONFIG_INVALID"},
    NamedReason{ErrorReason::kShuttingDown, "SHUTTING_DOWN"},
};

constexpr bool TableFollowsEnum() {
  for (size_t i = 0; i < kReasons.size(); ++i) {
    if (static_cast<size_t>(kReasons[i].reason) != i) return false;
  }
  return kReasons.size() == static_cast<size_t>(ErrorReason::kShuttingDown) + 1;
}
static_assert(TableFollowsEnum(), "the table lists every reason once, in the order of the enum");

struct Payload {
  ErrorReason reason;
  ErrorMetadata metadata;
};

// Nothing also for a payload that another release wrote and this one cannot read.
std::optional<Payload> PayloadOf(const absl::Status& status) {
  const auto cord = status.GetPayload(kPayloadUrl);
  if (!cord) return std::nullopt;
  const auto json = nlohmann::json::parse(std::string(*cord), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("reason") || !json["reason"].is_string())
    return std::nullopt;
  const auto reason = ParseErrorReason(json["reason"].get<std::string>());
  if (!reason) return std::nullopt;
  Payload payload{.reason = *reason, .metadata = {}};
  const auto metadata = json.value("metadata", nlohmann::json::object());
  for (const auto& [key, value] : metadata.items()) {
    if (value.is_string()) payload.metadata[key] = value.get<std::string>();
  }
  return payload;
}

}  // namespace

absl::string_view ErrorReasonName(ErrorReason reason) {
  return kReasons[static_cast<size_t>(reason)].name;
}

std::optional<ErrorReason> ParseErrorReason(absl::string_view name) {
  for (const NamedReason& named : kReasons) {
    if (named.name == name) return named.reason;
  }
  return std::nullopt;
}

absl::Status MakeError(absl::StatusCode code, ErrorReason reason, absl::string_view message,
                       const ErrorMetadata& metadata) {
  absl::Status status(code, message);
  const nlohmann::json payload = {{"reason", std::string(ErrorReasonName(reason))},
                                  {"metadata", metadata}};
  // Bytes that are not UTF-8 are replaced: a file name in the metadata must not make reporting an
  // error throw.
  status.SetPayload(kPayloadUrl, absl::Cord(payload.dump(
                                     -1, ' ', false, nlohmann::json::error_handler_t::replace)));
  return status;
}

std::optional<ErrorReason> ReasonOf(const absl::Status& status) {
  const std::optional<Payload> payload = PayloadOf(status);
  if (!payload) return std::nullopt;
  return payload->reason;
}

ErrorMetadata MetadataOf(const absl::Status& status) {
  std::optional<Payload> payload = PayloadOf(status);
  return payload ? std::move(payload->metadata) : ErrorMetadata{};
}

absl::Status WithContext(const absl::Status& status, absl::string_view context) {
  if (status.ok()) return status;
  absl::Status longer(status.code(), absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload([&longer](absl::string_view url, const absl::Cord& payload) {
    longer.SetPayload(url, payload);
  });
  return longer;
}

}  // namespace leap
