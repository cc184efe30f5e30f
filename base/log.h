// The log: one line per change, an event name and key=value fields, on standard error.
//
//   LogInfo("leap_accepted", {{"job", job}, {"leap", leap}, {"base_step", 400}, {"gain", 0.012}});
//   2026-11-23T09:41:07.123Z info leap-coordinator leap_accepted job=tiny-gpt-7f3a2c leap=3
//   base_step=400 gain=0.012
//
// Levels: info is what an operator would tell a colleague; warning counts; error has a counter and
// an alert beside it; debug is for the one who looks for a fault. Event names are lower_snake and
// constant, ids go into fields, and a repeated reason is logged only when it changes. Who handles
// an error logs it; who returns it does not.
#pragma once

#include <concepts>
#include <initializer_list>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace leap {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// "debug", "info", "warning" or "error"; InvalidArgument otherwise.
absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text);

// One key=value of a line. Text is quoted when it has spaces, quotes or control characters; numbers
// keep full precision.
class LogField {
 public:
  LogField(absl::string_view key, absl::string_view value) : key_(key), value_(Quoted(value)) {}
  LogField(absl::string_view key, const std::string& value)
      : LogField(key, absl::string_view(value)) {}
  LogField(absl::string_view key, const char* value) : LogField(key, absl::string_view(value)) {}
  LogField(absl::string_view key, bool value) : key_(key), value_(value ? "true" : "false") {}
  LogField(absl::string_view key, std::integral auto value)
      : key_(key), value_(absl::StrCat(value)) {}
  LogField(absl::string_view key, double value);
  LogField(absl::string_view key, absl::Duration value)
      : key_(key), value_(absl::FormatDuration(value)) {}
  // A Status is written as its code, its reason if it has one, and its message.
  LogField(absl::string_view key, const absl::Status& status);

  const std::string& key() const { return key_; }
  const std::string& value() const { return value_; }

 private:
  static std::string Quoted(absl::string_view text);

  std::string key_;
  std::string value_;
};

using LogFields = std::initializer_list<LogField>;

// Call once, first thing in main(). Until then lines go to standard error at level info under the
// name "leap".
void InitLogging(absl::string_view program_name, LogLevel level);

// All thread-safe; a line is written whole.
void LogDebug(absl::string_view event, LogFields fields = {});
void LogInfo(absl::string_view event, LogFields fields = {});
void LogWarning(absl::string_view event, LogFields fields = {});
void LogError(absl::string_view event, LogFields fields = {});

// While one is alive, lines of every level are kept here instead of being written. For tests; one
// at a time.
class ScopedLogCapture {
 public:
  ScopedLogCapture();
  ~ScopedLogCapture();
  ScopedLogCapture(const ScopedLogCapture&) = delete;
  ScopedLogCapture& operator=(const ScopedLogCapture&) = delete;

  // What was logged since construction, as "info leap_accepted job=… leap=3": without time and
  // program name.
  std::vector<std::string> lines() const;
};

}  // namespace leap
