#include "service/rpc_status.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/error_reason.h"
#include "base/utf8.h"
#include "google/protobuf/unknown_field_set.h"

namespace leap {
namespace {

using google::protobuf::UnknownField;
using google::protobuf::UnknownFieldSet;

#define LEAP_SAME_CODE(absl_code, grpc_code) \
  static_assert(static_cast<int>(absl::StatusCode::absl_code) == static_cast<int>(grpc::grpc_code))
LEAP_SAME_CODE(kOk, OK);
LEAP_SAME_CODE(kCancelled, CANCELLED);
LEAP_SAME_CODE(kUnknown, UNKNOWN);
LEAP_SAME_CODE(kInvalidArgument, INVALID_ARGUMENT);
LEAP_SAME_CODE(kDeadlineExceeded, DEADLINE_EXCEEDED);
LEAP_SAME_CODE(kNotFound, NOT_FOUND);
LEAP_SAME_CODE(kAlreadyExists, ALREADY_EXISTS);
LEAP_SAME_CODE(kPermissionDenied, PERMISSION_DENIED);
LEAP_SAME_CODE(kResourceExhausted, RESOURCE_EXHAUSTED);
LEAP_SAME_CODE(kFailedPrecondition, FAILED_PRECONDITION);
LEAP_SAME_CODE(kAborted, ABORTED);
LEAP_SAME_CODE(kOutOfRange, OUT_OF_RANGE);
LEAP_SAME_CODE(kUnimplemented, UNIMPLEMENTED);
LEAP_SAME_CODE(kInternal, INTERNAL);
LEAP_SAME_CODE(kUnavailable, UNAVAILABLE);
LEAP_SAME_CODE(kDataLoss, DATA_LOSS);
LEAP_SAME_CODE(kUnauthenticated, UNAUTHENTICATED);
#undef LEAP_SAME_CODE
constexpr int kLastCode = static_cast<int>(absl::StatusCode::kUnauthenticated);

// Field numbers of google.rpc.Status, google.protobuf.Any, google.rpc.ErrorInfo and its map
// entries.
constexpr int kStatusCode = 1, kStatusDetails = 3;
constexpr int kAnyTypeUrl = 1, kAnyValue = 2;
constexpr int kInfoReason = 1, kInfoDomain = 2, kInfoMetadata = 3;
constexpr int kEntryKey = 1, kEntryValue = 2;
constexpr absl::string_view kInfoUrl = "type.googleapis.com/google.rpc.ErrorInfo";

// Trailing metadata travels in headers: what is longer than this is cut, so that the status itself
// arrives.
constexpr size_t kMaxMessageBytes = 6000;
constexpr size_t kMaxMetadataBytes = 512;
constexpr size_t kMaxMetadataEntries = 16;

// At most `bytes` of `text`, and dots if that is not all.
std::string Cut(absl::string_view text, size_t bytes) {
  const absl::string_view kept = CutUtf8(text, bytes);
  return absl::StrCat(kept, kept.size() < text.size() ? "..." : "");
}

void AddText(UnknownFieldSet* fields, int number, absl::string_view text) {
  fields->AddLengthDelimited(number)->assign(text.data(), text.size());
}

std::string Serialized(const UnknownFieldSet& fields) {
  std::string bytes;
  fields.SerializeToString(&bytes);
  return bytes;
}

std::string EncodeDetails(const absl::Status& status, ErrorReason reason) {
  UnknownFieldSet info, any, details;
  AddText(&info, kInfoReason, ErrorReasonName(reason));
  AddText(&info, kInfoDomain, kErrorDomain);
  size_t entries = 0;
  for (const auto& [key, value] : MetadataOf(status)) {
    if (++entries > kMaxMetadataEntries) break;
    UnknownFieldSet entry;
    AddText(&entry, kEntryKey, Cut(key, kMaxMetadataBytes));
    AddText(&entry, kEntryValue, Cut(value, kMaxMetadataBytes));
    AddText(&info, kInfoMetadata, Serialized(entry));
  }
  AddText(&any, kAnyTypeUrl, kInfoUrl);
  AddText(&any, kAnyValue, Serialized(info));
  details.AddVarint(kStatusCode, static_cast<uint64_t>(status.code()));
  AddText(&details, kStatusDetails, Serialized(any));
  return Serialized(details);
}

// The last field of this number and of type bytes; empty if there is none.
absl::string_view Text(const UnknownFieldSet& fields, int number) {
  absl::string_view text;
  for (int i = 0; i < fields.field_count(); ++i) {
    const UnknownField& field = fields.field(i);
    if (field.number() == number && field.type() == UnknownField::TYPE_LENGTH_DELIMITED) {
      text = field.length_delimited();
    }
  }
  return text;
}

bool Parse(absl::string_view bytes, UnknownFieldSet* fields) {
  return fields->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

// The status with the reason of one google.protobuf.Any; the plain one if it is not our ErrorInfo.
bool DecodeInfo(absl::string_view any_bytes, absl::Status* status) {
  UnknownFieldSet any, info;
  if (!Parse(any_bytes, &any) || Text(any, kAnyTypeUrl) != kInfoUrl) return false;
  if (!Parse(Text(any, kAnyValue), &info) || Text(info, kInfoDomain) != kErrorDomain) return false;
  const auto reason = ParseErrorReason(Text(info, kInfoReason));
  if (!reason) return false;
  ErrorMetadata metadata;
  for (int i = 0; i < info.field_count() && metadata.size() < kMaxMetadataEntries; ++i) {
    const UnknownField& field = info.field(i);
    UnknownFieldSet entry;
    if (field.number() != kInfoMetadata || field.type() != UnknownField::TYPE_LENGTH_DELIMITED ||
        !Parse(field.length_delimited(), &entry)) {
      continue;
    }
    metadata[std::string(Text(entry, kEntryKey))] = std::string(Text(entry, kEntryValue));
  }
  *status = MakeError(status->code(), *reason, status->message(), metadata);
  return true;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  std::string message = Cut(status.message(), kMaxMessageBytes);
  const auto reason = ReasonOf(status);
  if (!reason) return grpc::Status(code, message);
  return grpc::Status(code, message, EncodeDetails(status, *reason));
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const int number = status.error_code();
  const auto code = number > 0 && number <= kLastCode ? static_cast<absl::StatusCode>(number)
                                                      : absl::StatusCode::kUnknown;
  absl::Status result(code, status.error_message());
  UnknownFieldSet details;
  if (status.error_details().empty() || !Parse(status.error_details(), &details)) return result;
  for (int i = 0; i < details.field_count(); ++i) {
    const UnknownField& field = details.field(i);
    if (field.number() == kStatusDetails && field.type() == UnknownField::TYPE_LENGTH_DELIMITED &&
        DecodeInfo(field.length_delimited(), &result)) {
      break;
    }
  }
  return result;
}

}  // namespace leap
