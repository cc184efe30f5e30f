#include "engine/internal/checkpoint_format.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/ids.h"
#include "base/status_macros.h"
#include "nlohmann/json.hpp"
#include "xxhash.h"

namespace leap {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFormat[] = "leap-checkpoint/1";

absl::Status Malformed(absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, ErrorReason::kCheckpointCorrupt, what);
}

uint64_t Checksum(const Json& without_checksum) {
  const std::string text = without_checksum.dump();
  return XXH3_64bits(text.data(), text.size());
}

Json FileJson(const FileSummary& file) {
  return {{"bytes", file.bytes}, {"xxh3", Hex64(file.checksum)}};
}

// The text has passed its checksum, so a wrong type is a writer's bug; it is refused all the same,
// not thrown.
absl::StatusOr<int64_t> Count(const Json& json, const char* key, int64_t min) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number_integer() || found->get<int64_t>() < min) {
    return Malformed(absl::StrCat(key, ": expected a whole number of at least ", min));
  }
  return found->get<int64_t>();
}

absl::StatusOr<uint64_t> Hex(const Json& json, const std::string& key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string())
    return Malformed(absl::StrCat(key, ": expected hex digits"));
  return ParseHex64(found->get<std::string>());
}

absl::StatusOr<const Json*> Member(const Json& json, const char* key, bool is_array) {
  const auto found = json.find(key);
  if (found == json.end() || (is_array ? !found->is_array() : !found->is_object())) {
    return Malformed(absl::StrCat(key, ": expected ", is_array ? "a list" : "an object"));
  }
  return &*found;
}

absl::Status ParsePosition(const Json& json, CheckpointState& state) {
  TrainPosition& position = state.position;
  if (json.contains("rollbacks")) {  // not in older ones
    LEAP_ASSIGN_OR_RETURN(position.rollbacks, Count(json, "rollbacks", 0));
  }
  if (json.contains("job")) {
    if (!json["job"].is_string()) return Malformed("job: expected a text");
    state.job = json["job"].get<std::string>();
    LEAP_ASSIGN_OR_RETURN(state.epoch, Count(json, "epoch", 0));
  }
  LEAP_ASSIGN_OR_RETURN(position.step, Count(json, "step", 0));
  LEAP_ASSIGN_OR_RETURN(position.data_position, Count(json, "data_position", 0));
  LEAP_ASSIGN_OR_RETURN(position.adam_step, Count(json, "adam_step", 0));
  LEAP_ASSIGN_OR_RETURN(position.leaps_applied, Count(json, "leaps_applied", 0));
  LEAP_ASSIGN_OR_RETURN(position.state_base_step, Count(json, "state_base_step", -1));
  const auto loss = json.find("train_loss");  // not in older ones
  position.train_loss = loss != json.end() && loss->is_number()
                            ? loss->get<double>()
                            : std::numeric_limits<double>::quiet_NaN();
  LEAP_ASSIGN_OR_RETURN(position.last_leap, Hex(json, "last_leap"));
  LEAP_ASSIGN_OR_RETURN(state.seed, Hex(json, "seed"));
  return absl::OkStatus();
}

absl::Status ParseSums(const Json& json, CheckpointState& state) {
  LEAP_ASSIGN_OR_RETURN(const Json* files, Member(json, "files", /*is_array=*/false));
  for (const auto& [name, file] : files->items()) {
    FileSummary& summary = state.files[name];
    LEAP_ASSIGN_OR_RETURN(summary.bytes, Count(file, "bytes", 0));
    LEAP_ASSIGN_OR_RETURN(summary.checksum, Hex(file, "xxh3"));
  }
  LEAP_ASSIGN_OR_RETURN(const Json* digests, Member(json, "digests", /*is_array=*/false));
  for (const auto& [name, digest] : digests->items()) {
    LEAP_ASSIGN_OR_RETURN(state.digests[name], Hex(*digests, name));
  }
  LEAP_ASSIGN_OR_RETURN(const Json* sizes, Member(json, "state_floats", /*is_array=*/true));
  for (const Json& size : *sizes) {
    if (!size.is_number_unsigned()) return Malformed("state_floats: expected whole numbers");
    state.state_floats.push_back(size.get<int64_t>());
  }
  LEAP_ASSIGN_OR_RETURN(state.anchor_floats, Count(json, "anchor_floats", 0));
  return absl::OkStatus();
}

}  // namespace

std::string CheckpointStateJson(const CheckpointState& state) {
  const TrainPosition& position = state.position;
  Json json = {{"format", kFormat},
               {"job", state.job},
               {"epoch", state.epoch},
               {"rollbacks", position.rollbacks},
               {"step", position.step},
               {"data_position", position.data_position},
               {"adam_step", position.adam_step},
               {"leaps_applied", position.leaps_applied},
               {"last_leap", Hex64(position.last_leap)},
               {"state_base_step", position.state_base_step},
               {"train_loss", position.train_loss},
               {"seed", Hex64(state.seed)},
               {"files", Json::object()},
               {"digests", Json::object()},
               {"state_floats", state.state_floats},
               {"anchor_floats", state.anchor_floats}};
  for (const auto& [name, file] : state.files) json["files"][name] = FileJson(file);
  for (const auto& [name, digest] : state.digests) json["digests"][name] = Hex64(digest);
  json["checksum"] = Hex64(Checksum(json));
  return json.dump(2) + "\n";
}

absl::StatusOr<CheckpointState> ParseCheckpointState(absl::string_view text) {
  Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Malformed("expected a JSON object");
  const absl::StatusOr<uint64_t> checksum = Hex(json, "checksum");
  json.erase("checksum");
  const auto format = json.find("format");
  if (format != json.end() && format->is_string() && *format != kFormat && checksum.ok() &&
      *checksum == Checksum(json)) {
    return MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kCheckpointMismatch,
                     absl::StrCat("expected format ", kFormat, ", saw ", format->get<std::string>(),
                                  "; it was written by another release"));
  }
  if (!checksum.ok() || *checksum != Checksum(json))
    return Malformed("its checksum does not fit its content");
  CheckpointState state;
  LEAP_RETURN_IF_ERROR(ParsePosition(json, state));
  LEAP_RETURN_IF_ERROR(ParseSums(json, state));
  return state;
}

}  // namespace leap
