#include "base/log.h"

#include <array>
#include <cmath>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "base/error_reason.h"
#include "base/mutex.h"
#include "base/nearest.h"
#include "spdlog/logger.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/stdout_sinks.h"

namespace leap {
namespace {

struct Level {
  LogLevel level;
  absl::string_view name;
  spdlog::level::level_enum spdlog_level;
};

constexpr std::array kLevels = {
    Level{LogLevel::kDebug, "debug", spdlog::level::debug},
    Level{LogLevel::kInfo, "info", spdlog::level::info},
    Level{LogLevel::kWarning, "warning", spdlog::level::warn},
    Level{LogLevel::kError, "error", spdlog::level::err},
};

const Level& Row(LogLevel level) { return kLevels[static_cast<size_t>(level)]; }

std::shared_ptr<spdlog::logger> MakeLogger(absl::string_view program_name, LogLevel level) {
  auto logger = std::make_shared<spdlog::logger>(std::string(program_name),
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_formatter(std::make_unique<spdlog::pattern_formatter>(
      "%Y-%m-%dT%H:%M:%S.%eZ %l %n %v", spdlog::pattern_time_type::utc));
  logger->set_level(Row(level).spdlog_level);
  logger->flush_on(spdlog::level::debug);
  return logger;
}

// The process's log. shared_ptr: a thread may be writing while InitLogging puts another logger in
// place.
struct LogState {
  Mutex mutex;
  std::shared_ptr<spdlog::logger> logger ABSL_GUARDED_BY(mutex) = MakeLogger("leap",
                                                                             LogLevel::kInfo);
  bool capturing ABSL_GUARDED_BY(mutex) = false;
  std::vector<std::string> captured ABSL_GUARDED_BY(mutex);
};

LogState& State() {
  static auto& state = *new LogState;  // never destroyed: threads may log until the process ends
  return state;
}

std::string Line(absl::string_view event, LogFields fields) {
  std::string line(event);
  for (const LogField& field : fields) absl::StrAppend(&line, " ", field.key(), "=", field.value());
  return line;
}

void Write(LogLevel level, absl::string_view event, LogFields fields) {
  std::shared_ptr<spdlog::logger> logger;
  {
    MutexLock lock(&State().mutex);
    if (State().capturing) {
      State().captured.push_back(absl::StrCat(Row(level).name, " ", Line(event, fields)));
      return;
    }
    logger = State().logger;
  }
  if (!logger->should_log(Row(level).spdlog_level)) return;
  const std::string line = Line(event, fields);
  logger->log(Row(level).spdlog_level, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace

absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text) {
  std::vector<absl::string_view> names;
  for (const Level& row : kLevels) {
    if (row.name == text) return row.level;
    names.push_back(row.name);
  }
  return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kConfigInvalid,
                   absl::StrCat("expected a log level of debug, info, warning or error, saw '",
                                text, "'", DidYouMean(text, names)),
                   {{"log_level", std::string(text)}});
}

LogField::LogField(absl::string_view key, double value) : key_(key) {
  // Shortest of the two that reads back as the same number.
  value_ = absl::StrFormat("%.6g", value);
  double read = 0;
  if (std::isfinite(value) && !(absl::SimpleAtod(value_, &read) && read == value)) {
    value_ = absl::StrFormat("%.17g", value);
  }
}

LogField::LogField(absl::string_view key, const absl::Status& status) : key_(key) {
  const auto reason = ReasonOf(status);
  value_ = Quoted(absl::StrCat(absl::StatusCodeToString(status.code()), reason ? " " : "",
                               reason ? ErrorReasonName(*reason) : "", status.ok() ? "" : ": ",
                               status.message()));
}

std::string LogField::Quoted(absl::string_view text) {
  bool plain = !text.empty();
  for (const char c : text)
    plain = plain && absl::ascii_isgraph(static_cast<unsigned char>(c)) && c != '"' && c != '=';
  return plain ? std::string(text) : absl::StrCat("\"", absl::Utf8SafeCEscape(text), "\"");
}

void InitLogging(absl::string_view program_name, LogLevel level) {
  std::shared_ptr<spdlog::logger> logger = MakeLogger(program_name, level);
  MutexLock lock(&State().mutex);
  State().logger = std::move(logger);
}

void LogDebug(absl::string_view event, LogFields fields) { Write(LogLevel::kDebug, event, fields); }
void LogInfo(absl::string_view event, LogFields fields) { Write(LogLevel::kInfo, event, fields); }
void LogWarning(absl::string_view event, LogFields fields) {
  Write(LogLevel::kWarning, event, fields);
}
void LogError(absl::string_view event, LogFields fields) { Write(LogLevel::kError, event, fields); }

ScopedLogCapture::ScopedLogCapture() {
  MutexLock lock(&State().mutex);
  State().capturing = true;
  State().captured.clear();
}

ScopedLogCapture::~ScopedLogCapture() {
  MutexLock lock(&State().mutex);
  State().capturing = false;
}

std::vector<std::string> ScopedLogCapture::lines() const {
  MutexLock lock(&State().mutex);
  return State().captured;
}

}  // namespace leap
