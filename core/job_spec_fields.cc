// What can be asked about the table of fields.
#include <charconv>
#include <cmath>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/job_spec_table.h"

namespace leap {
namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};

// "a number above 0, at most 10", "a whole number from 1 to 64", "a number from 0 to below 1".
std::string RangeText(const Bounds& bounds, absl::string_view what) {
  const std::string min = NumberText(bounds.min);
  const std::string max = NumberText(bounds.max);
  if (bounds.above_min) return absl::StrCat(what, " above ", min, ", at most ", max);
  return absl::StrCat(what, " from ", min, bounds.below_max ? " to below " : " to ", max);
}

}  // namespace

std::vector<std::string> KeysUnder(absl::string_view prefix) {
  std::vector<std::string> keys;
  const std::string start = prefix.empty() ? "" : absl::StrCat(prefix, ".");
  const auto add = [&](absl::string_view path) {
    if (!absl::ConsumePrefix(&path, start)) return;
    std::string key(path.substr(0, path.find('.')));
    for (const std::string& known : keys) {
      if (known == key) return;
    }
    keys.push_back(std::move(key));
  };
  if (prefix.empty()) keys = {"apiVersion", "kind"};
  for (const Field& field : JobFields()) add(field.path);
  return keys;
}

const Field* FindField(std::span<const Field> fields, absl::string_view path) {
  for (const Field& field : fields) {
    if (field.path == path) return &field;
  }
  return nullptr;
}

bool IsSection(absl::string_view path) {
  for (const Section& section : JobSections()) {
    if (section.path == path) return true;
  }
  return false;
}

std::string Expectation(const Field& field) {
  const auto words = [&](absl::string_view otherwise) {
    return field.choices.empty() ? std::string(otherwise)
                                 : absl::StrCat("one of ", absl::StrJoin(field.choices, ", "));
  };
  return std::visit(
      Overloaded{
          [&](bool*) { return std::string("true or false"); },
          [&](int64_t*) { return RangeText(field.bounds, "a whole number"); },
          [&](uint64_t*) { return std::string("a whole number from 0 to 18446744073709551615"); },
          [&](double*) { return RangeText(field.bounds, "a number"); },
          [&](std::string*) { return words("text"); },
          [&](std::vector<std::string>*) {
            return field.choices.empty()
                       ? std::string("a list of text")
                       : absl::StrCat("a list out of ", absl::StrJoin(field.choices, ", "));
          },
          [&](std::vector<int64_t>*) { return RangeText(field.bounds, "a list of whole numbers"); },
          [&](Labels*) { return std::string("a mapping of names to text"); },
          [&](Params*) { return std::string("a mapping of names to numbers"); },
          [&](std::vector<PredictorSpec>*) { return std::string("a list of predictors"); },
          [&](std::vector<FailureRule>*) { return std::string("a list of failure rules"); },
          [&](auto* enumeration) {
            static_assert(std::is_enum_v<std::remove_pointer_t<decltype(enumeration)>>);
            return words("");
          },
      },
      field.access.type);
}

std::string NumberText(double value) {
  char buffer[64];
  const double size = std::abs(value);
  const bool fixed = value == 0 || (size >= 1e-4 && size < 1e15);
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 fixed ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer, end.ptr);
  // YAML 1.1 readers take 5e-05 for text, 5.0e-05 for a number.
  if (!fixed && text.find('.') == std::string::npos) text.insert(text.find('e'), ".0");
  return text;
}

}  // namespace leap
