#include "core/job_paths.h"

#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

TEST(LiesBelow, GoesByWholeComponents) {
  for (const char* inside : {"/data", "/data/", "/data/a", "//data/./a/*.txt", "/data/a..b"}) {
    EXPECT_TRUE(LiesBelow(inside, "/data")) << inside;
    EXPECT_TRUE(LiesBelow(inside, "/data/./")) << inside;
    EXPECT_TRUE(LiesBelow(inside, "/")) << inside;
  }
  for (const char* outside : {"", "/", "/database", "data/a", "~/data", "/dat*/a", "/data/../etc",
                              "/data/a/..", "/data/*/../../etc"}) {
    EXPECT_FALSE(LiesBelow(outside, "/data")) << outside;
  }
  EXPECT_FALSE(LiesBelow("/data", "data")) << "a relative root allows nothing";
}

TEST(CheckPathNames, LooksAtEveryPathOfAJobFile) {
  const auto fields = [](JobSpec& spec) {
    return std::vector<std::pair<const char*, std::string*>>{
        {"spec.model.config", &spec.model.config},
        {"spec.model.init", &spec.model.init},
        {"spec.data.paths", &spec.data.paths[1]},
        {"spec.data.cache_dir", &spec.data.cache_dir},
        {"spec.checkpoint.dir", &spec.checkpoint.dir},
        {"spec.checkpoint.resume", &spec.checkpoint.resume}};
  };
  JobSpec good;
  good.data.paths = {"/data/a", "/data/b"};
  for (const auto& [field, path] : fields(good)) *path = "/scratch/x";
  EXPECT_EQ(PathsOf(good).size(), 7u);
  EXPECT_OK(CheckPathNames(good, {"/data", "/scratch"}));
  for (size_t i = 0; i < 6; ++i) {
    JobSpec bad = good;
    const auto [field, path] = fields(bad)[i];
    *path = "/etc/x";
    EXPECT_OK(CheckPathNames(bad, {}));
    const absl::Status status = CheckPathNames(bad, {"/data", "/scratch"});
    EXPECT_THAT(status, HasReason(ErrorReason::kJobSpecInvalid));
    EXPECT_THAT(status.message(), HasSubstr(field));
    EXPECT_THAT(status.message(), HasSubstr("/etc/x"));
  }
}

TEST(PathsOf, WordsAreNoPaths) {
  JobSpec spec;
  for (const char* word : {"auto", "never"}) {
    spec.checkpoint.resume = word;
    EXPECT_TRUE(PathsOf(spec).empty());
  }
}

TEST(CheckpointPathProblem, IsAnythingButTheFolderOfTheJobAndTheStep) {
  const auto problem = [](absl::string_view dir, absl::string_view path) {
    JobSpec spec;
    spec.checkpoint.dir = std::string(dir);
    return CheckpointPathProblem(spec, "a-1", 50, path);
  };
  EXPECT_EQ(problem("/saved", "/saved/step-50"), "");
  EXPECT_EQ(problem("../saved/", "../saved//step-50"), "") << "as the job file has it";
  EXPECT_EQ(problem("", "/state/checkpoints/a-1/step-50"), "");
  EXPECT_EQ(problem("", "state/checkpoints/a-1/step-50"), "");
  EXPECT_EQ(problem("/saved", "/etc"),
            "expected the checkpoint at step 50 in /saved/step-50, saw '/etc'");
  EXPECT_EQ(problem("", "/etc"),
            "expected the checkpoint at step 50 in a folder that ends with "
            "/checkpoints/a-1/step-50, saw '/etc'");
  for (const char* const path :
       {"", "/saved", "/saved/step-51", "/saved/step-5", "/saved/../etc/step-50", "/saved/step-50/",
        "/state/checkpoints/a-1/step-50"}) {
    EXPECT_NE(problem("/saved", path), "") << path;
  }
  for (const char* const path : {"", "/checkpoints/a-2/step-50", "/state/checkpoints/a-1/step-51",
                                 "/saved/step-50", "/state/../etc/checkpoints/a-1/step-50"}) {
    EXPECT_NE(problem("", path), "") << path;
  }
}

}  // namespace
}  // namespace leap
