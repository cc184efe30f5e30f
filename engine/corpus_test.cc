#include "engine/corpus.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_matchers.h"
#include "engine/internal/corpus_files.h"
#include "engine/test_scratch.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class CorpusTest : public ::testing::Test {
 protected:
  CorpusTest() : root_(ScratchPath("corpus_test")), cache_(root_ + "/cache") {
    fs::remove_all(root_);
    fs::create_directories(root_ + "/text");
  }
  ~CorpusTest() override { fs::remove_all(root_); }

  std::string Path(const std::string& name) const { return absl::StrCat(root_, "/text/", name); }

  void Write(const std::string& name, const std::string& content) const {
    fs::create_directories(fs::path(Path(name)).parent_path());
    std::ofstream(Path(name), std::ios::binary) << content;
  }

  // A line that is found nowhere else, so that it can be traced.
  static std::string Line(const std::string& file, int line) {
    return absl::StrCat("line ", line, " of ", file, " says ", line * 7919 % 1000, "\n");
  }
  void WriteLines(const std::string& name, int lines) const {
    std::string content;
    for (int line = 0; line < lines; ++line) content += Line(name, line);
    Write(name, content);
  }

  DataSpec Spec(std::vector<std::string> paths) const {
    return {.paths = std::move(paths),
            .sequence_length_tokens = 16,
            .gate_sequences = 4,
            .report_sequences = 8};
  }
  absl::StatusOr<std::unique_ptr<Corpus>> Open(std::vector<std::string> paths) const {
    return Corpus::Open(Spec(std::move(paths)), cache_);
  }

  std::vector<std::string> CacheFiles() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(cache_))
      names.push_back(entry.path().filename().string());
    return names;
  }
  std::string TokenPath(const Corpus& corpus) const {
    return absl::StrCat(cache_, "/", corpus.content_digest(), ".tokens");
  }

  const std::string root_, cache_;
};

// The whole text, by way of its training windows.
std::string TrainText(const Corpus& corpus) {
  std::string text;
  for (int64_t window = 0; window < corpus.train_windows(); ++window) {
    const std::vector<int64_t> row = corpus.TrainBatch(std::vector<int64_t>{window});
    for (size_t i = 0; i + 1 < row.size(); ++i)
      text += row[i] == 256 ? '\0' : static_cast<char>(row[i]);
  }
  return text;
}

TEST_F(CorpusTest, BytesAreTokensAndEachFileEndsWithEndOfText) {
  Write("a.txt", "Grüße, " + std::string(600, 'x'));
  ASSERT_OK_AND_ASSIGN(const auto corpus, Open({Path("a.txt")}));
  EXPECT_EQ(corpus->tokens(), 9 + 600 + 1);
  const std::vector<int64_t> first = corpus->TrainBatch(std::vector<int64_t>{0});
  ASSERT_THAT(first, SizeIs(17));
  EXPECT_EQ(std::vector<int64_t>(first.begin(), first.begin() + 5),
            (std::vector<int64_t>{'G', 'r', 0xc3, 0xbc, 0xc3}));
  EXPECT_EQ(corpus->ReportSet().back(), 256);
}

TEST_F(CorpusTest, RowsAreWindowsWithTheirTargets) {
  WriteLines("a.txt", 100);
  ASSERT_OK_AND_ASSIGN(const auto corpus, Open({Path("a.txt")}));
  const std::vector<int64_t> windows = {3, 0, 4};
  const std::vector<int64_t> batch = corpus->TrainBatch(windows);
  ASSERT_THAT(batch, SizeIs(3 * 17));
  EXPECT_EQ(batch[16],
            batch[2 * 17]);  // the last target of window 3 is the first input of window 4
  EXPECT_THAT(corpus->GateSet(), SizeIs(4 * 17));
  EXPECT_THAT(corpus->ReportSet(), SizeIs(8 * 17));
  EXPECT_THAT(corpus->Probes(3), SizeIs(3 * 17));
  EXPECT_THAT(corpus->Probes(100), SizeIs(100 * 17));
  EXPECT_EQ(corpus->TrainBatch(std::vector<int64_t>{corpus->train_windows() - 1}).size(), 17u);
}

TEST_F(CorpusTest, ManyFilesKeepEachFileInOneRegion) {
  for (int i = 0; i < 60; ++i) WriteLines(absl::StrCat("dir", i % 3, "/file", i), 20);
  ASSERT_OK_AND_ASSIGN(const auto corpus, Open({root_ + "/text"}));
  const std::string train = TrainText(*corpus);
  const auto files_in = [](const std::string& text) {
    std::set<std::string> files;
    for (size_t at = text.find("of dir"); at != std::string::npos;
         at = text.find("of dir", at + 1)) {
      const std::string name = text.substr(at + 3, text.find(" says", at) - at - 3);
      if (name.size() < 20) files.insert(name);
    }
    return files;
  };
  const std::set<std::string> in_train = files_in(train);
  EXPECT_GT(in_train.size(), 40u);
  EXPECT_LT(in_train.size(), 60u);
  std::string held_out;
  for (const std::vector<int64_t>& rows : {corpus->GateSet(), corpus->ReportSet()}) {
    for (const int64_t token : rows) held_out += token == 256 ? '\0' : static_cast<char>(token);
    held_out += '\0';
  }
  for (const std::string& file : in_train) {
    EXPECT_THAT(held_out, Not(HasSubstr(absl::StrCat("of ", file, " says")))) << file;
  }
}

TEST_F(CorpusTest, OneLargeFileIsDealtOutInPieces) {
  WriteLines("a.txt", 15'000);  // 450 kB: some thirty pieces of 16 KiB
  ASSERT_OK_AND_ASSIGN(const auto corpus, Open({Path("a.txt")}));
  const std::string train = TrainText(*corpus);
  // Text from the beginning and from the end of the file is found in training, and some from the
  // middle is not.
  int early = 0, late = 0;
  for (int line = 0; line < 500; ++line) {
    early += train.find(Line("a.txt", line)) != std::string::npos;
    late += train.find(Line("a.txt", 14'999 - line)) != std::string::npos;
  }
  EXPECT_GT(early, 300);
  EXPECT_GT(late, 300);
  const int64_t pieces = corpus->tokens() - static_cast<int64_t>(fs::file_size(Path("a.txt")));
  EXPECT_GT(pieces, 25);
  EXPECT_LT(pieces, 45);
}

TEST_F(CorpusTest, TheSameContentElsewhereIsTheSameCorpus) {
  for (int i = 0; i < 30; ++i) {
    WriteLines(absl::StrCat("one/f", i), 20);
    fs::create_directories(Path("two/deep"));
    fs::copy_file(Path(absl::StrCat("one/f", i)), Path(absl::StrCat("two/deep/other", 29 - i)));
  }
  ASSERT_OK_AND_ASSIGN(const auto one, Open({Path("one")}));
  ASSERT_OK_AND_ASSIGN(const auto two, Open({Path("two")}));
  EXPECT_EQ(one->content_digest(), two->content_digest());
  EXPECT_EQ(one->GateSet(), two->GateSet());
  EXPECT_THAT(CacheFiles(), SizeIs(2));  // the file and its lock
  Write("two/deep/other0", "changed");
  ASSERT_OK_AND_ASSIGN(const auto changed, Open({Path("two")}));
  EXPECT_NE(one->content_digest(), changed->content_digest());
}

TEST_F(CorpusTest, EqualContentCountsOnce) {
  for (const char* name : {"a/x", "b/x", "c"}) WriteLines(name, 40);
  fs::copy_file(Path("a/x"), Path("copy"));
  fs::create_symlink(Path("c"), Path("link"));
  ASSERT_OK_AND_ASSIGN(const auto with_copies, Open({root_ + "/text", Path("c"), Path("*")}));
  fs::remove(Path("copy"));
  fs::remove(Path("link"));
  ASSERT_OK_AND_ASSIGN(const auto without, Open({root_ + "/text"}));
  EXPECT_EQ(with_copies->content_digest(), without->content_digest());
}

TEST_F(CorpusTest, AFolderIsItsTextAndTheRestIsSkippedAloud) {
  WriteLines("vector", 60);
  Write("library.so", std::string("\x7f"
                                  "ELF\0\0",
                                  6));
  Write("latin1", "na\xefve");
  Write("empty", "");
  Write(".git/config", "hidden");
  Write(".hidden", "hidden");
  const ScopedLogCapture log;
  ASSERT_OK_AND_ASSIGN(const auto corpus, Open({root_ + "/text"}));
  EXPECT_EQ(corpus->tokens(), static_cast<int64_t>(fs::file_size(Path("vector"))) + 1);
  EXPECT_THAT(log.lines(), Contains(AllOf(HasSubstr("corpus_files_skipped"), HasSubstr("files=2"),
                                          HasSubstr("latin1: not UTF-8 text at byte 2"))));
  EXPECT_THAT(log.lines(), Contains(AllOf(HasSubstr("corpus_ready"), HasSubstr("files=1 "))));
}

TEST_F(CorpusTest, GlobsMatchFilesAndFolders) {
  WriteLines("a1.txt", 30);
  WriteLines("a2.md", 30);
  WriteLines("b/deep/c.txt", 30);
  ASSERT_OK_AND_ASSIGN(const auto files, FindFiles({Path("*.txt"), Path("b*")}));
  ASSERT_THAT(files, SizeIs(2));
  EXPECT_EQ(files[0].path, Path("a1.txt"));
  EXPECT_EQ(files[1].path, Path("b/deep/c.txt"));
}

TEST_F(CorpusTest, ErrorsNameThePathAndThePlace) {
  Write("bad.txt", std::string(100, 'a') + "\xff" + std::string(1000, 'a'));
  EXPECT_THAT(Open({Path("bad.txt")}), StatusIs(absl::StatusCode::kInvalidArgument,
                                                HasSubstr("bad.txt: not UTF-8 text at byte 100")));
  EXPECT_THAT(
      Open({Path("nowhere")}),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("nowhere: there is no such file or folder")));
  EXPECT_THAT(Open({Path("*.none")}), StatusIs(absl::StatusCode::kNotFound,
                                               HasSubstr("*.none: nothing matches this pattern")));
  EXPECT_THAT(Open({"/dev/null"}), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("/dev/null: expected a file or a folder")));
  EXPECT_THAT(Open({root_ + "/text"}), StatusIs(absl::StatusCode::kInvalidArgument,
                                                AllOf(HasSubstr("no text found in 1 files"),
                                                      HasSubstr("bad.txt: not UTF-8"))));
  Write("short.txt", "too short");
  const auto corpus = Open({Path("short.txt")});
  EXPECT_THAT(corpus,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the text has 10 tokens")));
  EXPECT_THAT(corpus, HasReason(ErrorReason::kCorpusInvalid));
  WriteLines("good.txt", 100);
  Write("text_not_folder", "x");
  EXPECT_THAT(Corpus::Open(Spec({Path("good.txt")}), Path("text_not_folder") + "/cache"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("text_not_folder/cache")));
}

TEST_F(CorpusTest, OffsetsAreRightBeyondTheFirstPiece) {
  std::string content;
  while (content.size() < 100'000) content += Line("a", static_cast<int>(content.size()));
  content[70'000] = '\0';
  Write("a", content);
  EXPECT_THAT(Open({Path("a")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at byte 70000")));
}

TEST_F(CorpusTest, LinesLongerThanAPieceAreCutBetweenCharacters) {
  std::string content = "x";  // so that no power of two is a character's begin
  while (content.size() < 200'000) content += absl::StrCat("日本", content.size(), "😀");
  Write("a", content);
  ASSERT_OK_AND_ASSIGN(const auto files, FindFiles({Path("a")}));
  ASSERT_OK_AND_ASSIGN(const Pieces pieces, ReadPieces(files, PieceLimit(files)));
  EXPECT_GT(pieces.pieces.size(), 10u);
  int64_t bytes = 0;
  for (const Piece& piece : pieces.pieces) {
    EXPECT_LE(piece.bytes, 16384);
    bytes += piece.bytes;
  }
  EXPECT_EQ(bytes, static_cast<int64_t>(content.size()));
}

TEST_F(CorpusTest, AFileThatChangesWhileItIsReadIsNoticed) {
  Write("a", "some text");
  ASSERT_OK_AND_ASSIGN(const auto files, FindFiles({Path("a")}));
  ASSERT_OK_AND_ASSIGN(const Pieces pieces, ReadPieces(files, PieceLimit(files)));
  std::string bytes;
  EXPECT_OK(ReadPiece(files[0], pieces.pieces[0], bytes));
  EXPECT_EQ(bytes, "some text");
  for (const char* other : {"SOME text", "some"}) {
    Write("a", other);
    EXPECT_THAT(ReadPiece(files[0], pieces.pieces[0], bytes), StatusIs(absl::StatusCode::kAborted));
  }
}

TEST_F(CorpusTest, ADamagedCacheFileIsWrittenAnew) {
  WriteLines("a", 100);
  ASSERT_OK_AND_ASSIGN(auto corpus, Open({Path("a")}));
  const std::string path = TokenPath(*corpus);
  const std::vector<int64_t> gate = corpus->GateSet();
  corpus.reset();
  const auto size = static_cast<int64_t>(fs::file_size(path));
  for (const int64_t at : {int64_t{0}, int64_t{9}, int64_t{17}, int64_t{64}, size - 1}) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const char byte = static_cast<char>(file.get() ^ 4);
    file.seekp(at);
    file.put(byte);
    file.close();
    const ScopedLogCapture log;
    ASSERT_OK_AND_ASSIGN(const auto again, Open({Path("a")}));
    EXPECT_EQ(again->GateSet(), gate);
    EXPECT_THAT(log.lines(), Contains(HasSubstr("token_file_rewritten")));
  }
  fs::resize_file(path, static_cast<uintmax_t>(size / 2));
  ASSERT_OK_AND_ASSIGN(const auto again, Open({Path("a")}));
  EXPECT_EQ(again->GateSet(), gate);
}

TEST_F(CorpusTest, WhatAnotherProcessWroteIsTaken) {
  WriteLines("a", 100);
  ASSERT_OK_AND_ASSIGN(const auto first, Open({Path("a")}));
  struct stat before, after;
  ASSERT_EQ(::stat(TokenPath(*first).c_str(), &before), 0);
  ASSERT_OK_AND_ASSIGN(const auto second, Open({Path("a")}));
  ASSERT_EQ(::stat(TokenPath(*first).c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
}

TEST_F(CorpusTest, ProcessesThatRaceAllMapTheSameFile) {
  for (int i = 0; i < 50; ++i) WriteLines(absl::StrCat("f", i), 400);
  std::vector<pid_t> children;
  for (int i = 0; i < 6; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      const auto corpus = Open({root_ + "/text"});
      ::_exit(corpus.ok() && (*corpus)->tokens() > 0 ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  EXPECT_THAT(CacheFiles(), AllOf(SizeIs(2), Not(Contains(HasSubstr(".tmp")))));
}

TEST_F(CorpusTest, AWriterThatDiedLeavesNoLock) {
  WriteLines("a", 100);
  const pid_t child = ::fork();
  if (child == 0) {
    (void)Open({Path("a")});
    // Die as if in the midst of writing: only a part under the temporary name, the lock held.
    for (const auto& entry : fs::directory_iterator(cache_)) {
      if (entry.path().extension() == ".tokens") {
        fs::rename(entry.path(), entry.path().string() + ".tmp");
        fs::resize_file(entry.path().string() + ".tmp", 10);
      }
    }
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_OK_AND_ASSIGN(const auto corpus, Open({Path("a")}));
  EXPECT_THAT(CacheFiles(), SizeIs(2));
}

}  // namespace
}  // namespace leap
