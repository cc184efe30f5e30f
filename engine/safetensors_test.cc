#include "engine/safetensors.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "engine/internal/safetensors_parts.h"
#include "engine/test_scratch.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

// Two tensors: transformer.a [2, 3] and transformer.b [2].
WeightLayout TwoTensors() {
  WeightLayout layout;
  layout.tensors = {{"transformer.a", {2, 3}, 0, 6}, {"transformer.b", {2}, 6, 2}};
  layout.size = 8;
  return layout;
}
const std::vector<float> kEight = {1, 2, 3, 4, 5, 6, 7, 8};

class SafetensorsTest : public ::testing::Test {
 protected:
  SafetensorsTest() : root_(ScratchPath("safetensors_test")) {
    fs::remove_all(root_);
    fs::create_directories(root_);
  }
  ~SafetensorsTest() override { fs::remove_all(root_); }

  // A file of a header and `floats` floats: 1, 2, 3, ...
  std::string File(const std::string& header, size_t floats) const {
    std::string bytes(8, '\0');
    const uint64_t length = header.size();
    std::memcpy(bytes.data(), &length, sizeof(length));
    bytes += header;
    for (size_t i = 0; i < floats; ++i) {
      const auto value = static_cast<float>(i + 1);
      bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    return Raw(bytes);
  }
  std::string Raw(const std::string& bytes) const {
    const std::string path = root_ + "/x.safetensors";
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  const std::string root_;
};

constexpr char kGoodHeader[] =
    R"({"transformer.a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("transformer.b":{"dtype":"F32","shape":[2],"data_offsets":[24,32]}})";

TEST_F(SafetensorsTest, WhatIsWrittenIsReadBack) {
  const std::string path = root_ + "/w.safetensors";
  ASSERT_OK(
      WriteSafetensors(path, TwoTensors(), kEight, {{"step", "7"}, {"note", "naïve \"quoted\""}}));
  std::map<std::string, std::string> metadata;
  EXPECT_THAT(ReadSafetensors(path, TwoTensors(), &metadata), IsOkAndHolds(kEight));
  EXPECT_THAT(metadata, ElementsAre(Pair("note", "naïve \"quoted\""), Pair("step", "7")));
  EXPECT_EQ(std::distance(fs::directory_iterator(root_), fs::directory_iterator()), 1);
}

TEST_F(SafetensorsTest, DataIsAlignedAndTheHeaderIsTheFormats) {
  const std::string path = root_ + "/w.safetensors";
  ASSERT_OK(WriteSafetensors(path, TwoTensors(), kEight, {}));
  std::ifstream file(path, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(bytes.size(), 8 + length + 32);
  EXPECT_THAT(bytes.substr(8, length), HasSubstr(kGoodHeader));
}

TEST_F(SafetensorsTest, ReadsTheOrderOfTheFileIntoTheOrderOfTheLayout) {
  const std::string path =
      File(R"({"transformer.b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
           R"("transformer.a":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]}})",
           8);
  EXPECT_THAT(ReadSafetensors(path, TwoTensors(), nullptr),
              IsOkAndHolds(ElementsAre(3, 4, 5, 6, 7, 8, 1, 2)));
}

TEST_F(SafetensorsTest, TakesGpt2sOldNamesMasksAndTiedHead) {
  const std::string path = File(
      R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"F32","shape":[2],"data_offsets":[24,32]},)"
      R"("h.0.attn.bias":{"dtype":"BOOL","shape":[1,4],"data_offsets":[32,36]},)"
      R"("lm_head.weight":{"dtype":"F16","shape":[2],"data_offsets":[36,40]}})",
      10);
  EXPECT_THAT(ReadSafetensors(path, TwoTensors(), nullptr), IsOkAndHolds(kEight));
}

TEST_F(SafetensorsTest, SaysWhichTensorIsAnother) {
  const struct {
    const char* header;
    const char* message;
  } cases[] = {
      {R"({"transformer.a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}})",
       "'transformer.b': expected [2], saw none of that name"},
      {R"({"transformer.a":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]},)"
       R"("transformer.b":{"dtype":"F32","shape":[2],"data_offsets":[24,32]}})",
       "'transformer.a': expected [2, 3], saw [3, 2]"},
      {R"({"transformer.a":{"dtype":"I32","shape":[2,3],"data_offsets":[0,24]},)"
       R"("transformer.b":{"dtype":"F32","shape":[2],"data_offsets":[24,32]}})",
       "'transformer.a': expected dtype F32, saw I32"},
      {R"({"transformer.a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
       R"("transformer.b":{"dtype":"F32","shape":[1],"data_offsets":[24,28]},)"
       R"("transformer.c":{"dtype":"F32","shape":[1],"data_offsets":[28,32]}})",
       "'transformer.c': expected no such tensor, saw [1]"},
  };
  for (const auto& [header, message] : cases) {
    const auto read = ReadSafetensors(File(header, 8), TwoTensors(), nullptr);
    EXPECT_THAT(read, StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("x.safetensors"), HasSubstr(message))));
    EXPECT_THAT(read, HasReason(ErrorReason::kCheckpointMismatch));
  }
}

TEST_F(SafetensorsTest, RefusesFilesThatAreNotSound) {
  const auto tensor = [](const std::string& body) {
    return absl::StrCat(R"({"transformer.a":)", body, "}");
  };
  const std::string deep(100'000, '[');
  const struct {
    std::string header;
    const char* message;
  } cases[] = {
      {"", "not JSON"},
      {"[]", "not a JSON object"},
      {"{\"\xff\":1}", "not JSON"},
      {tensor("5"), "expected an object"},
      {tensor(R"({"shape":[8],"data_offsets":[0,32]})"), "expected a text as dtype"},
      {tensor(R"({"dtype":"F99","shape":[8],"data_offsets":[0,32]})"), "saw 'F99'"},
      {tensor(R"({"dtype":"F32","shape":[-8],"data_offsets":[0,32]})"), "as shape"},
      {tensor(R"({"dtype":"F32","shape":[8.0],"data_offsets":[0,32]})"), "as shape"},
      {tensor(R"({"dtype":"F32","shape":8,"data_offsets":[0,32]})"), "as shape"},
      {tensor(R"({"dtype":"F32","shape":[8],"data_offsets":[0]})"), "as data_offsets"},
      {tensor(R"({"dtype":"F32","shape":[8],"data_offsets":[32,0]})"), "within the 32 bytes"},
      {tensor(R"({"dtype":"F32","shape":[8],"data_offsets":[0,36]})"), "within the 32 bytes"},
      {tensor(R"({"dtype":"F32","shape":[8],"data_offsets":[0,18446744073709551615]})"),
       "as data_offsets"},
      {tensor(R"({"dtype":"F32","shape":[7],"data_offsets":[0,32]})"), "do not take the 32 bytes"},
      {tensor(R"({"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,32]})"),
       "do not take"},
      {tensor(R"({"dtype":"F32","shape":[7],"data_offsets":[0,28]})"), "the file has 32 bytes"},
      {tensor(R"({"dtype":"F32","shape":[7],"data_offsets":[4,32]})"), "a gap"},
      {R"({"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},"b":{"dtype":"F32","shape":[7],"data_offsets":[4,32]}})",
       "an overlap"},
      {R"({"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}})",
       "'a' twice"},
      {tensor(R"({"dtype":"F32","dtype":"F16","shape":[8],"data_offsets":[0,32]})"),
       "'dtype' twice"},
      {R"({"__metadata__":{"a":1}})", "expected a text"},
      {R"({"__metadata__":[]})", "as __metadata__"},
      {tensor(R"({"dtype":"F32","shape":[[[[8]]]],"data_offsets":[0,32]})"), "nests deeper"},
      {absl::StrCat("{\"a\":", deep), "nests deeper"},
  };
  for (const auto& [header, message] : cases) {
    const auto read = ReadSafetensors(File(header, 8), TwoTensors(), nullptr);
    EXPECT_THAT(read, StatusIs(absl::StatusCode::kDataLoss,
                               AllOf(HasSubstr("x.safetensors"), HasSubstr(message))))
        << header.substr(0, 200);
    EXPECT_THAT(read, HasReason(ErrorReason::kCheckpointCorrupt));
  }
}

TEST_F(SafetensorsTest, BoundsTheHeaderBeforeReadingIt) {
  EXPECT_THAT(ReadSafetensors(Raw("short"), TwoTensors(), nullptr),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(ReadSafetensors(Raw(std::string(8, '\xff')), TwoTensors(), nullptr),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("18446744073709551615")));
  const std::string path =
      Raw(std::string("\1\0\0\1\0\0\0\0", 8));  // one byte more than 16 MiB, and that file is long
  fs::resize_file(path, (uintmax_t{16} << 20) + 100);
  EXPECT_THAT(ReadSafetensors(path, TwoTensors(), nullptr),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("at most 16777216 bytes")));
  EXPECT_THAT(ReadSafetensors(root_, TwoTensors(), nullptr), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(ReadSafetensors(root_ + "/none", TwoTensors(), nullptr),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(SafetensorsTest, EveryTruncationIsNoticed) {
  const std::string path = root_ + "/w.safetensors";
  ASSERT_OK(WriteSafetensors(path, TwoTensors(), kEight, {{"format", "pt"}}));
  for (auto size = static_cast<int64_t>(fs::file_size(path)) - 1; size >= 0; --size) {
    fs::resize_file(path, static_cast<uintmax_t>(size));
    ASSERT_THAT(ReadSafetensors(path, TwoTensors(), nullptr), StatusIs(absl::StatusCode::kDataLoss))
        << size;
  }
}

// Seeded mutations of a good header: never a crash, and whatever is accepted is within bounds.
TEST(SafetensorsFuzz, SurvivesMutations) {
  const std::string snippets[] = {"{",       "}",
                                  "[",       "]",
                                  ",",       ":",
                                  "\"",      "-",
                                  "1e999",   "18446744073709551616",
                                  "null",    "true",
                                  "\\u0000", "\"dtype\"",
                                  "\"F32\"", "[0,24]",
                                  "\xff",    std::string(1, '\0')};
  const std::string seeds[] = {
      kGoodHeader,
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})"};
  int accepted = 0;
  for (uint64_t seed = 0; seed < 60'000; ++seed) {
    std::mt19937_64 random(seed);
    std::string text = seeds[seed % 2];
    for (uint64_t edits = 1 + random() % 4; edits > 0; --edits) {
      const size_t at = random() % (text.size() + 1);
      switch (random() % 4) {
        case 0:
          text.insert(at, snippets[random() % std::size(snippets)]);
          break;
        case 1:
          text.erase(at, random() % 8);
          break;
        case 2:
          if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << random() % 8));
          break;
        default:
          text.insert(at, text.substr(random() % (text.size() + 1), random() % 40));
          break;
      }
    }
    const auto data_bytes = static_cast<int64_t>(random() % 3 == 0 ? random() % 64
                                                 : seed % 2 == 0   ? 32
                                                                   : 1);
    const auto header = ParseSafetensorsHeader(text, data_bytes, "fuzzed");
    if (!header.ok()) {
      ASSERT_THAT(header, StatusIs(absl::StatusCode::kDataLoss)) << "seed " << seed;
      continue;
    }
    ++accepted;
    int64_t bytes = 0;
    for (const auto& [name, entry] : header->tensors) {
      ASSERT_TRUE(0 <= entry.begin && entry.begin <= entry.end && entry.end <= data_bytes)
          << "seed " << seed;
      bytes += entry.end - entry.begin;
    }
    ASSERT_EQ(bytes, data_bytes) << "seed " << seed;
  }
  EXPECT_GT(accepted, 100);  // some mutations are harmless; if none is, the test tests nothing
}

// Random bytes as a whole file, header length included.
TEST_F(SafetensorsTest, SurvivesMutatedFiles) {
  const std::string path = root_ + "/w.safetensors";
  ASSERT_OK(WriteSafetensors(path, TwoTensors(), kEight, {{"format", "pt"}}));
  std::ifstream file(path, std::ios::binary);
  const std::string good(std::istreambuf_iterator<char>(file), {});
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    std::mt19937_64 random(seed);
    std::string bytes = good;
    for (uint64_t edits = 1 + random() % 3; edits > 0; --edits) {
      bytes[random() % std::min<size_t>(bytes.size(), seed % 2 == 0 ? 16 : bytes.size())] =
          static_cast<char>(random());
    }
    const auto read = ReadSafetensors(Raw(bytes), TwoTensors(), nullptr);
    if (read.ok()) {
      ASSERT_EQ(read->size(), 8u) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace leap
