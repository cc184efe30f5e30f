// Small pieces of text that tables, descriptions and the live view share: one spelling for losses,
// steps and ages, and nothing from the wire reaches a terminal with control characters in it. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

namespace leap {

// Control characters become '?', line breaks a space.
std::string Clean(absl::string_view text);

// Columns that `text` takes on a terminal (one a character).
int Width(absl::string_view text);
// At most `width` columns of `text`; what is cut ends with "...".
std::string Cut(absl::string_view text, int width);

std::string LossText(double loss);         // "1.7380", "-" if there is none
std::string SimilarityText(double value);  // "0.999489", "-" if there is none
std::string StepsText(double steps);       // "+31.2", "-4.0", "0"
std::string CountText(double count);       // "13.4 k", "1.2 M"
std::string SecondsText(double seconds);   // "0.8 s", "42 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"

absl::Time TimeOf(const google::protobuf::Timestamp& timestamp);
// "2 min ago", "-" for no time; a time in the future is "now".
std::string AgeText(const google::protobuf::Timestamp& timestamp, absl::Time now);
// "2026-11-23 09:41:07 UTC", "-" for no time.
std::string ClockText(const google::protobuf::Timestamp& timestamp);

// Columns of text, aligned. A header that begins with '>' is set to the right with its column.
class Table {
 public:
  explicit Table(std::vector<std::string> header);
  void Add(std::vector<std::string> row);
  bool empty() const { return rows_.empty(); }
  // Lines end with \n; the last column is not padded.
  std::string ToString() const;

 private:
  std::string Line(const std::vector<std::string>& cells, const std::vector<int>& widths) const;

  std::vector<bool> right_;
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace leap
