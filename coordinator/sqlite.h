// The little of SQLite that the ledger needs, as values with a destructor and a Status. Not
// thread-safe: one connection, one thread at a time. Errors: Unavailable (locked),
// ResourceExhausted + DISK_FULL, FailedPrecondition (read-only), DataLoss + LEDGER_CORRUPT, else
// Internal; all others bear LEDGER_UNAVAILABLE and name the file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct sqlite3;
struct sqlite3_stmt;

namespace leap {

class SqliteStatement {
 public:
  explicit SqliteStatement(sqlite3_stmt* statement) : statement_(statement) {}
  ~SqliteStatement();
  SqliteStatement(const SqliteStatement&) = delete;
  SqliteStatement& operator=(const SqliteStatement&) = delete;

  // Binds the next parameter, in order, after Reset.
  void Bind(int64_t value);
  void Bind(double value);  // NaN: NULL
  void Bind(absl::string_view value);
  void BindNull();

  // Reads the next column of the current row, in order, after Step.
  int64_t Int();
  std::optional<int64_t> IntOrNull();
  double Real();  // NULL: NaN
  std::string Text();

  sqlite3_stmt* raw() { return statement_; }
  void Reset();
  void Rewind() { column_ = 0; }

 private:
  sqlite3_stmt* statement_;
  int parameter_ = 0;
  int column_ = 0;
};

class SqliteConnection {
 public:
  enum class Mode { kReadWrite, kReadOnly };
  static absl::StatusOr<std::unique_ptr<SqliteConnection>> Open(const std::string& file, Mode mode);
  ~SqliteConnection();

  absl::Status Execute(const std::string& sql);
  absl::StatusOr<std::unique_ptr<SqliteStatement>> Prepare(const std::string& sql);
  // Not OK: the file was removed or moved away since it was opened; what is written is gone with
  // it.
  absl::Status InPlace() const;
  // True: a row is there; false: done.
  absl::StatusOr<bool> Step(SqliteStatement& statement);

 private:
  SqliteConnection(sqlite3* db, std::string file) : db_(db), file_(std::move(file)) {}
  absl::Status Error(int code, absl::string_view what) const;

  sqlite3* db_;
  std::string file_;
};

}  // namespace leap
