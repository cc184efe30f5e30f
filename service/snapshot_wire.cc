#include "service/snapshot_wire.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "xxhash.h"

namespace leap {
namespace {

static_assert(std::endian::native == std::endian::little,
              "chunks are little-endian fp32, sent as they lie in memory");

// Tags of leap.v1.FetchResponse: field number << 3 | wire type.
constexpr uint64_t kBeginTag = 1 << 3 | 0;
constexpr uint64_t kChecksumTag = 2 << 3 | 1;
constexpr uint64_t kDataTag = 3 << 3 | 2;
constexpr size_t kMaxHeaderBytes = 11 + 9 + 11;

size_t PutVarint(uint64_t value, uint8_t* out) {
  size_t n = 0;
  for (; value >= 0x80; value >>= 7) out[n++] = static_cast<uint8_t>(value | 0x80);
  out[n++] = static_cast<uint8_t>(value);
  return n;
}

absl::Status Corrupt(absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, ErrorReason::kWeightsCorrupt,
                   absl::StrCat("corrupt chunk: ", what));
}

// Reads bytes that lie in several slices.
class SliceReader {
 public:
  explicit SliceReader(const std::vector<grpc::Slice>& slices) : slices_(slices) {}

  bool AtEnd() {
    while (slice_ < slices_.size() && offset_ == slices_[slice_].size()) {
      ++slice_;
      offset_ = 0;
    }
    return slice_ == slices_.size();
  }

  // Copies the next `size` bytes to `out`, or skips them if it is null. False: there are fewer.
  bool Take(size_t size, void* out) {
    auto* to = static_cast<uint8_t*>(out);
    while (size > 0) {
      if (AtEnd()) return false;
      const size_t n = std::min(size, slices_[slice_].size() - offset_);
      if (to != nullptr) {
        std::memcpy(to, slices_[slice_].begin() + offset_, n);
        to += n;
      }
      offset_ += n;
      size -= n;
    }
    return true;
  }

  bool TakeVarint(uint64_t* value) {
    *value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      uint8_t byte;
      if (!Take(1, &byte)) return false;
      if (shift == 63 && byte > 1) return false;
      *value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if ((byte & 0x80) == 0) return true;
    }
    return false;
  }

  // Leaves out a field of another release.
  bool Skip(uint64_t tag) {
    uint64_t ignored;
    switch (tag & 7) {
      case 0:
        return TakeVarint(&ignored);
      case 1:
        return Take(8, nullptr);
      case 2:
        return TakeVarint(&ignored) && ignored <= kMaxChunkMessageBytes && Take(ignored, nullptr);
      case 5:
        return Take(4, nullptr);
      default:
        return false;
    }
  }

 private:
  const std::vector<grpc::Slice>& slices_;
  size_t slice_ = 0;
  size_t offset_ = 0;
};

struct Chunk {
  uint64_t begin = 0;
  uint64_t checksum = 0;
  int64_t floats = 0;  // 0: no data seen
};

// Parses the message; the payload goes to the front of `out`, which bounds its size.
absl::Status ReadChunk(const std::vector<grpc::Slice>& slices, std::span<float> out, Chunk* chunk) {
  SliceReader reader(slices);
  while (!reader.AtEnd()) {
    uint64_t tag, length;
    if (!reader.TakeVarint(&tag)) return Corrupt("cut off in a tag");
    if (tag == kBeginTag) {
      if (!reader.TakeVarint(&chunk->begin)) return Corrupt("cut off in its begin");
    } else if (tag == kChecksumTag) {
      if (!reader.Take(sizeof(chunk->checksum), &chunk->checksum))
        return Corrupt("cut off in its checksum");
    } else if (tag == kDataTag) {
      if (chunk->floats != 0) return Corrupt("has data twice");
      if (!reader.TakeVarint(&length)) return Corrupt("cut off in its length");
      if (length == 0 || length % sizeof(float) != 0 || length > out.size_bytes()) {
        return Corrupt(absl::StrCat("holds ", length, " bytes where at most ", out.size_bytes(),
                                    " in whole floats were asked for"));
      }
      if (!reader.Take(length, out.data())) return Corrupt("cut off in its data");
      chunk->floats = static_cast<int64_t>(length / sizeof(float));
    } else if (!reader.Skip(tag)) {
      return Corrupt("has a field that cannot be read");
    }
  }
  return absl::OkStatus();
}

void ReleaseKeepAlive(void* keep_alive) {
  delete static_cast<std::shared_ptr<const void>*>(keep_alive);
}

}  // namespace

grpc::ByteBuffer EncodeChunk(int64_t begin, std::span<const float> values,
                             std::shared_ptr<const void> keep_alive) {
  uint8_t header[kMaxHeaderBytes];
  size_t n = 0;
  n += PutVarint(kBeginTag, header + n);
  n += PutVarint(static_cast<uint64_t>(begin), header + n);
  n += PutVarint(kChecksumTag, header + n);
  const uint64_t checksum = XXH3_64bits(values.data(), values.size_bytes());
  std::memcpy(header + n, &checksum, sizeof(checksum));
  n += sizeof(checksum);
  n += PutVarint(kDataTag, header + n);
  n += PutVarint(values.size_bytes(), header + n);
  // gRPC's slices take no const; it only reads what it sends.
  grpc::Slice slices[] = {
      grpc::Slice(header, n),
      grpc::Slice(const_cast<float*>(values.data()), values.size_bytes(), ReleaseKeepAlive,
                  new std::shared_ptr<const void>(std::move(keep_alive)))};
  return grpc::ByteBuffer(slices, 2);
}

absl::StatusOr<FlatRange> DecodeChunk(grpc::ByteBuffer* message, FlatRange range,
                                      int64_t expected_begin, std::span<float> out) {
  if (expected_begin < range.begin || expected_begin >= range.end ||
      static_cast<int64_t>(out.size()) != range.size()) {
    return absl::InternalError(
        "DecodeChunk: expected_begin is outside the range, or out is not of its size");
  }
  if (message->Length() > static_cast<size_t>(kMaxChunkMessageBytes)) return Corrupt("is too long");
  std::vector<grpc::Slice> slices;
  if (!message->Dump(&slices).ok()) return Corrupt("cannot be read");
  const int64_t room = std::min(kChunkFloats, range.end - expected_begin);
  const std::span<float> to =
      out.subspan(static_cast<size_t>(expected_begin - range.begin), static_cast<size_t>(room));
  Chunk chunk;
  LEAP_RETURN_IF_ERROR(ReadChunk(slices, to, &chunk));
  if (chunk.floats == 0) return Corrupt("holds no data");
  if (chunk.begin != static_cast<uint64_t>(expected_begin)) {
    return Corrupt(absl::StrCat("begins at float ", chunk.begin, ", expected ", expected_begin));
  }
  if (XXH3_64bits(to.data(), static_cast<size_t>(chunk.floats) * sizeof(float)) != chunk.checksum) {
    return Corrupt(absl::StrCat("wrong checksum at float ", expected_begin));
  }
  return FlatRange{expected_begin, expected_begin + chunk.floats};
}

grpc::ByteBuffer EncodeFetchRequest(const v1::FetchRequest& request) {
  return grpc::ByteBuffer(std::vector<grpc::Slice>{grpc::Slice(request.SerializeAsString())}.data(),
                          1);
}

absl::StatusOr<v1::FetchRequest> DecodeFetchRequest(grpc::ByteBuffer* message) {
  grpc::Slice slice;
  v1::FetchRequest request;
  if (message->Length() > 4096 || !message->DumpToSingleSlice(&slice).ok() ||
      !request.ParseFromArray(slice.begin(), static_cast<int>(slice.size()))) {
    return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kProtocolViolation,
                     "this is no FetchRequest");
  }
  return request;
}

}  // namespace leap
