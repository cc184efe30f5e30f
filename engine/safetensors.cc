#include "engine/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/error_reason.h"
#include "base/ids.h"
#include "base/status_macros.h"
#include "engine/internal/fd.h"
#include "engine/internal/safetensors_parts.h"
#include "nlohmann/json.hpp"

namespace leap {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors are little-endian, and read in place");

constexpr absl::string_view kPrefix = "transformer.";

absl::string_view AsBytes(std::span<const float> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

std::string HeaderText(std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const NamedTensor& tensor : tensors) {
    const uint64_t end = offset + tensor.values.size_bytes();
    json[tensor.name] = {
        {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

absl::Status Mismatch(absl::string_view file, absl::string_view tensor, absl::string_view expected,
                      absl::string_view seen) {
  return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kCheckpointMismatch,
                   absl::StrCat(file, ": tensor '", tensor, "': expected ", expected, ", saw ",
                                seen, "; is it of another model?"),
                   {{"file", std::string(file)}, {"tensor", std::string(tensor)}});
}

absl::Status Corrupt(absl::string_view file, absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, ErrorReason::kCheckpointCorrupt,
                   absl::StrCat(file, " is not a sound safetensors file: ", what),
                   {{"file", std::string(file)}});
}

// An open file with its checked header.
struct OpenTensors {
  Fd fd;
  SafetensorsHeader header;
  int64_t data_begin = 0;  // byte of the file at which the data begins
};

absl::StatusOr<OpenTensors> OpenSafetensors(const std::string& file) {
  OpenTensors open;
  open.fd = Fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!open.fd.valid()) return FileError("open", file, errno);
  struct stat info;
  if (::fstat(open.fd.get(), &info) != 0) return FileError("look at", file, errno);
  if (!S_ISREG(info.st_mode)) return Corrupt(file, "it is not a regular file");
  uint64_t length = 0;
  char prefix[sizeof(length)];
  LEAP_ASSIGN_OR_RETURN(const int64_t got, ReadAt(open.fd, file, 0, prefix, sizeof(prefix)));
  if (got < static_cast<int64_t>(sizeof(prefix)))
    return Corrupt(file, "it is shorter than eight bytes");
  std::memcpy(&length, prefix, sizeof(length));
  const int64_t rest = info.st_size - static_cast<int64_t>(sizeof(prefix));
  if (length > static_cast<uint64_t>(std::min(rest, kMaxSafetensorsHeader))) {
    return Corrupt(
        file, absl::StrCat("expected a header of at most ", std::min(rest, kMaxSafetensorsHeader),
                           " bytes, its first eight bytes say ", length));
  }
  std::string json(length, '\0');
  LEAP_ASSIGN_OR_RETURN(const int64_t json_got, ReadAt(open.fd, file, sizeof(prefix), json.data(),
                                                       static_cast<int64_t>(length)));
  if (json_got != static_cast<int64_t>(length))
    return Corrupt(file, "it was cut off while being read");
  open.data_begin = static_cast<int64_t>(sizeof(prefix) + length);
  LEAP_ASSIGN_OR_RETURN(open.header,
                        ParseSafetensorsHeader(json, info.st_size - open.data_begin, file));
  return open;
}

const TensorEntry* Find(const SafetensorsHeader& header, const std::string& name) {
  auto found = header.tensors.find(name);
  if (found == header.tensors.end()) {
    found = header.tensors.find(std::string(absl::StripPrefix(name, kPrefix)));
  }
  return found == header.tensors.end() ? nullptr : &found->second;
}

// What other tools put into a GPT-2 file besides its parameters.
bool PassedOver(absl::string_view name) {
  return name == "lm_head.weight" || absl::EndsWith(name, ".attn.bias") ||
         absl::EndsWith(name, ".attn.masked_bias");
}

absl::Status CheckNoOthers(const std::string& file, const WeightLayout& layout,
                           const SafetensorsHeader& header) {
  size_t known = 0;
  for (const TensorSlot& slot : layout.tensors) known += Find(header, slot.name) != nullptr;
  size_t counted = 0;
  for (const auto& [name, entry] : header.tensors) {
    if (PassedOver(name)) continue;
    ++counted;
    const auto same = [&](const TensorSlot& slot) {
      return slot.name == name || absl::StripPrefix(slot.name, kPrefix) == name;
    };
    if (std::none_of(layout.tensors.begin(), layout.tensors.end(), same)) {
      return Mismatch(file, name, "no such tensor", ShapeText(entry.shape));
    }
  }
  if (counted == known) return absl::OkStatus();
  return Corrupt(file, "it has a tensor twice, with and without the prefix 'transformer.'");
}

absl::Status ReadSlot(const std::string& file, const OpenTensors& open, const TensorSlot& slot,
                      std::span<float> out) {
  const TensorEntry* entry = Find(open.header, slot.name);
  if (entry == nullptr)
    return Mismatch(file, slot.name, ShapeText(slot.shape), "none of that name");
  if (entry->dtype != "F32") return Mismatch(file, slot.name, "dtype F32", entry->dtype);
  if (entry->shape != slot.shape)
    return Mismatch(file, slot.name, ShapeText(slot.shape), ShapeText(entry->shape));
  const auto bytes = static_cast<int64_t>(out.size_bytes());
  LEAP_ASSIGN_OR_RETURN(const int64_t got, ReadAt(open.fd, file, open.data_begin + entry->begin,
                                                  reinterpret_cast<char*>(out.data()), bytes));
  if (got != bytes) return Corrupt(file, "it was cut off while being read");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<FileSummary> WriteTensors(FileOps& ops, const std::string& path,
                                         std::span<const NamedTensor> tensors,
                                         const std::map<std::string, std::string>& metadata) {
  const std::string header = HeaderText(tensors, metadata);
  if (static_cast<int64_t>(header.size()) > kMaxSafetensorsHeader) {
    return absl::InvalidArgumentError(absl::StrCat("the header of ", path, " would have ",
                                                   header.size(), " bytes; at most ",
                                                   kMaxSafetensorsHeader, " are allowed"));
  }
  const uint64_t length = header.size();
  LEAP_ASSIGN_OR_RETURN(std::unique_ptr<OutputFile> created, ops.Create(path));
  SummingFile file(std::move(created));
  LEAP_RETURN_IF_ERROR(file.Append({reinterpret_cast<const char*>(&length), sizeof(length)}));
  LEAP_RETURN_IF_ERROR(file.Append(header));
  for (const NamedTensor& tensor : tensors)
    LEAP_RETURN_IF_ERROR(file.Append(AsBytes(tensor.values)));
  return file.Finish();
}

absl::Status WriteSafetensors(const std::string& file, const WeightLayout& layout,
                              std::span<const float> flat,
                              const std::map<std::string, std::string>& metadata) {
  if (static_cast<int64_t>(flat.size()) != layout.size) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": the layout has ", layout.size,
                                                   " floats, ", flat.size(), " were given"));
  }
  std::vector<NamedTensor> tensors;
  for (const TensorSlot& slot : layout.tensors) {
    tensors.push_back(
        {slot.name, slot.shape,
         flat.subspan(static_cast<size_t>(slot.offset), static_cast<size_t>(slot.size))});
  }
  FileOps& ops = RealFileOps();
  const std::string temporary = absl::StrCat(file, ".tmp-", Hex64(NewIncarnation()));
  absl::Status status = WriteTensors(ops, temporary, tensors, metadata).status();
  if (status.ok()) status = ops.Rename(temporary, file);
  if (!status.ok()) {
    ops.Remove(temporary).IgnoreError();
    return status;
  }
  const size_t slash = file.rfind('/');
  return ops.SyncFolder(slash == std::string::npos ? "." : file.substr(0, slash + 1));
}

absl::StatusOr<std::vector<float>> ReadSafetensors(const std::string& file,
                                                   const WeightLayout& layout,
                                                   std::map<std::string, std::string>* metadata) {
  LEAP_ASSIGN_OR_RETURN(OpenTensors open, OpenSafetensors(file));
  LEAP_RETURN_IF_ERROR(CheckNoOthers(file, layout, open.header));
  for (const TensorSlot& slot : layout.tensors) {
    if (Find(open.header, slot.name) == nullptr) {
      return Mismatch(file, slot.name, ShapeText(slot.shape), "none of that name");
    }
  }
  std::vector<float> flat(static_cast<size_t>(layout.size));
  for (const TensorSlot& slot : layout.tensors) {
    const std::span<float> out =
        std::span(flat).subspan(static_cast<size_t>(slot.offset), static_cast<size_t>(slot.size));
    LEAP_RETURN_IF_ERROR(ReadSlot(file, open, slot, out));
  }
  if (metadata != nullptr) *metadata = std::move(open.header.metadata);
  return flat;
}

}  // namespace leap
