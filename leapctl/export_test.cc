#include "leapctl/export.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "leapctl/safetensors_writer.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

constexpr absl::string_view kConfig =
    R"({"model_type": "gpt2", "vocab_size": 257, "n_positions": 32, "n_embd": 48, "n_layer": 2, "n_head": 4})";

TEST(LayoutOfModelTest, NamesTheTensorsOfAConfig) {
  // 257·48 + 32·48 + 2·(2·96 + 4·48² + 4·48 + 8·48² + 5·48) + 96, by hand.
  const int64_t parameters =
      12336 + 1536 + 2 * (192 + 6912 + 144 + 2304 + 48 + 9216 + 192 + 9216 + 48) + 96;

  const auto layout = LayoutOfModel({.preset = "", .config = "config.json"}, kConfig, parameters);

  ASSERT_TRUE(layout.has_value());
  EXPECT_EQ(layout->size, parameters);
  EXPECT_EQ(layout->tensors.front().name, "transformer.wte.weight");
  EXPECT_EQ(layout->tensors.back().name, "transformer.ln_f.bias");
  EXPECT_EQ(layout->tensors.size(), 2u + 2 * 12 + 2);
}

TEST(LayoutOfModelTest, KnowsThePresets) {
  EXPECT_TRUE(LayoutOfModel({.preset = "gpt2-small"}, "", 124439808).has_value());
  EXPECT_FALSE(LayoutOfModel({.preset = "gpt2-small"}, "", 124439807).has_value());
  EXPECT_FALSE(LayoutOfModel({.preset = "unheard-of"}, "", 1).has_value());
}

TEST(LayoutOfModelTest, AHostileConfigIsNoLayout) {
  for (absl::string_view config : {"", "[", "{\"n_embd\": -1}", "{\"n_embd\": 9223372036854775807}",
                                   "{\"n_layer\": 1000000000}", "[1, 2]"}) {
    EXPECT_FALSE(LayoutOfModel({.preset = "", .config = "c"}, config, 5).has_value()) << config;
  }
}

TEST(SafetensorsWriterTest, WritesWhatTheFormatSays) {
  const std::string path = testing::TempDir() + "/writer-test.safetensors";
  std::filesystem::remove(path);
  const std::vector<float> flat = {1, 2, 3.5f, -4, 5, 6};
  const WeightLayout layout{.tensors = {{.name = "a", .shape = {2, 2}, .offset = 0, .size = 4},
                                        {.name = "b", .shape = {2}, .offset = 4, .size = 2}},
                            .size = 6};

  ASSERT_OK(WriteSafetensorsFile(path, false, layout, flat, {{"step", "400"}}));

  std::ifstream file(path, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  const std::string text = bytes.str();
  uint64_t length = 0;
  std::memcpy(&length, text.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  ASSERT_EQ(text.size(), 8 + length + 24);
  const auto header = nlohmann::json::parse(text.substr(8, length));
  EXPECT_EQ(header["__metadata__"]["step"], "400");
  EXPECT_EQ(header["b"]["data_offsets"], nlohmann::json({16, 24}));
  EXPECT_EQ(header["a"]["shape"], nlohmann::json({2, 2}));
  float third = 0;
  std::memcpy(&third, text.data() + 8 + length + 8, 4);
  EXPECT_EQ(third, 3.5f);
}

TEST(SafetensorsWriterTest, OverwritesOnlyWhenAsked) {
  const std::string path = testing::TempDir() + "/overwrite-test.safetensors";
  std::filesystem::remove(path);
  const std::vector<float> flat = {1};

  ASSERT_OK(WriteSafetensorsFile(path, false, FlatLayout(1), flat, {}));
  EXPECT_THAT(WriteSafetensorsFile(path, false, FlatLayout(1), flat, {}),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("--force")));
  EXPECT_OK(WriteSafetensorsFile(path, true, FlatLayout(1), flat, {}));
  EXPECT_THAT(WriteSafetensorsFile("/no/such/folder/f", false, FlatLayout(1), flat, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("/no/such/folder/f")));
}

}  // namespace
}  // namespace leap
