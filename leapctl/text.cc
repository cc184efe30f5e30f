#include "leapctl/text.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace leap {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

std::string Padded(absl::string_view text, int width, bool right) {
  const std::string space(std::max(0, width - Width(text)), ' ');
  return right ? absl::StrCat(space, text) : absl::StrCat(text, space);
}

}  // namespace

std::string Clean(absl::string_view text) {
  std::string clean(text);
  for (char& c : clean) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (c == '\n' || c == '\t') c = ' ';
    if (byte < 0x20 || byte == 0x7f) c = c == ' ' ? ' ' : '?';
  }
  // C1 controls (U+0080 to U+009F) are two bytes in UTF-8.
  for (size_t i = 0; i + 1 < clean.size(); ++i) {
    const bool control = static_cast<unsigned char>(clean[i]) == 0xC2 &&
                         static_cast<unsigned char>(clean[i + 1]) < 0xA0;
    if (control) clean.replace(i, 2, "?");
  }
  return clean;
}

int Width(absl::string_view text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return !IsContinuation(c); }));
}

std::string Cut(absl::string_view text, int width) {
  if (Width(text) <= width) return std::string(text);
  const int keep = std::max(0, width - 3);
  int seen = 0;
  size_t end = 0;
  while (end < text.size() && (seen < keep || IsContinuation(text[end]))) {
    if (!IsContinuation(text[end])) ++seen;
    ++end;
  }
  while (end < text.size() && IsContinuation(text[end])) ++end;
  return absl::StrCat(text.substr(0, end), std::string(std::min(3, std::max(0, width)), '.'));
}

std::string LossText(double loss) {
  return std::isfinite(loss) && loss != 0 ? absl::StrFormat("%.4f", loss) : "-";
}

std::string SimilarityText(double value) {
  return std::isfinite(value) && value != 0 ? absl::StrFormat("%.6f", value) : "-";
}

std::string StepsText(double steps) {
  if (!std::isfinite(steps)) return "unknown";
  if (std::abs(steps) < 0.05) return "0";
  return absl::StrFormat(steps == std::floor(steps) ? "%+.0f" : "%+.1f", steps);
}

std::string CountText(double count) {
  if (!std::isfinite(count)) return "-";
  if (count < 1000) return absl::StrFormat(count == std::floor(count) ? "%.0f" : "%.1f", count);
  if (count < 1e6) return absl::StrFormat("%.1f k", count / 1e3);
  if (count < 1e9) return absl::StrFormat("%.1f M", count / 1e6);
  return absl::StrFormat("%.1f G", count / 1e9);
}

std::string SecondsText(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  if (seconds < 9.95) return absl::StrFormat("%.1f s", seconds);
  if (seconds > 1e10) return "very long";
  const int64_t whole = std::llround(seconds);
  if (whole < 60) return absl::StrFormat("%d s", whole);
  if (whole < 3600) return absl::StrFormat("%d min %d s", whole / 60, whole % 60);
  if (whole < 86400) return absl::StrFormat("%d h %d min", whole / 3600, whole % 3600 / 60);
  return absl::StrFormat("%d d %d h", whole / 86400, whole % 86400 / 3600);
}

absl::Time TimeOf(const google::protobuf::Timestamp& timestamp) {
  return absl::FromUnixSeconds(timestamp.seconds()) + absl::Nanoseconds(timestamp.nanos());
}

std::string AgeText(const google::protobuf::Timestamp& timestamp, absl::Time now) {
  if (timestamp.seconds() == 0) return "-";
  const double seconds = absl::ToDoubleSeconds(now - TimeOf(timestamp));
  if (seconds < 1) return "now";
  if (seconds < 10) return absl::StrFormat("%.0f s ago", std::floor(seconds));
  return absl::StrCat(SecondsText(std::floor(seconds)), " ago");
}

std::string ClockText(const google::protobuf::Timestamp& timestamp) {
  if (timestamp.seconds() == 0) return "-";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", TimeOf(timestamp), absl::UTCTimeZone());
}

Table::Table(std::vector<std::string> header) : header_(std::move(header)) {
  for (std::string& name : header_) {
    right_.push_back(!name.empty() && name.front() == '>');
    if (right_.back()) name.erase(0, 1);
  }
}

void Table::Add(std::vector<std::string> row) {
  row.resize(header_.size());
  for (std::string& cell : row) cell = cell.empty() ? "-" : Clean(cell);
  rows_.push_back(std::move(row));
}

std::string Table::Line(const std::vector<std::string>& cells,
                        const std::vector<int>& widths) const {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    const bool last = i + 1 == cells.size();
    absl::StrAppend(&line, Padded(cells[i], last && !right_[i] ? 0 : widths[i], right_[i]),
                    last ? "\n" : "  ");
  }
  return line;
}

std::string Table::ToString() const {
  std::vector<int> widths;
  for (size_t i = 0; i < header_.size(); ++i) {
    int width = Width(header_[i]);
    for (const auto& row : rows_) width = std::max(width, Width(row[i]));
    widths.push_back(width);
  }
  std::string text = Line(header_, widths);
  for (const auto& row : rows_) absl::StrAppend(&text, Line(row, widths));
  return text;
}

}  // namespace leap
