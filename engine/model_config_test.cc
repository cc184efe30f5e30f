#include <fstream>

#include "base/status_matchers.h"
#include "core/job_spec.h"
#include "engine/model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

TEST(ResolveModelConfig, ChecksThatTheTextFits) {
  EXPECT_OK(ResolveModelConfig({.preset = "gpt2-tiny"}, 512));
  EXPECT_THAT(
      ResolveModelConfig({.preset = "gpt2-tiny"}, 513),
      StatusIs(
          absl::StatusCode::kInvalidArgument,
          HasSubstr(
              "sequence_length_tokens: expected 1 to 512, the positions of gpt2-tiny, saw 513")));
  EXPECT_THAT(ResolveModelConfig({.preset = "gpt3"}, 128),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("gpt2-tiny or gpt2-small, saw 'gpt3'")));
  EXPECT_THAT(ResolveModelConfig({.preset = "", .config = "/nowhere/config.json"}, 128),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("spec.model.config: cannot open /nowhere/config.json")));
  EXPECT_THAT(ResolveModelConfig({.preset = "", .config = "/usr"}, 128),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("regular file: /usr")));
  const std::string path = testing::TempDir() + "/model_config_test.json";
  std::ofstream(path) << R"({"vocab_size": 256, "n_embd": 64, "n_head": 4, "n_layer": 1})";
  EXPECT_THAT(
      ResolveModelConfig({.preset = "", .config = path}, 128),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("vocab_size: expected at least 257")));
}

}  // namespace
}  // namespace leap
