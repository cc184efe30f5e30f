// The ledger on disk: one SQLite file (WAL, synchronous=FULL), a table for each kind of row
// (coordinator/record_fields.h).
//
// Write is one durable transaction for a whole batch, all or nothing. Reads for people run on a
// connection of their own and never block a decision. Write and Load: the runner's thread. The List
// calls: any thread, one at a time (locked). Errors as in coordinator/sqlite.h. A file of a newer
// schema is refused, an older one is migrated in one transaction.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "coordinator/machine/record.h"
#include "coordinator/sqlite.h"

namespace leap {

// One page of a job's rows, oldest first. `next` is 0 at the end, else the position to go on from.
template <class R>
struct Page {
  std::vector<R> rows;
  int64_t next = 0;
};

struct StoreOptions {
  int64_t max_pages =
      0;  // of 4 KiB; more is answered like a full disk; 0: as many as the disk holds
};

class Store {
 public:
  // FailedPrecondition (LEDGER_UNAVAILABLE): another coordinator uses this file, its folder is not
  // writable, or it is of a newer schema. DataLoss (LEDGER_CORRUPT): no ledger, or damaged.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& file,
                                                     const StoreOptions& options = {});
  ~Store();

  // What a restart needs. DataLoss (LEDGER_CORRUPT) if a row of a live job cannot be read.
  absl::StatusOr<machine::Ledger> Load();

  absl::Status Write(std::span<const machine::Record> records);

  // `after`: 0, or `next` of the page before. `size` rows at most.
  absl::StatusOr<Page<machine::SnapshotRecord>> Snapshots(const std::string& job, int64_t after,
                                                          int size);
  absl::StatusOr<Page<machine::CandidateRecord>> Candidates(const std::string& job, int64_t after,
                                                            int size);
  absl::StatusOr<Page<machine::LeapRecord>> Leaps(const std::string& job, int64_t after, int size);
  absl::StatusOr<Page<machine::EventRecord>> Events(const std::string& job, int64_t after,
                                                    int size);

  // Whether a job was made by this request id; false for an empty one.
  absl::StatusOr<bool> HasRequest(const std::string& request_id);

  int64_t bytes() const;  // size of the file

 private:
  Store(std::string file, int lock_fd, std::unique_ptr<SqliteConnection> writer,
        std::unique_ptr<SqliteConnection> reader);
  template <class R>
  absl::Status Upsert(const R& record);
  template <class R>
  absl::StatusOr<Page<R>> List(const std::string& job, int64_t after, int size);

  const std::string file_;
  int lock_fd_;  // held as long as this lives: one coordinator a ledger
  std::unique_ptr<SqliteConnection> writer_;
  std::vector<std::unique_ptr<SqliteStatement>>
      upserts_;  // by index of Record, made when first used

  Mutex mutex_;
  std::unique_ptr<SqliteConnection> reader_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace leap
