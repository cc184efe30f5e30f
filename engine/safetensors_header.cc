// The header alone: everything in a safetensors file that a stranger can get wrong.
#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "engine/internal/safetensors_parts.h"
#include "nlohmann/json.hpp"

namespace leap {
namespace {

using Json = nlohmann::json;

constexpr absl::string_view kMetadataKey = "__metadata__";
constexpr size_t kMaxRank = 16;

struct ElementType {
  absl::string_view name;
  int64_t bytes;
};
constexpr std::array kElementTypes = {
    ElementType{"F64", 8},  ElementType{"I64", 8},     ElementType{"U64", 8},
    ElementType{"F32", 4},  ElementType{"I32", 4},     ElementType{"U32", 4},
    ElementType{"F16", 2},  ElementType{"BF16", 2},    ElementType{"I16", 2},
    ElementType{"U16", 2},  ElementType{"I8", 1},      ElementType{"U8", 1},
    ElementType{"BOOL", 1}, ElementType{"F8_E4M3", 1}, ElementType{"F8_E5M2", 1},
};

int64_t ElementBytes(absl::string_view dtype) {
  for (const ElementType& type : kElementTypes) {
    if (type.name == dtype) return type.bytes;
  }
  return 0;
}

// Names come from the file: cut and escaped before they go into a message.
std::string Shown(absl::string_view name) {
  return absl::StrCat("'", absl::CHexEscape(name.substr(0, 80)), "'");
}

absl::Status Malformed(absl::string_view file, absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, ErrorReason::kCheckpointCorrupt,
                   absl::StrCat(file, " is not a sound safetensors file: ", what),
                   {{"file", std::string(file)}});
}

// Refuses, while the text is parsed, what could cost memory or hide something: depth and doubled
// names.
class Guard {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > 3) too_deep_ = true;
    if (event == Json::parse_event_t::key) {
      if (depth == 1) current_.clear();
      std::set<std::string>& keys = depth == 1 ? names_ : current_;
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.insert(key).second && doubled_.empty()) doubled_ = key.empty() ? " " : key;
    }
    return !too_deep_;
  }
  bool too_deep() const { return too_deep_; }
  const std::string& doubled() const { return doubled_; }

 private:
  bool too_deep_ = false;
  std::set<std::string> names_, current_;
  std::string doubled_;
};

absl::StatusOr<Json> ParseGuarded(absl::string_view text, absl::string_view file) {
  Guard guard;
  Json json = Json::parse(text.begin(), text.end(), std::ref(guard), /*allow_exceptions=*/false);
  if (guard.too_deep()) return Malformed(file, "the header nests deeper than the format does");
  if (json.is_discarded()) return Malformed(file, "the header is not JSON");
  if (!json.is_object()) return Malformed(file, "the header is not a JSON object");
  if (!guard.doubled().empty()) {
    return Malformed(file, absl::StrCat("the header has ", Shown(guard.doubled()), " twice"));
  }
  return json;
}

// A list of non-negative integers, or nothing.
std::optional<std::vector<int64_t>> Integers(const Json& json, absl::string_view key) {
  const auto found = json.find(std::string(key));
  if (found == json.end() || !found->is_array()) return std::nullopt;
  std::vector<int64_t> values;
  for (const Json& value : *found) {
    if (!value.is_number_unsigned()) return std::nullopt;
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    values.push_back(static_cast<int64_t>(number));
  }
  return values;
}

// Bytes of a tensor, or nothing if the product does not fit.
std::optional<int64_t> TensorBytes(const TensorEntry& entry) {
  int64_t bytes = ElementBytes(entry.dtype);
  for (const int64_t extent : entry.shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) return std::nullopt;
  }
  return bytes;
}

absl::StatusOr<TensorEntry> ParseEntry(const std::string& name, const Json& json,
                                       int64_t data_bytes, absl::string_view file) {
  const auto bad = [&](absl::string_view what) {
    return Malformed(file, absl::StrCat("tensor ", Shown(name), ": ", what));
  };
  if (!json.is_object()) return bad("expected an object with dtype, shape and data_offsets");
  const auto dtype = json.find("dtype");
  if (dtype == json.end() || !dtype->is_string()) return bad("expected a text as dtype");
  TensorEntry entry;
  entry.dtype = dtype->get<std::string>();
  if (ElementBytes(entry.dtype) == 0) {
    return bad(absl::StrCat("expected a known dtype such as F32, saw ", Shown(entry.dtype)));
  }
  const auto shape = Integers(json, "shape");
  if (!shape || shape->size() > kMaxRank)
    return bad("expected a short list of whole numbers as shape");
  entry.shape = *shape;
  const auto offsets = Integers(json, "data_offsets");
  if (!offsets || offsets->size() != 2) return bad("expected [begin, end] as data_offsets");
  entry.begin = (*offsets)[0];
  entry.end = (*offsets)[1];
  if (entry.begin > entry.end || entry.end > data_bytes) {
    return bad(absl::StrCat("expected data_offsets within the ", data_bytes,
                            " bytes of data, saw [", entry.begin, ", ", entry.end, "]"));
  }
  const std::optional<int64_t> bytes = TensorBytes(entry);
  if (!bytes || *bytes != entry.end - entry.begin) {
    return bad(absl::StrCat("dtype ", entry.dtype, " and shape [", absl::StrJoin(entry.shape, ", "),
                            "] do not take the ", entry.end - entry.begin,
                            " bytes of its data_offsets"));
  }
  return entry;
}

// The format wants the ranges to cover the data exactly: no hole to hide something in, no overlap.
absl::Status CheckCover(const SafetensorsHeader& header, int64_t data_bytes,
                        absl::string_view file) {
  std::vector<std::pair<std::pair<int64_t, int64_t>, absl::string_view>> ranges;
  for (const auto& [name, entry] : header.tensors)
    ranges.push_back({{entry.begin, entry.end}, name});
  std::sort(ranges.begin(), ranges.end());
  int64_t covered = 0;
  for (const auto& [range, name] : ranges) {
    if (range.first != covered) {
      return Malformed(file, absl::StrCat("tensor ", Shown(name), " begins at byte ", range.first,
                                          " of the data, ", covered, " was expected: ",
                                          range.first < covered ? "an overlap" : "a gap"));
    }
    covered = range.second;
  }
  if (covered == data_bytes) return absl::OkStatus();
  return Malformed(file,
                   absl::StrCat("the tensors take ", covered, " bytes, the file has ", data_bytes,
                                " bytes of data; it was cut off or something was added"));
}

absl::Status ParseMetadata(const Json& json, absl::string_view file, SafetensorsHeader& header) {
  if (!json.is_object()) return Malformed(file, "expected an object as __metadata__");
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string())
      return Malformed(file, absl::StrCat("metadata ", Shown(key), ": expected a text"));
    header.metadata[key] = value.get<std::string>();
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view json_text,
                                                         int64_t data_bytes,
                                                         absl::string_view file) {
  LEAP_ASSIGN_OR_RETURN(const Json json, ParseGuarded(json_text, file));
  SafetensorsHeader header;
  for (const auto& [name, value] : json.items()) {
    if (name == kMetadataKey) {
      LEAP_RETURN_IF_ERROR(ParseMetadata(value, file, header));
      continue;
    }
    LEAP_ASSIGN_OR_RETURN(header.tensors[name], ParseEntry(name, value, data_bytes, file));
  }
  LEAP_RETURN_IF_ERROR(CheckCover(header, data_bytes, file));
  return header;
}

}  // namespace leap
