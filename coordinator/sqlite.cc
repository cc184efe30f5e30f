#include "coordinator/sqlite.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "sqlite3.h"

namespace leap {
namespace {

// How long a write waits for another process that has the file locked. The machine waits meanwhile,
// so not long; it tries again.
constexpr int kBusyMilliseconds = 250;

absl::Status StatusOfCode(int code, const std::string& file, absl::string_view what,
                          absl::string_view said) {
  const std::string where = absl::StrCat("ledger ", file, ": ", what, ": ", said);
  const ErrorMetadata metadata = {{"file", file}};
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return MakeError(absl::StatusCode::kUnavailable, ErrorReason::kLedgerUnavailable,
                       absl::StrCat(where, "; another process holds it: end that one"), metadata);
    case SQLITE_FULL:
      return MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kDiskFull,
                       absl::StrCat(where, "; free space on that disk"), metadata);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
      return MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kLedgerUnavailable,
                       absl::StrCat(where, "; make the file and its folder writable"), metadata);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return MakeError(absl::StatusCode::kDataLoss, ErrorReason::kLedgerCorrupt,
                       absl::StrCat(where,
                                    "; restore it from a backup, or move it away to begin "
                                    "with an empty one (running jobs must then be "
                                    "submitted again; their checkpoints stay)"),
                       metadata);
    case SQLITE_IOERR:
      return MakeError(absl::StatusCode::kInternal, ErrorReason::kLedgerUnavailable,
                       absl::StrCat(where, "; see the system's log for what that disk has"),
                       metadata);
    default:
      return MakeError(absl::StatusCode::kInternal, ErrorReason::kLedgerUnavailable, where,
                       metadata);
  }
}

}  // namespace

SqliteStatement::~SqliteStatement() { sqlite3_finalize(statement_); }

void SqliteStatement::Bind(int64_t value) { sqlite3_bind_int64(statement_, ++parameter_, value); }

void SqliteStatement::Bind(double value) {
  if (std::isnan(value)) return BindNull();
  sqlite3_bind_double(statement_, ++parameter_, value);
}

void SqliteStatement::Bind(absl::string_view value) {
  sqlite3_bind_text(statement_, ++parameter_, value.data(), static_cast<int>(value.size()),
                    SQLITE_TRANSIENT);
}

void SqliteStatement::BindNull() { sqlite3_bind_null(statement_, ++parameter_); }

int64_t SqliteStatement::Int() { return sqlite3_column_int64(statement_, column_++); }

std::optional<int64_t> SqliteStatement::IntOrNull() {
  if (sqlite3_column_type(statement_, column_) == SQLITE_NULL) {
    ++column_;
    return std::nullopt;
  }
  return Int();
}

double SqliteStatement::Real() {
  const int column = column_++;
  if (sqlite3_column_type(statement_, column) == SQLITE_NULL) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  return sqlite3_column_double(statement_, column);
}

std::string SqliteStatement::Text() {
  const int column = column_++;
  const unsigned char* text = sqlite3_column_text(statement_, column);
  if (text == nullptr) return "";
  return std::string(reinterpret_cast<const char*>(text), sqlite3_column_bytes(statement_, column));
}

void SqliteStatement::Reset() {
  sqlite3_reset(statement_);
  parameter_ = 0;
  column_ = 0;
}

absl::StatusOr<std::unique_ptr<SqliteConnection>> SqliteConnection::Open(const std::string& file,
                                                                         Mode mode) {
  sqlite3* db = nullptr;
  const int flags = (mode == Mode::kReadWrite ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
                                              : SQLITE_OPEN_READONLY) |
                    SQLITE_OPEN_NOMUTEX;
  const int code = sqlite3_open_v2(file.c_str(), &db, flags, nullptr);
  auto connection = std::unique_ptr<SqliteConnection>(new SqliteConnection(db, file));
  if (code != SQLITE_OK) return connection->Error(code, "cannot be opened");
  // SQLite opens what it may not write for reading, and says so only at the first write.
  if (mode == Mode::kReadWrite && sqlite3_db_readonly(db, "main") == 1) {
    return StatusOfCode(SQLITE_READONLY, file, "cannot be opened", sqlite3_errstr(SQLITE_READONLY));
  }
  sqlite3_extended_result_codes(db, 1);
  sqlite3_busy_timeout(db, kBusyMilliseconds);
  return connection;
}

SqliteConnection::~SqliteConnection() { sqlite3_close_v2(db_); }

absl::Status SqliteConnection::Error(int code, absl::string_view what) const {
  if (db_ == nullptr) return StatusOfCode(code, file_, what, sqlite3_errstr(code));
  if ((code & 0xff) != SQLITE_IOERR) return StatusOfCode(code, file_, what, sqlite3_errmsg(db_));
  LEAP_RETURN_IF_ERROR(InPlace());
  // The system knows more. Where SQLite makes room for its index a full disk is an I/O error too.
  const int cause = sqlite3_system_errno(db_);
  const bool full = cause == ENOSPC || cause == EDQUOT;
  return StatusOfCode(full ? SQLITE_FULL : code, file_, what,
                      absl::StrCat(sqlite3_errmsg(db_), cause == 0 ? "" : ": ",
                                   cause == 0 ? "" : std::strerror(cause)));
}

absl::Status SqliteConnection::InPlace() const {
  int moved = 0;
  sqlite3_file_control(db_, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
  if (moved == 0) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kLedgerUnavailable,
                   absl::StrCat("ledger ", file_,
                                ": was removed or moved away while it is in use; move it back, or "
                                "start the coordinator again to begin with an empty one (running "
                                "jobs must then be submitted again; their checkpoints stay)"),
                   {{"file", file_}});
}

absl::Status SqliteConnection::Execute(const std::string& sql) {
  const int code = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, sql.substr(0, 40));
}

absl::StatusOr<std::unique_ptr<SqliteStatement>> SqliteConnection::Prepare(const std::string& sql) {
  sqlite3_stmt* statement = nullptr;
  const int code =
      sqlite3_prepare_v2(db_, sql.c_str(), static_cast<int>(sql.size()), &statement, nullptr);
  if (code != SQLITE_OK) return Error(code, sql.substr(0, 40));
  return std::make_unique<SqliteStatement>(statement);
}

absl::StatusOr<bool> SqliteConnection::Step(SqliteStatement& statement) {
  const int code = sqlite3_step(statement.raw());
  statement.Rewind();
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  const absl::Status error = Error(code, "cannot be read or written");
  statement.Reset();
  return error;
}

}  // namespace leap
