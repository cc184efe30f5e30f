// leap.v1.FetchResponse and FetchRequest by hand on protobuf's wire format, so that weights go from
// the ring to the socket and from the socket to the destination without passing through a `bytes`
// field. Any protobuf decoder reads what EncodeChunk writes, and DecodeChunk reads what any
// protobuf encoder writes.
//
// Decoding trusts nothing: lengths, ranges, order of fields, checksum. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/layout.h"
#include "grpcpp/support/byte_buffer.h"
#include "leap/v1/snapshot.pb.h"

namespace leap {

// Floats in one chunk at most: 1 MiB.
inline constexpr int64_t kChunkFloats = 1 << 18;
// A chunk's message is never longer; set as the receive limit of channels that fetch.
inline constexpr int kMaxChunkMessageBytes = (1 << 20) + 64;

// The message for `values`, floats [begin, begin + size) of the buffer. Header bytes are new; the
// payload refers to the memory of `values`, which `keep_alive` holds until gRPC has sent it.
// values.size() in 1..kChunkFloats.
grpc::ByteBuffer EncodeChunk(int64_t begin, std::span<const float> values,
                             std::shared_ptr<const void> keep_alive);

// Reads one message and copies its payload to `out` at (begin - range.begin). `expected_begin` is
// where it must begin. DataLoss, WEIGHTS_CORRUPT: checksum wrong, or not a chunk, or not the floats
// asked for. Returns its range.
absl::StatusOr<FlatRange> DecodeChunk(grpc::ByteBuffer* message, FlatRange range,
                                      int64_t expected_begin, std::span<float> out);

grpc::ByteBuffer EncodeFetchRequest(const v1::FetchRequest& request);
absl::StatusOr<v1::FetchRequest> DecodeFetchRequest(grpc::ByteBuffer* message);

}  // namespace leap
