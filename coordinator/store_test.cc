#include "coordinator/store.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using machine::JobRecord;
using machine::JobState;
using machine::LeapRecord;
using machine::LeapState;
using machine::Record;
using machine::SnapshotRecord;
using ::testing::HasSubstr;

constexpr char kYaml[] = R"(apiVersion: leap/v1
kind: Job
metadata: {name: demo}
spec:
  data: {paths: [/tmp]}
  train: {steps: 10}
)";

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() {
    dir_ = std::filesystem::path(::testing::TempDir()) /
           ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
    file_ = (dir_ / "ledger.db").string();
  }

  static JobRecord Job(const std::string& id) {
    JobRecord job;
    job.job = id;
    job.name = "demo";
    job.spec_yaml = kYaml;
    job.state = JobState::kRunning;
    job.create_time = absl::FromUnixSeconds(1000);
    job.progress.step = 7;
    job.progress.similarity = 0.5;
    return job;
  }

  std::filesystem::path dir_;
  std::string file_;
};

TEST_F(StoreTest, GivesBackAfterARestartWhatWasWritten) {
  LeapRecord leap;
  leap.job = "a";
  leap.leap = 3;
  leap.state = LeapState::kCommitted;
  leap.scales = {0.5, 1.0 / 3};
  leap.candidate_digest = 0xfedcba9876543210;
  SnapshotRecord snapshot;
  snapshot.job = "a";
  snapshot.step = 50;
  snapshot.weights_digest = ~0ull;
  snapshot.state_digests = {~0ull, 1};
  snapshot.shards = {{0, 0, 10, "h:1"}, {1, 10, 20, "h:2"}};
  {
    ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_));
    ASSERT_OK(store->Write(std::vector<Record>{Job("a"), leap, snapshot}));
  }
  ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_));
  ASSERT_OK_AND_ASSIGN(const machine::Ledger ledger, store->Load());
  ASSERT_EQ(ledger.jobs.size(), 1);
  EXPECT_EQ(ledger.jobs[0].progress.step, 7);
  EXPECT_EQ(ledger.jobs[0].spec.train.steps, 10);
  EXPECT_EQ(ledger.jobs[0].end_time, absl::InfinitePast());
  ASSERT_EQ(ledger.leaps.size(), 1);
  EXPECT_EQ(ledger.leaps[0].scales, leap.scales);
  EXPECT_EQ(ledger.leaps[0].candidate_digest, leap.candidate_digest);
  ASSERT_EQ(ledger.snapshots.size(), 1);
  EXPECT_EQ(ledger.snapshots[0].state_digests, snapshot.state_digests);
  EXPECT_EQ(ledger.snapshots[0].shards[1].data_address, "h:2");
  EXPECT_NE(ledger.snapshots[0].gate_loss, ledger.snapshots[0].gate_loss) << "unknown stays NaN";
}

TEST_F(StoreTest, ARowWrittenAgainReplacesTheOldOneAndKeepsItsPlaceInTheList) {
  ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_));
  SnapshotRecord first;
  first.job = "a";
  first.step = 50;
  SnapshotRecord second = first;
  second.step = 100;
  ASSERT_OK(store->Write(std::vector<Record>{first, second}));
  first.scored = true;
  ASSERT_OK(store->Write(std::vector<Record>{first}));
  ASSERT_OK_AND_ASSIGN(const auto page, store->Snapshots("a", 0, 10));
  ASSERT_EQ(page.rows.size(), 2);
  EXPECT_TRUE(page.rows[0].scored);
  EXPECT_EQ(page.rows[1].step, 100);
  EXPECT_EQ(page.next, 0);
}

TEST_F(StoreTest, ListsInPages) {
  ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_));
  std::vector<Record> events;
  for (int i = 1; i <= 5; ++i) {
    machine::EventRecord event;
    event.job = "a";
    event.sequence = i;
    events.push_back(event);
  }
  ASSERT_OK(store->Write(events));
  ASSERT_OK_AND_ASSIGN(const auto first, store->Events("a", 0, 3));
  EXPECT_EQ(first.rows.size(), 3);
  ASSERT_OK_AND_ASSIGN(const auto rest, store->Events("a", first.next, 3));
  ASSERT_EQ(rest.rows.size(), 2);
  EXPECT_EQ(rest.rows[1].sequence, 5);
  EXPECT_EQ(rest.next, 0);
}

TEST_F(StoreTest, WritesABatchWholeOrNotAtAll) {
  ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_));
  ASSERT_OK_AND_ASSIGN(auto other,
                       SqliteConnection::Open(file_, SqliteConnection::Mode::kReadWrite));
  ASSERT_OK(other->Execute("DROP TABLE leaps"));
  LeapRecord leap;
  leap.job = "a";
  EXPECT_FALSE(store->Write(std::vector<Record>{Job("a"), leap}).ok());
  ASSERT_OK_AND_ASSIGN(auto statement, other->Prepare("SELECT count(*) FROM jobs"));
  ASSERT_THAT(other->Step(*statement), IsOkAndHolds(true));
  EXPECT_EQ(statement->Int(), 0);
}

TEST_F(StoreTest, ALedgerOfANewerSchemaIsRefusedWithWhatToDo) {
  {
    ASSERT_OK(Store::Open(file_).status());
  }
  ASSERT_OK_AND_ASSIGN(auto other,
                       SqliteConnection::Open(file_, SqliteConnection::Mode::kReadWrite));
  ASSERT_OK(other->Execute("PRAGMA user_version=99"));
  const absl::Status status = Store::Open(file_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("schema 99"), status.message().npos);
}

TEST_F(StoreTest, AFileThatIsNoLedgerIsNamedCorrupt) {
  std::ofstream(file_) << std::string(4096, 'x');
  const absl::Status status = Store::Open(file_).status();
  EXPECT_EQ(ReasonOf(status), ErrorReason::kLedgerCorrupt) << status;
  EXPECT_NE(status.message().find(file_), status.message().npos);
}

TEST_F(StoreTest, AFolderThatIsNotThereIsSaid) {
  const absl::Status status = Store::Open((dir_ / "no" / "ledger.db").string()).status();
  EXPECT_EQ(ReasonOf(status), ErrorReason::kLedgerUnavailable) << status;
}

// Not root while it lives: root may write anything.
class Unprivileged {
 public:
  Unprivileged() : root_(geteuid() == 0) { EXPECT_TRUE(!root_ || seteuid(65534) == 0); }
  ~Unprivileged() { EXPECT_TRUE(!root_ || seteuid(0) == 0); }

 private:
  const bool root_;
};

TEST_F(StoreTest, AReadOnlyLedgerIsRefusedAtOnce) {
  ASSERT_OK(Store::Open(file_).status());
  using std::filesystem::perms;
  std::filesystem::permissions(dir_, perms::all);
  std::filesystem::permissions(file_, perms::owner_read | perms::group_read | perms::others_read);
  std::filesystem::remove(file_ + ".lock");
  const Unprivileged person;
  const absl::Status status = Store::Open(file_).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(file_)));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("writable")));
  EXPECT_THAT(status, HasReason(ErrorReason::kLedgerUnavailable));
}

TEST_F(StoreTest, AReadOnlyFolderIsRefusedAtOnce) {
  ASSERT_OK(Store::Open(file_).status());
  std::filesystem::remove(file_ + ".lock");
  using std::filesystem::perms;
  const perms before = std::filesystem::status(dir_).permissions();
  std::filesystem::permissions(dir_, perms::owner_read | perms::owner_exec | perms::group_read |
                                         perms::group_exec | perms::others_read |
                                         perms::others_exec);
  {
    const Unprivileged person;
    EXPECT_THAT(Store::Open(file_).status(),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("make the folder")));
  }
  std::filesystem::permissions(dir_, before);
}

TEST_F(StoreTest, ASecondCoordinatorOnTheSameLedgerIsTurnedAway) {
  ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_));
  const absl::Status second = Store::Open(file_).status();
  EXPECT_THAT(second,
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another coordinator")));
  EXPECT_THAT(second, HasReason(ErrorReason::kLedgerUnavailable));
  store.reset();
  EXPECT_OK(Store::Open(file_).status());
}

TEST_F(StoreTest, ALockedLedgerIsSaidAndHealsWhenItIsFree) {
  ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_));
  ASSERT_OK_AND_ASSIGN(auto other,
                       SqliteConnection::Open(file_, SqliteConnection::Mode::kReadWrite));
  ASSERT_OK(other->Execute("BEGIN EXCLUSIVE"));
  const absl::Status locked = store->Write(std::vector<Record>{Job("a")});
  EXPECT_THAT(locked, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("another process")));
  ASSERT_OK(other->Execute("ROLLBACK"));
  EXPECT_OK(store->Write(std::vector<Record>{Job("a")}));
}

TEST_F(StoreTest, NothingIsWrittenIntoALedgerThatIsNoLongerThere) {
  ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_));
  std::filesystem::rename(file_, file_ + ".away");
  EXPECT_THAT(store->Write(std::vector<Record>{Job("a")}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("move it back")));
  EXPECT_THAT(store->HasRequest("r").status(), HasReason(ErrorReason::kLedgerUnavailable));
  std::ofstream(file_) << "another one";
  EXPECT_THAT(store->Write(std::vector<Record>{Job("a")}),
              HasReason(ErrorReason::kLedgerUnavailable));
  std::filesystem::rename(file_ + ".away", file_);
  EXPECT_OK(store->Write(std::vector<Record>{Job("a")}));
}

TEST_F(StoreTest, AFullDiskLeavesWhatWasThereAndNothingOfTheBatch) {
  ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_, {.max_pages = 40}));
  ASSERT_OK(store->Write(std::vector<Record>{Job("a")}));
  JobRecord big = Job("b");
  big.state_reason = std::string(1 << 20, 'x');
  const absl::Status full = store->Write(std::vector<Record>{Job("c"), big});
  EXPECT_THAT(full, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("free space")));
  EXPECT_THAT(full, HasReason(ErrorReason::kDiskFull));
  ASSERT_OK_AND_ASSIGN(const machine::Ledger ledger, store->Load());
  ASSERT_EQ(ledger.jobs.size(), 1u);
  EXPECT_EQ(ledger.jobs[0].job, "a");
  EXPECT_OK(store->Write(std::vector<Record>{Job("c")})) << "small ones still fit";
}

TEST_F(StoreTest, ADamagedPageIsFoundAndNamed) {
  {
    ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_));
    for (int i = 0; i < 50; ++i)
      ASSERT_OK(store->Write(std::vector<Record>{Job(absl::StrCat("j", i))}));
  }
  std::fstream file(file_, std::ios::in | std::ios::out | std::ios::binary);
  for (int page = 1; page < 60; ++page) {  // all but the first
    file.seekp(page * 4096);
    file << std::string(200, '\xAB');
  }
  file.close();
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(file_);
  const absl::Status status = store.ok() ? (*store)->Load().status() : store.status();
  EXPECT_THAT(status, HasReason(ErrorReason::kLedgerCorrupt));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("restore it from a backup")));
}

TEST_F(StoreTest, AJobFileInTheLedgerThatCannotBeReadIsNamed) {
  ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_));
  JobRecord job = Job("a");
  job.spec_yaml = "kind: Nonsense";
  ASSERT_OK(store->Write(std::vector<Record>{job}));
  EXPECT_THAT(store->Load().status(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("job a")));
}

TEST_F(StoreTest, KnowsTheRequestsThatMadeJobs) {
  ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_));
  JobRecord job = Job("a");
  job.request_id = "r-1";
  ASSERT_OK(store->Write(std::vector<Record>{job}));
  EXPECT_THAT(store->HasRequest("r-1"), IsOkAndHolds(true));
  EXPECT_THAT(store->HasRequest("r-2"), IsOkAndHolds(false));
  EXPECT_THAT(store->HasRequest(""), IsOkAndHolds(false));
}

TEST_F(StoreTest, ReadsForPeopleDoNotWaitForAWrite) {
  ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_));
  machine::EventRecord event;
  event.job = "a";
  event.sequence = 1;
  ASSERT_OK(store->Write(std::vector<Record>{event}));
  ASSERT_OK_AND_ASSIGN(auto other,
                       SqliteConnection::Open(file_, SqliteConnection::Mode::kReadWrite));
  ASSERT_OK(other->Execute("BEGIN IMMEDIATE"));
  ASSERT_OK_AND_ASSIGN(const auto page, store->Events("a", 0, 10));
  EXPECT_EQ(page.rows.size(), 1u);
}

TEST_F(StoreTest, ALedgerOfAnOlderReleaseGetsTheColumnsItLacks) {
  ASSERT_OK(Store::Open(file_).status());
  {
    ASSERT_OK_AND_ASSIGN(auto old,
                         SqliteConnection::Open(file_, SqliteConnection::Mode::kReadWrite));
    ASSERT_OK(old->Execute(
        "ALTER TABLE leaps DROP COLUMN scales; ALTER TABLE leaps DROP COLUMN pause_seconds;"
        "ALTER TABLE leaps DROP COLUMN verifier;"
        "INSERT INTO leaps(job, leap, state) VALUES('a', 3, 2)"));
  }
  ASSERT_OK_AND_ASSIGN(auto store, Store::Open(file_));
  ASSERT_OK_AND_ASSIGN(const auto page, store->Leaps("a", 0, 10));
  ASSERT_EQ(page.rows.size(), 1u);
  EXPECT_EQ(page.rows[0].leap, 3u);
  EXPECT_TRUE(page.rows[0].scales.empty());
  LeapRecord leap;
  leap.job = "a";
  leap.leap = 4;
  leap.scales = {1.5};
  EXPECT_OK(store->Write(std::vector<Record>{leap}));
}

}  // namespace
}  // namespace leap
