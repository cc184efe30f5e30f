#include "engine/checkpoint.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "engine/fake_file_ops.h"
#include "engine/internal/checkpoint_format.h"
#include "engine/internal/checkpoint_io.h"
#include "engine/test_scratch.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

ModelConfig Tiny() {
  return {.vocab_size = 7, .n_positions = 4, .n_embd = 4, .n_layer = 1, .n_head = 2};
}

std::vector<float> Ramp(int64_t size, float scale) {
  std::vector<float> values;
  for (int64_t i = 0; i < size; ++i) values.push_back(scale * static_cast<float>(i));
  return values;
}

// A checkpoint that can be told from every other step's.
CheckpointData Data(int64_t step) {
  const int64_t size = LayoutOf(Tiny()).size;
  const auto s = static_cast<float>(step);
  return {.position = {.step = step,
                       .data_position = step + 1,
                       .adam_step = step + 2,
                       .leaps_applied = 3,
                       .last_leap = 0xfedcba9876543210,
                       .state_base_step = step - 5,
                       .train_loss = 1.0 / 3},
          .job = "run-1",
          .epoch = 4,
          .seed = 18446744073709551615u,
          .config = Tiny(),
          .weights = Ramp(size, s),
          .exp_avg = Ramp(size, -s),
          .exp_avg_sq = Ramp(size, 0.5f),
          .state = {Ramp(size, 2), Ramp(size, 3)},
          .state_anchor = Ramp(size, 4)};
}

void ExpectEqual(const CheckpointData& a, const CheckpointData& b) {
  EXPECT_EQ(a.position, b.position);
  EXPECT_EQ(a.job, b.job);
  EXPECT_EQ(a.epoch, b.epoch);
  EXPECT_EQ(a.seed, b.seed);
  EXPECT_EQ(LayoutOf(a.config), LayoutOf(b.config));
  EXPECT_EQ(a.weights, b.weights);
  EXPECT_EQ(a.exp_avg, b.exp_avg);
  EXPECT_EQ(a.exp_avg_sq, b.exp_avg_sq);
  EXPECT_EQ(a.state, b.state);
  EXPECT_EQ(a.state_anchor, b.state_anchor);
}

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() : dir_(ScratchPath("checkpoint_test")) { Clear(); }
  ~CheckpointTest() override { Clear(); }
  void Clear() const { fs::remove_all(dir_); }

  std::string Write(int64_t step, int64_t keep = 5) const {
    const absl::StatusOr<std::string> path = WriteCheckpoint(dir_, Data(step), keep);
    EXPECT_OK(path);
    return path.value_or("");
  }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

  const std::string dir_;
};

const char* const kFiles[] = {kWeightsFile, kConfigFile, kOptimizerFile, kLeapStateFile,
                              kStateFile};

TEST_F(CheckpointTest, WhatIsWrittenIsReadBack) {
  const std::string path = Write(400);
  EXPECT_EQ(path, dir_ + "/step-400");
  ASSERT_OK_AND_ASSIGN(const CheckpointData read, ReadCheckpoint(path));
  ExpectEqual(read, Data(400));
  ASSERT_OK_AND_ASSIGN(const CheckpointData with_slash, ReadCheckpoint(path + "/"));
  EXPECT_EQ(with_slash.position.step, 400);
}

TEST_F(CheckpointTest, PredictorStateIsOptional) {
  CheckpointData data = Data(0);
  data.state.clear();
  data.state_anchor.clear();
  data.position.state_base_step = -1;
  ASSERT_OK_AND_ASSIGN(const std::string path, WriteCheckpoint(dir_, data, 1));
  EXPECT_FALSE(fs::exists(path + "/leap_state.safetensors"));
  ASSERT_OK_AND_ASSIGN(const CheckpointData read, ReadCheckpoint(path));
  ExpectEqual(read, data);
}

TEST_F(CheckpointTest, KeepsTheLastOnesAndClearsWhatACrashLeft) {
  fs::create_directories(dir_ + "/step-7.tmp-0123456789abcdef");
  fs::create_directories(dir_ + "/step-x");
  std::ofstream(dir_ + "/notes.txt") << "mine";
  for (const int64_t step : {9, 10, 11, 100}) Write(step, 2);
  EXPECT_THAT(Names(), ElementsAre("notes.txt", "step-100", "step-11", "step-x"));
  EXPECT_THAT(ListCheckpoints(dir_), ElementsAre(dir_ + "/step-100", dir_ + "/step-11"));
}

TEST_F(CheckpointTest, NeverRemovesTheOneJustWritten) {
  for (const int64_t step : {400, 500}) Write(step);
  Write(100, 1);  // somebody went back to an older one, and trained on
  EXPECT_THAT(ListCheckpoints(dir_),
              ElementsAre(dir_ + "/step-500", dir_ + "/step-400", dir_ + "/step-100"));
}

TEST_F(CheckpointTest, ListsCompleteOnesNewestFirstByNumber) {
  for (const int64_t step : {9, 10, 1000, 20}) Write(step);
  fs::remove(dir_ + "/step-20/optimizer.safetensors");
  fs::create_directories(dir_ + "/step-0030");
  EXPECT_THAT(ListCheckpoints(dir_),
              ElementsAre(dir_ + "/step-1000", dir_ + "/step-10", dir_ + "/step-9"));
  EXPECT_THAT(ListCheckpoints(dir_ + "/none"), IsEmpty());
}

TEST_F(CheckpointTest, TheSameStepIsReplaced) {
  Write(5);
  CheckpointData data = Data(5);
  data.weights[3] = 42;
  for (const bool can_exchange : {true, false}) {
    data.weights[3] += 1;
    FakeFileOps ops;
    ops.can_exchange = can_exchange;
    ASSERT_OK_AND_ASSIGN(const std::string path, WriteCheckpointWith(ops, dir_, data, 5));
    ASSERT_OK_AND_ASSIGN(const CheckpointData read, ReadCheckpoint(path));
    ExpectEqual(read, data);
    EXPECT_THAT(Names(), ElementsAre("step-5"));
  }
}

TEST_F(CheckpointTest, RefusesBuffersThatAreNotTheModels) {
  CheckpointData data = Data(5);
  data.exp_avg.pop_back();
  EXPECT_THAT(WriteCheckpoint(dir_, data, 1), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_FALSE(fs::exists(dir_));
}

TEST_F(CheckpointTest, AFolderWithoutCheckpointIsNotFound) {
  EXPECT_THAT(ReadCheckpoint(dir_), AllOf(StatusIs(absl::StatusCode::kNotFound, HasSubstr(dir_)),
                                          HasReason(ErrorReason::kCheckpointNotFound)));
}

// Every byte of a header and of state.json, and one in eleven of what is only data.
size_t Stride(size_t at) { return at < 1000 ? 1 : 11; }

// One bit flipped is noticed, the file is named, and the older one
// offered.
TEST_F(CheckpointTest, OneFlippedBitIsNoticedAndTheFileNamed) {
  Write(300);
  const std::string path = Write(400);
  for (const char* name : kFiles) {
    const std::string file = absl::StrCat(path, "/", name);
    std::ifstream in(file, std::ios::binary);
    const std::string good(std::istreambuf_iterator<char>(in), {});
    for (size_t at = 0; at < good.size(); at += Stride(at)) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
      std::ofstream(file, std::ios::binary) << bad;
      const absl::StatusOr<CheckpointData> read = ReadCheckpoint(path);
      // A space of state.json may turn into another character that means as little.
      if (name == absl::string_view(kStateFile) && read.ok()) {
        ExpectEqual(*read, Data(400));
        continue;
      }
      ASSERT_THAT(read, StatusIs(absl::StatusCode::kDataLoss,
                                 AllOf(HasSubstr(file), HasSubstr("next older checkpoint is " +
                                                                  dir_ + "/step-300"))))
          << name << " " << at;
      ASSERT_EQ(MetadataOf(read.status())["older"], dir_ + "/step-300");
    }
    std::ofstream(file, std::ios::binary) << good;
  }
  EXPECT_OK(ReadCheckpoint(path));
}

TEST_F(CheckpointTest, EveryTruncationIsNoticedAndTheFileNamed) {
  const std::string path = Write(400);
  for (const char* name : kFiles) {
    const std::string file = absl::StrCat(path, "/", name);
    std::ifstream in(file, std::ios::binary);
    const std::string good(std::istreambuf_iterator<char>(in), {});
    for (size_t size = 0; size + 1 < good.size();
         size += Stride(size)) {  // the last byte of state.json is a line's end
      std::ofstream(file, std::ios::binary) << good.substr(0, size);
      ASSERT_THAT(ReadCheckpoint(path),
                  StatusIs(absl::StatusCode::kDataLoss,
                           AllOf(HasSubstr(file), HasSubstr("no older checkpoint"))))
          << name << " " << size;
    }
    fs::remove(file);
    EXPECT_THAT(ReadCheckpoint(path), Not(IsOk()));
    std::ofstream(file, std::ios::binary) << good;
  }
}

TEST_F(CheckpointTest, FilesOfTwoCheckpointsAreNotMixed) {
  const std::string older = Write(300), newer = Write(400);
  for (const char* name : {kWeightsFile, kOptimizerFile}) {
    fs::copy_file(absl::StrCat(older, "/", name), absl::StrCat(newer, "/", name),
                  fs::copy_options::overwrite_existing);
    EXPECT_THAT(ReadCheckpoint(newer),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("step-400")));
  }
}

// What a restart finds: the newest checkpoint that is listed must be whole, and no older than the
// last finished one.
void ExpectRecoverable(const std::string& dir, int64_t finished, int64_t attempted) {
  const std::vector<std::string> found = ListCheckpoints(dir);
  ASSERT_FALSE(found.empty());
  ASSERT_OK_AND_ASSIGN(const CheckpointData read, ReadCheckpoint(found[0]));
  ASSERT_TRUE(read.position.step == finished || read.position.step == attempted);
  ExpectEqual(read, Data(read.position.step));
}

// A group of one, stopped for so long that it was given up, goes on before it hears so.
TEST_F(CheckpointTest, AGroupThatWasGivenUpReplacesNothingOfTheNext) {
  Write(300);
  CheckpointData given_up = Data(300);
  given_up.epoch = 2;
  given_up.weights[1] += 1;
  for (const int64_t step : {200, 300, 400}) {
    given_up.position.step = step;
    EXPECT_THAT(WriteCheckpoint(dir_, given_up, 1),
                AllOf(StatusIs(absl::StatusCode::kFailedPrecondition,
                               HasSubstr("is of epoch 4 of run-1, this one of 2")),
                      HasReason(ErrorReason::kStaleEpoch)));
  }
  EXPECT_THAT(Names(), ElementsAre("step-300"));
  ASSERT_OK_AND_ASSIGN(const CheckpointData kept, ReadCheckpoint(dir_ + "/step-300"));
  ExpectEqual(kept, Data(300));
  given_up.job = "run-2";  // another run goes on in the folder
  EXPECT_OK(WriteCheckpoint(dir_, given_up, 1));
}

// The process dies at each of its operations in turn, and what was not synced is lost in part.
TEST_F(CheckpointTest, ACrashAtAnyOperationLeavesAWholeCheckpoint) {
  FakeFileOps ops;
  ops.fault = FakeFileOps::Fault::kCrash;
  for (const int64_t attempted : {400, 300}) {  // the second one replaces
    for (ops.fail_at = 0;; ++ops.fail_at) {
      SCOPED_TRACE(absl::StrCat("dies at operation ", ops.fail_at, " of the checkpoint of step ",
                                attempted));
      Clear();
      Write(200);
      Write(300);
      ops.seed = static_cast<uint64_t>(ops.fail_at);
      ops.Reset();
      const absl::StatusOr<std::string> path = WriteCheckpointWith(ops, dir_, Data(attempted), 1);
      ExpectRecoverable(dir_, 300, attempted);
      if (path.ok()) {
        ASSERT_EQ(ListCheckpoints(dir_)[0], *path);
      }
      if (!ops.crashed()) break;
      Write(500, 1);  // the next process clears up
      EXPECT_THAT(Names(), ElementsAre("step-500"));
      ASSERT_LT(ops.fail_at, 1000);
    }
    EXPECT_GT(ops.fail_at, 20);
  }
}

TEST_F(CheckpointTest, AFullDiskIsAnErrorThatLosesNothing) {
  FakeFileOps ops;
  for (const bool can_exchange : {true, false}) {
    ops.can_exchange = can_exchange;
    for (const int64_t attempted : {400, 300}) {
      for (ops.fail_at = 0;; ++ops.fail_at) {
        SCOPED_TRACE(absl::StrCat("full at operation ", ops.fail_at, " of the checkpoint of step ",
                                  attempted));
        Clear();
        Write(200);
        Write(300);
        ops.Reset();
        const absl::StatusOr<std::string> path = WriteCheckpointWith(ops, dir_, Data(attempted), 5);
        ExpectRecoverable(dir_, 300, attempted);
        if (ops.operations() <= ops.fail_at) break;
        if (!path.ok()) {
          EXPECT_THAT(path, HasReason(ErrorReason::kDiskFull));
          // Without exchange the replaced one may stay aside until the next checkpoint.
          if (can_exchange) {
            EXPECT_THAT(Names(), Each(Not(HasSubstr("tmp"))));
          }
        }
        ASSERT_LT(ops.fail_at, 1000);
      }
    }
  }
}

TEST(CheckpointState, RefusesAnotherFormat) {
  CheckpointState state;
  state.files["a"] = {1, 2};
  std::string json = CheckpointStateJson(state);
  EXPECT_THAT(ParseCheckpointState(json), IsOkAndHolds(state));
  for (const char* text :
       {"", "[]", "{}", "{\"checksum\": 5}", "null", "{\"checksum\": \"00\", \"format\": \"x\"}"}) {
    EXPECT_THAT(ParseCheckpointState(text), StatusIs(absl::StatusCode::kDataLoss)) << text;
  }
}

}  // namespace
}  // namespace leap
