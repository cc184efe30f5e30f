#include "coordinator/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "coordinator/record_fields.h"
#include "core/job_spec.h"
#include "nlohmann/json.hpp"

namespace leap {
namespace {

using Json = nlohmann::json;

constexpr int kSchemaVersion = 1;
constexpr int kLiveRows = 256;  // of snapshots and candidates, for a restart
constexpr int kLiveEvents = 1000;
constexpr int kEndedJobs = 200;  // shown after a restart
constexpr const char* kLive = "job IN (SELECT job FROM jobs WHERE end_time IS NULL)";

// ---- one value <-> one column or one JSON value ----

template <class T>
constexpr bool kIsNumber = std::is_integral_v<T> || std::is_enum_v<T>;

template <class T>
Json ToJson(const T& value);
template <class T>
void FromJson(const Json& json, T& value);

struct JsonWriter {
  Json json = Json::object();
  template <class T>
  void operator()(const char* name, const T& value) {
    json[name] = ToJson(value);
  }
};

struct JsonReader {
  const Json& json;
  template <class T>
  void operator()(const char* name, T& value) {
    if (auto found = json.find(name); found != json.end()) FromJson(*found, value);
  }
};

template <class T>
Json ToJson(const T& value) {
  if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::string>) {
    return value;
  } else if constexpr (std::is_same_v<T, double>) {
    return value == value ? Json(value) : Json(nullptr);
  } else if constexpr (kIsNumber<T>) {
    if constexpr (std::is_same_v<T, uint64_t>) return value;
    return static_cast<int64_t>(value);
  } else {
    JsonWriter writer;
    Fields(writer, const_cast<T&>(value));
    return writer.json;
  }
}

template <class T>
Json ToJson(const std::vector<T>& values) {
  Json json = Json::array();
  for (const T& value : values) json.push_back(ToJson(value));
  return json;
}

template <class T>
void FromJson(const Json& json, T& value) {
  if constexpr (std::is_same_v<T, double>) {
    value = json.is_number() ? json.get<double>() : machine::kUnknown;
  } else if constexpr (std::is_enum_v<T>) {
    if (json.is_number()) value = static_cast<T>(json.get<int>());
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (json.is_string()) value = json.get<std::string>();
  } else if constexpr (std::is_same_v<T, bool>) {
    if (json.is_boolean()) value = json.get<bool>();
  } else if constexpr (std::is_integral_v<T>) {
    if (json.is_number_integer()) value = json.get<T>();
  } else {
    if (!json.is_object()) return;
    JsonReader reader{json};
    Fields(reader, value);
  }
}

template <class T>
void FromJson(const Json& json, std::vector<T>& values) {
  if (!json.is_array()) return;
  for (const Json& item : json) FromJson(item, values.emplace_back());
}

struct Binder {
  SqliteStatement& statement;
  template <class T>
  void Key(const char* name, const T& value) {
    (*this)(name, value);
  }
  template <class T>
  void operator()(const char*, const T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      statement.Bind(absl::string_view(value));
    } else if constexpr (std::is_same_v<T, double>) {
      statement.Bind(value);
    } else if constexpr (kIsNumber<T>) {
      statement.Bind(static_cast<int64_t>(value));
    } else if constexpr (std::is_same_v<T, absl::Time>) {
      if (value == absl::InfinitePast()) return statement.BindNull();
      statement.Bind(absl::ToUnixMicros(value));
    } else {
      statement.Bind(absl::string_view(ToJson(value).dump()));
    }
  }
};

struct Reader {
  SqliteStatement& statement;
  bool ok = true;
  template <class T>
  void Key(const char* name, T& value) {
    (*this)(name, value);
  }
  template <class T>
  void operator()(const char*, T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      value = statement.Text();
    } else if constexpr (std::is_same_v<T, double>) {
      value = statement.Real();
    } else if constexpr (kIsNumber<T>) {
      value = static_cast<T>(statement.Int());
    } else if constexpr (std::is_same_v<T, absl::Time>) {
      const std::optional<int64_t> micros = statement.IntOrNull();
      value = micros ? absl::FromUnixMicros(*micros) : absl::InfinitePast();
    } else {
      const std::string text = statement.Text();
      if (text.empty()) return;  // a column younger than its row
      const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
      ok = ok && !json.is_discarded();
      if (ok) FromJson(json, value);
    }
  }
};

// ---- SQL made from the fields ----

struct Columns {
  std::vector<std::string> all, keys, values, declared;
  template <class T>
  void Key(const char* name, const T& value) {
    Add(name, value);
    keys.push_back(name);
  }
  template <class T>
  void operator()(const char* name, const T& value) {
    Add(name, value);
    values.push_back(name);
  }

 private:
  template <class T>
  void Add(const char* name, const T&) {
    const char* type = "TEXT";
    if constexpr (kIsNumber<T> || std::is_same_v<T, absl::Time>) type = "INTEGER";
    if constexpr (std::is_same_v<T, double>) type = "REAL";
    all.push_back(name);
    declared.push_back(absl::StrCat("\"", name, "\" ", type));
  }
};

template <class R>
Columns ColumnsOf() {
  Columns columns;
  R record;
  Fields(columns, record);
  return columns;
}

std::string Quoted(const std::vector<std::string>& names) {
  return absl::StrCat("\"", absl::StrJoin(names, "\",\""), "\"");
}

template <class R>
std::string CreateSql() {
  const Columns columns = ColumnsOf<R>();
  return absl::StrCat("CREATE TABLE ", TableOf<R>(), "(", absl::StrJoin(columns.declared, ","),
                      ",UNIQUE(", Quoted(columns.keys), "));");
}

template <class R>
std::string UpsertSql() {
  const Columns columns = ColumnsOf<R>();
  const std::vector<std::string> marks(columns.all.size(), "?");
  return absl::StrCat(
      "INSERT INTO ", TableOf<R>(), "(", Quoted(columns.all), ") VALUES(",
      absl::StrJoin(marks, ","), ") ON CONFLICT(", Quoted(columns.keys), ") DO UPDATE SET ",
      absl::StrJoin(columns.values, ",", [](std::string* out, const std::string& name) {
        absl::StrAppend(out, "\"", name, "\"=excluded.\"", name, "\"");
      }));
}

template <class R>
std::string SelectSql(absl::string_view rest) {
  return absl::StrCat("SELECT ", Quoted(ColumnsOf<R>().all), ",rowid FROM ", TableOf<R>(), " ",
                      rest);
}

template <class R>
absl::Status ReadRows(SqliteConnection& connection, SqliteStatement& statement,
                      std::vector<R>* rows, int64_t* last_rowid) {
  while (true) {
    LEAP_ASSIGN_OR_RETURN(const bool more, connection.Step(statement));
    if (!more) return absl::OkStatus();
    Reader reader{statement};
    Fields(reader, rows->emplace_back());
    *last_rowid = statement.Int();
    if (!reader.ok) {
      return MakeError(absl::StatusCode::kDataLoss, ErrorReason::kLedgerCorrupt,
                       absl::StrCat("row ", *last_rowid, " of table ", TableOf<R>(),
                                    " holds text that is no JSON; restore the ledger"));
    }
  }
}

template <class R>
absl::Status ReadAll(SqliteConnection& connection, absl::string_view rest, std::vector<R>* rows) {
  LEAP_ASSIGN_OR_RETURN(auto statement, connection.Prepare(SelectSql<R>(rest)));
  int64_t rowid = 0;
  return ReadRows(connection, *statement, rows, &rowid);
}

// The newest `limit` rows of one job.
template <class R>
absl::Status ReadNewest(SqliteConnection& connection, const std::string& job, int limit,
                        absl::string_view order, std::vector<R>* rows) {
  LEAP_ASSIGN_OR_RETURN(auto statement, connection.Prepare(SelectSql<R>(absl::StrCat(
                                            "WHERE rowid IN (SELECT rowid FROM ", TableOf<R>(),
                                            " WHERE job=? ORDER BY rowid DESC LIMIT ", limit,
                                            ") ORDER BY ", order))));
  statement->Bind(absl::string_view(job));
  int64_t rowid = 0;
  return ReadRows(connection, *statement, rows, &rowid);
}

// ---- one coordinator a ledger ----

// An advisory lock on a file beside the ledger; the kernel drops it when the process ends, however.
class FileLock {
 public:
  static absl::StatusOr<FileLock> Take(const std::string& path) {
    FileLock lock(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (lock.fd_ < 0) {
      return Error(absl::StrCat("cannot open '", path, "': ", std::strerror(errno),
                                "; make the folder writable"));
    }
    if (flock(lock.fd_, LOCK_EX | LOCK_NB) != 0) {
      return Error(absl::StrCat("another coordinator uses this ledger ('", path,
                                "' is locked); stop it, or choose another --state-dir"));
    }
    return lock;
  }
  FileLock(FileLock&& other) noexcept : fd_(other.Release()) {}
  ~FileLock() {
    if (fd_ >= 0) close(fd_);
  }
  int Release() { return std::exchange(fd_, -1); }

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  static absl::Status Error(absl::string_view message) {
    return MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kLedgerUnavailable,
                     message);
  }
  int fd_;
};

// ---- schema ----

std::string CreateAllSql() {
  return absl::StrCat(CreateSql<machine::JobRecord>(), CreateSql<machine::EpochRecord>(),
                      CreateSql<machine::SnapshotRecord>(), CreateSql<machine::CandidateRecord>(),
                      CreateSql<machine::LeapRecord>(), CreateSql<machine::EventRecord>(),
                      CreateSql<machine::BudgetRecord>(), CreateSql<machine::AgentRecord>());
}

// migrations[v] leads from schema v to v + 1.
std::vector<std::string> Migrations() { return {CreateAllSql()}; }

// Adds the columns that this release has and the file's table has not. A row that was written
// without them reads as the default of its field, so a new field needs no migration of its own.
template <class R>
absl::Status AddMissingColumns(SqliteConnection& connection, std::string* sql) {
  LEAP_ASSIGN_OR_RETURN(
      auto statement,
      connection.Prepare(absl::StrCat("SELECT name FROM pragma_table_info('", TableOf<R>(), "')")));
  std::set<std::string> there;
  while (true) {
    LEAP_ASSIGN_OR_RETURN(const bool more, connection.Step(*statement));
    if (!more) break;
    there.insert(statement->Text());
  }
  const Columns columns = ColumnsOf<R>();
  for (size_t i = 0; i < columns.all.size(); ++i) {
    if (there.count(columns.all[i]) > 0) continue;
    absl::StrAppend(sql, "ALTER TABLE ", TableOf<R>(), " ADD COLUMN ", columns.declared[i], ";");
  }
  return absl::OkStatus();
}

template <class... R>
absl::Status AddMissingColumnsOfAll(SqliteConnection& connection, std::variant<R...>*) {
  std::string sql;
  absl::Status status;
  ((status.ok() ? (void)(status = AddMissingColumns<R>(connection, &sql)) : (void)0), ...);
  if (!status.ok() || sql.empty()) return status;
  return connection.Execute(absl::StrCat("BEGIN IMMEDIATE;", sql, "COMMIT;"));
}

absl::Status Migrate(SqliteConnection& connection, const std::string& file) {
  LEAP_ASSIGN_OR_RETURN(auto statement, connection.Prepare("PRAGMA user_version"));
  LEAP_ASSIGN_OR_RETURN(const bool row, connection.Step(*statement));
  const int64_t version = row ? statement->Int() : 0;
  statement->Reset();
  if (version == kSchemaVersion) return absl::OkStatus();
  if (version > kSchemaVersion) {
    return MakeError(
        absl::StatusCode::kFailedPrecondition, ErrorReason::kLedgerUnavailable,
        absl::StrCat("ledger ", file, " has schema ", version, ", this coordinator knows up to ",
                     kSchemaVersion, "; start the newer coordinator that wrote it"));
  }
  const std::vector<std::string> migrations = Migrations();
  std::string sql = "BEGIN IMMEDIATE;";
  for (int64_t v = version; v < kSchemaVersion; ++v) absl::StrAppend(&sql, migrations[v]);
  absl::StrAppend(&sql, "PRAGMA user_version=", kSchemaVersion, ";COMMIT;");
  return connection.Execute(sql);
}

}  // namespace

Store::Store(std::string file, int lock_fd, std::unique_ptr<SqliteConnection> writer,
             std::unique_ptr<SqliteConnection> reader)
    : file_(std::move(file)),
      lock_fd_(lock_fd),
      writer_(std::move(writer)),
      upserts_(std::variant_size_v<machine::Record>),
      reader_(std::move(reader)) {}

Store::~Store() { close(lock_fd_); }

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& file,
                                                   const StoreOptions& options) {
  LEAP_ASSIGN_OR_RETURN(FileLock lock, FileLock::Take(absl::StrCat(file, ".lock")));
  LEAP_ASSIGN_OR_RETURN(auto writer,
                        SqliteConnection::Open(file, SqliteConnection::Mode::kReadWrite));
  LEAP_RETURN_IF_ERROR(writer->Execute("PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;"));
  LEAP_RETURN_IF_ERROR(Migrate(*writer, file));
  LEAP_RETURN_IF_ERROR(AddMissingColumnsOfAll(*writer, static_cast<machine::Record*>(nullptr)));
  LEAP_ASSIGN_OR_RETURN(auto reader,
                        SqliteConnection::Open(file, SqliteConnection::Mode::kReadOnly));
  if (options.max_pages > 0) {
    LEAP_RETURN_IF_ERROR(
        writer->Execute(absl::StrCat("PRAGMA max_page_count=", options.max_pages)));
  }
  return std::unique_ptr<Store>(
      new Store(file, lock.Release(), std::move(writer), std::move(reader)));
}

absl::StatusOr<machine::Ledger> Store::Load() {
  machine::Ledger ledger;
  LEAP_RETURN_IF_ERROR(ReadAll(
      *writer_,
      absl::StrCat("WHERE end_time IS NULL OR rowid IN (SELECT rowid FROM jobs WHERE end_time IS "
                   "NOT NULL ORDER BY queue_number DESC LIMIT ",
                   kEndedJobs, ") ORDER BY queue_number"),
      &ledger.jobs));
  for (machine::JobRecord& job : ledger.jobs) {
    absl::StatusOr<JobSpec> spec = ParseJobSpec(job.spec_yaml);
    if (!spec.ok()) {
      return MakeError(
          absl::StatusCode::kDataLoss, ErrorReason::kLedgerCorrupt,
          absl::StrCat("job ", job.job, " in ledger ", file_,
                       " has a job file that cannot be read: ", spec.status().message()));
    }
    job.spec = *std::move(spec);
  }
  const std::string live = absl::StrCat("WHERE ", kLive);
  LEAP_RETURN_IF_ERROR(
      ReadAll(*writer_,
              absl::StrCat(live,
                           " AND epoch=(SELECT epoch FROM jobs WHERE jobs.job=epochs.job) ORDER BY "
                           "job,epoch"),
              &ledger.epochs));
  LEAP_RETURN_IF_ERROR(ReadAll(*writer_, absl::StrCat(live, " ORDER BY job,leap"), &ledger.leaps));
  LEAP_RETURN_IF_ERROR(ReadAll(*writer_, live, &ledger.budgets));
  LEAP_RETURN_IF_ERROR(ReadAll(*writer_, "", &ledger.agents));
  for (const machine::JobRecord& job : ledger.jobs) {
    if (job.end_time != absl::InfinitePast()) continue;
    LEAP_RETURN_IF_ERROR(ReadNewest(*writer_, job.job, kLiveRows, "epoch,step", &ledger.snapshots));
    LEAP_RETURN_IF_ERROR(ReadNewest(*writer_, job.job, kLiveRows, "rowid", &ledger.candidates));
    LEAP_RETURN_IF_ERROR(ReadNewest(*writer_, job.job, kLiveEvents, "sequence", &ledger.events));
  }
  return ledger;
}

template <class R>
absl::Status Store::Upsert(const R& record) {
  const size_t index = machine::Record(std::in_place_type<R>).index();
  if (upserts_[index] == nullptr) {
    LEAP_ASSIGN_OR_RETURN(upserts_[index], writer_->Prepare(UpsertSql<R>()));
  }
  SqliteStatement& statement = *upserts_[index];
  Binder binder{statement};
  Fields(binder, const_cast<R&>(record));
  const absl::Status status = writer_->Step(statement).status();
  statement.Reset();
  return status;
}

absl::Status Store::Write(std::span<const machine::Record> records) {
  if (records.empty()) return absl::OkStatus();
  LEAP_RETURN_IF_ERROR(writer_->InPlace());
  LEAP_RETURN_IF_ERROR(writer_->Execute("BEGIN IMMEDIATE"));
  absl::Status status;
  for (const machine::Record& record : records) {
    status = std::visit([this](const auto& row) { return Upsert(row); }, record);
    if (!status.ok()) break;
  }
  if (status.ok()) status = writer_->Execute("COMMIT");
  if (!status.ok()) writer_->Execute("ROLLBACK").IgnoreError();
  return status;
}

template <class R>
absl::StatusOr<Page<R>> Store::List(const std::string& job, int64_t after, int size) {
  MutexLock lock(&mutex_);
  LEAP_ASSIGN_OR_RETURN(
      auto statement,
      reader_->Prepare(SelectSql<R>("WHERE job=? AND rowid>? ORDER BY rowid LIMIT ?")));
  statement->Bind(absl::string_view(job));
  statement->Bind(after);
  statement->Bind(static_cast<int64_t>(size));
  Page<R> page;
  LEAP_RETURN_IF_ERROR(ReadRows(*reader_, *statement, &page.rows, &page.next));
  if (static_cast<int>(page.rows.size()) < size) page.next = 0;
  return page;
}

absl::StatusOr<Page<machine::SnapshotRecord>> Store::Snapshots(const std::string& job,
                                                               int64_t after, int size) {
  return List<machine::SnapshotRecord>(job, after, size);
}

absl::StatusOr<Page<machine::CandidateRecord>> Store::Candidates(const std::string& job,
                                                                 int64_t after, int size) {
  return List<machine::CandidateRecord>(job, after, size);
}

absl::StatusOr<Page<machine::LeapRecord>> Store::Leaps(const std::string& job, int64_t after,
                                                       int size) {
  return List<machine::LeapRecord>(job, after, size);
}

absl::StatusOr<Page<machine::EventRecord>> Store::Events(const std::string& job, int64_t after,
                                                         int size) {
  return List<machine::EventRecord>(job, after, size);
}

absl::StatusOr<bool> Store::HasRequest(const std::string& request_id) {
  if (request_id.empty()) return false;
  MutexLock lock(&mutex_);
  LEAP_ASSIGN_OR_RETURN(auto statement,
                        reader_->Prepare("SELECT 1 FROM jobs WHERE request_id=? LIMIT 1"));
  statement->Bind(absl::string_view(request_id));
  return reader_->Step(*statement);
}

int64_t Store::bytes() const {
  std::error_code error;
  const auto size = std::filesystem::file_size(file_, error);
  return error ? 0 : static_cast<int64_t>(size);
}

}  // namespace leap
