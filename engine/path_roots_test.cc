#include "engine/path_roots.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "engine/test_scratch.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::HasSubstr;

// root/ is allowed; secret/ lies beside it. root/link leads there, root/shelf/note.txt too.
class PathRootsTest : public ::testing::Test {
 protected:
  PathRootsTest() : folder_(ScratchPath("path_roots_test")) {
    fs::remove_all(folder_);
    for (const char* name : {"/root/text", "/root/shelf", "/secret"}) {
      fs::create_directories(folder_ + name);
    }
    for (const char* name : {"/root/text/a.txt", "/secret/note.txt"}) {
      std::ofstream(folder_ + name) << "words";
    }
    fs::create_symlink(folder_ + "/secret", folder_ + "/root/link");
    fs::create_symlink(folder_ + "/secret/note.txt", folder_ + "/root/shelf/note.txt");
    fs::create_symlink(folder_ + "/root/text", folder_ + "/root/inner");
  }
  ~PathRootsTest() override { fs::remove_all(folder_); }

  absl::Status Data(const std::string& path) const {
    JobSpec spec;
    spec.data.paths = {path};
    return CheckPathsOnDisk(spec, {folder_ + "/root"});
  }

  const std::string folder_;
};

TEST_F(PathRootsTest, WhatLeadsInsideMayBeRead) {
  for (const char* inside :
       {"/text", "/text/a.txt", "/text/*.txt", "/t*/a.txt", "/inner/a.txt", "/inner/*"}) {
    EXPECT_OK(Data(folder_ + "/root" + inside)) << inside;
  }
}

TEST_F(PathRootsTest, WhatLeadsOutsideIsNamedWithWhereItLeads) {
  for (const char* outside :
       {"/root/link", "/root/link/note.txt", "/root/shelf", "/root/shelf/note.txt",
        "/root/shelf/*.txt", "/root/l*/note.txt", "/root/link/*", "/root/../secret",
        "/root/text/../../secret/*", "/root/*/../../secret/note.txt", "/secret", "/s*/note.txt",
        "/roo*/link/note.txt"}) {
    const absl::Status status = Data(folder_ + outside);
    EXPECT_THAT(status, HasReason(ErrorReason::kJobSpecInvalid)) << outside;
    EXPECT_THAT(status.message(), AllOf(HasSubstr("spec.data.paths"), HasSubstr("--path-root")));
  }
  EXPECT_THAT(Data(folder_ + "/root/shelf").message(), HasSubstr("-> " + folder_ + "/secret"));
}

TEST_F(PathRootsTest, NothingIsWrittenOutside) {
  JobSpec spec;
  spec.checkpoint.dir = folder_ + "/root/new/folder";
  EXPECT_OK(CheckPathsOnDisk(spec, {folder_ + "/root"}));
  spec.checkpoint.dir = folder_ + "/root/link/new/folder";
  EXPECT_THAT(CheckPathsOnDisk(spec, {folder_ + "/root"}).message(),
              HasSubstr("spec.checkpoint.dir"));
  EXPECT_OK(CheckPathsOnDisk(spec, {folder_ + "/root", folder_ + "/secret"}));
  EXPECT_OK(CheckPathsOnDisk(spec, {})) << "no roots: everything is allowed";
  spec.checkpoint.dir = "relative";
  EXPECT_THAT(CheckPathsOnDisk(spec, {fs::current_path().string()}),
              HasReason(ErrorReason::kJobSpecInvalid));
}

TEST_F(PathRootsTest, ARootMayItselfBeALink) {
  JobSpec spec;
  spec.data.paths = {folder_ + "/root/inner/a.txt"};
  EXPECT_OK(CheckPathsOnDisk(spec, {folder_ + "/root/inner"}));
}

TEST_F(PathRootsTest, RootsAreFolders) {
  EXPECT_OK(CheckRootsExist({folder_ + "/root"}));
  for (const std::string& bad :
       {folder_ + "/none", folder_ + "/secret/note.txt", std::string("relative"), std::string()}) {
    EXPECT_THAT(CheckRootsExist({bad}).message(), HasSubstr("'" + bad + "'"));
  }
}

}  // namespace
}  // namespace leap
