#include "service/snapshot_wire.h"

#include <cstring>
#include <numeric>
#include <random>
#include <string>

#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "gtest/gtest.h"
#include "xxhash.h"

namespace leap {
namespace {

std::vector<float> Ramp(size_t size) {
  std::vector<float> values(size);
  std::iota(values.begin(), values.end(), 0.5f);
  return values;
}

std::string Bytes(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string bytes;
  for (const auto& slice : slices) bytes.append(slice.begin(), slice.end());
  return bytes;
}

// In slices of `step` bytes, so that every field is cut somewhere.
grpc::ByteBuffer Buffer(const std::string& bytes, size_t step = 1 << 20) {
  std::vector<grpc::Slice> slices;
  for (size_t i = 0; i < bytes.size(); i += step) slices.emplace_back(bytes.substr(i, step));
  return grpc::ByteBuffer(slices.data(), slices.size());
}

v1::FetchResponse Response(int64_t begin, const std::vector<float>& values) {
  v1::FetchResponse response;
  response.set_begin(begin);
  response.set_data(values.data(), values.size() * sizeof(float));
  response.set_checksum(XXH3_64bits(values.data(), values.size() * sizeof(float)));
  return response;
}

constexpr FlatRange kRange{100, 200};

absl::StatusOr<FlatRange> Decode(const std::string& bytes, int64_t expected_begin = 100,
                                 size_t step = 1 << 20) {
  std::vector<float> out(static_cast<size_t>(kRange.size()));
  grpc::ByteBuffer buffer = Buffer(bytes, step);
  return DecodeChunk(&buffer, kRange, expected_begin, out);
}

TEST(SnapshotWire, AnyProtobufDecoderReadsAChunk) {
  const auto values = Ramp(1000);
  for (const int64_t begin : {int64_t{0}, int64_t{7}, int64_t{1} << 39}) {
    v1::FetchResponse response;
    ASSERT_TRUE(response.ParseFromString(Bytes(EncodeChunk(begin, values, nullptr))));
    EXPECT_EQ(response.SerializeAsString(), Response(begin, values).SerializeAsString());
  }
}

TEST(SnapshotWire, ReadsWhatAnyProtobufEncoderWrites) {
  const auto values = Ramp(40);
  const std::string bytes = Response(130, values).SerializeAsString();
  for (const size_t step : {1, 3, 7, 1000}) {
    std::vector<float> out(100, -1.0f);
    grpc::ByteBuffer buffer = Buffer(bytes, step);
    EXPECT_THAT(DecodeChunk(&buffer, kRange, 130, out), IsOkAndHolds(FlatRange{130, 170}));
    EXPECT_EQ(std::memcmp(out.data() + 30, values.data(), 160), 0);
    EXPECT_EQ(out[29], -1.0f);
    EXPECT_EQ(out[70], -1.0f);
  }
}

TEST(SnapshotWire, HoldsTheMemoryUntilItIsSent) {
  auto owner = std::make_shared<std::vector<float>>(Ramp(10));
  std::weak_ptr<std::vector<float>> watch = owner;
  grpc::ByteBuffer chunk = EncodeChunk(0, *owner, owner);
  owner.reset();
  EXPECT_FALSE(watch.expired());
  chunk.Clear();
  EXPECT_TRUE(watch.expired());
}

TEST(SnapshotWire, SkipsFieldsOfAnotherRelease) {
  const std::string extra = std::string("\x20\x05", 2) + std::string("\x2a\x03xyz", 5) +
                            std::string("\x35\x01\x02\x03\x04", 5) +
                            std::string("\x39\x01\x02\x03\x04\x05\x06\x07\x08", 9);
  EXPECT_OK(Decode(extra + Response(100, Ramp(10)).SerializeAsString()));
}

TEST(SnapshotWire, RefusesWhatIsNotTheChunkAskedFor) {
  const auto lost = [](const absl::StatusOr<FlatRange>& result) {
    EXPECT_THAT(result, StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(result, HasReason(ErrorReason::kWeightsCorrupt));
  };
  const std::string good = Response(100, Ramp(10)).SerializeAsString();
  lost(Decode(good, 110));                                     // out of order
  lost(Decode(Response(100, Ramp(101)).SerializeAsString()));  // more than was asked for
  lost(Decode(Response(-1, Ramp(10)).SerializeAsString()));
  lost(Decode(Response(100, {}).SerializeAsString()));  // no data
  lost(Decode(""));
  lost(Decode(good + good.substr(good.size() - 42)));  // data twice
  lost(Decode(good.substr(0, good.size() - 1)));       // cut off
  v1::FetchResponse odd = Response(100, Ramp(10));
  odd.mutable_data()->pop_back();
  lost(Decode(odd.SerializeAsString()));  // no whole floats
  odd = Response(100, Ramp(10));
  odd.clear_checksum();
  lost(Decode(odd.SerializeAsString()));
  lost(Decode(
      std::string("\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11)));  // a length of 2^64 - 1
  lost(Decode(std::string("\x0b\x0c", 2)));                               // a group
}

TEST(SnapshotWire, NoSingleFlippedBitGetsThrough) {
  const std::string good = Response(100, Ramp(20)).SerializeAsString();
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(Decode(bytes).ok()) << "bit " << bit;
  }
}

TEST(SnapshotWire, SurvivesHostileBytes) {
  std::mt19937_64 random(11);
  const std::string good = Response(100, Ramp(20)).SerializeAsString();
  for (int i = 0; i < 50'000; ++i) {
    std::string bytes = good;
    for (int e = static_cast<int>(random() % 6); e >= 0; --e)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    if (random() % 3 == 0) bytes.resize(1 + random() % (bytes.size() - 1));
    if (random() % 5 == 0) bytes.insert(random() % bytes.size(), bytes);
    const auto result = Decode(bytes, 100, 1 + random() % 50);
    if (result.ok()) {
      EXPECT_LE(result->end, kRange.end);
    }
  }
}

TEST(SnapshotWire, RequestsComeBack) {
  v1::FetchRequest request;
  request.set_job("a-1");
  request.set_end(5);
  grpc::ByteBuffer buffer = EncodeFetchRequest(request);
  ASSERT_OK_AND_ASSIGN(v1::FetchRequest back, DecodeFetchRequest(&buffer));
  EXPECT_EQ(back.SerializeAsString(), request.SerializeAsString());
  grpc::ByteBuffer junk = Buffer("\xff\xff\xff");
  EXPECT_THAT(DecodeFetchRequest(&junk), HasReason(ErrorReason::kProtocolViolation));
  grpc::ByteBuffer huge = Buffer(std::string(5000, 'x'));
  EXPECT_THAT(DecodeFetchRequest(&huge), HasReason(ErrorReason::kProtocolViolation));
}

}  // namespace
}  // namespace leap
