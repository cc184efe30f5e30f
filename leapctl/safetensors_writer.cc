#include "leapctl/safetensors_writer.h"

#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/ids.h"

namespace leap {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

std::string SafetensorsHeader(const WeightLayout& layout,
                              const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header;
  header["__metadata__"] = metadata;
  for (const TensorSlot& tensor : layout.tensors) {
    header[tensor.name] = {
        {"dtype", "F32"},
        {"shape", tensor.shape},
        {"data_offsets", {4 * tensor.offset, 4 * (tensor.offset + tensor.size)}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  std::string out(sizeof length, '\0');
  std::memcpy(out.data(), &length, sizeof length);
  return out + text;
}

absl::Status WriteSafetensorsFile(const std::string& path, bool overwrite,
                                  const WeightLayout& layout, std::span<const float> flat,
                                  const std::map<std::string, std::string>& metadata) {
  std::error_code error;
  if (!overwrite && std::filesystem::exists(path, error)) {
    return MakeError(absl::StatusCode::kAlreadyExists, ErrorReason::kConfigInvalid,
                     absl::StrCat(path, " is there already; --force overwrites it"));
  }
  const std::string draft = absl::StrCat(path, ".tmp-", Hex64(NewIncarnation()));
  std::ofstream file(draft, std::ios::binary);
  const std::string header = SafetensorsHeader(layout, metadata);
  file.write(header.data(), static_cast<std::streamsize>(header.size()));
  file.write(reinterpret_cast<const char*>(flat.data()),
             static_cast<std::streamsize>(flat.size_bytes()));
  file.close();
  const bool written = file.good();
  const std::string cause = std::strerror(errno);
  if (written) std::filesystem::rename(draft, path, error);
  if (written && !error) return absl::OkStatus();
  const std::string why = written ? error.message() : cause;
  std::filesystem::remove(draft, error);
  return MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kDiskFull,
                   absl::StrCat("cannot write ", path, ": ", why));
}

}  // namespace leap
