// Prints a JobSpec as YAML that ParseJobSpec reads back to an equal one, by walking the table of
// fields.
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/job_spec_table.h"

namespace leap {
namespace {

bool IsPlainCharacter(char c) {
  return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == '.' || c == '/';
}

// Text that no YAML reader, old or new, takes for anything but text.
bool IsPlain(absl::string_view text) {
  static constexpr std::array<absl::string_view, 12> kWords = {
      "true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "~"};
  if (text.empty() || !(absl::ascii_isalpha(text.front()) || text.front() == '/')) return false;
  for (char c : text) {
    if (!IsPlainCharacter(c)) return false;
  }
  const std::string lower = absl::AsciiStrToLower(text);
  for (absl::string_view word : kWords) {
    if (lower == word) return false;
  }
  return true;
}

std::string Text(absl::string_view text) {
  if (IsPlain(text)) return std::string(text);
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(&quoted, "\\", std::string(1, c));
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (c == '\t') {
      quoted += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppend(&quoted, "\\x", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string FlowText(const std::vector<std::string>& list) {
  return absl::StrCat("[",
                      absl::StrJoin(list, ", ",
                                    [](std::string* out, const std::string& text) {
                                      absl::StrAppend(out, Text(text));
                                    }),
                      "]");
}

class Printer {
 public:
  std::string Print(const JobSpec& spec) {
    JobSpec copy = spec;  // accessors give mutable pointers
    absl::StrAppend(&out_, "apiVersion: ", kApiVersion, "\nkind: ", kJobKind, "\n");
    for (const Field& field : JobFields()) {
      std::visit([&](auto* value) { Put(field, 0, *value); }, field.access.at(&copy));
    }
    return std::move(out_);
  }

 private:
  // Writes "key:", after the keys of those sections around it that are not open yet. `indent`: 0,
  // or of a list's item.
  void Key(const Field& field, int indent) {
    if (indent > 0) {
      absl::StrAppend(&out_, std::string(item_begins_ ? indent - 2 : indent, ' '),
                      item_begins_ ? "- " : "", field.path, ":");
      item_begins_ = false;
      return;
    }
    std::vector<std::string> names = absl::StrSplit(field.path, '.');
    size_t shared = 0;
    while (shared + 1 < names.size() && shared < open_.size() && open_[shared] == names[shared])
      ++shared;
    for (size_t i = shared; i + 1 < names.size(); ++i) {
      absl::StrAppend(&out_, std::string(2 * i, ' '), names[i], ":\n");
    }
    depth_ = static_cast<int>(names.size()) - 1;
    absl::StrAppend(&out_, std::string(2 * depth_, ' '), names.back(), ":");
    names.pop_back();
    open_ = std::move(names);
  }

  void Line(const Field& field, int indent, absl::string_view value) {
    Key(field, indent);
    absl::StrAppend(&out_, " ", value, "\n");
  }

  void Put(const Field& field, int indent, bool value) {
    Line(field, indent, value ? "true" : "false");
  }
  void Put(const Field& field, int indent, int64_t value) {
    Line(field, indent, absl::StrCat(value));
  }
  void Put(const Field& field, int indent, uint64_t value) {
    Line(field, indent, absl::StrCat(value));
  }
  void Put(const Field& field, int indent, double value) { Line(field, indent, NumberText(value)); }
  void Put(const Field& field, int indent, const std::string& value) {
    if (!value.empty()) Line(field, indent, Text(value));
  }
  template <class Enum>
    requires std::is_enum_v<Enum>
  void Put(const Field& field, int indent, Enum value) {
    Line(field, indent, Text(field.choices[static_cast<size_t>(value)]));
  }
  void Put(const Field& field, int indent, const std::vector<std::string>& list) {
    Line(field, indent, FlowText(list));
  }
  void Put(const Field& field, int indent, const std::vector<int64_t>& list) {
    if (!list.empty()) Line(field, indent, absl::StrCat("[", absl::StrJoin(list, ", "), "]"));
  }
  void Put(const Field& field, int indent, const Labels& labels) {
    if (labels.empty()) return;
    Line(field, indent,
         absl::StrCat("{",
                      absl::StrJoin(labels, ", ",
                                    [](std::string* out, const auto& label) {
                                      absl::StrAppend(out, Text(label.first), ": ",
                                                      Text(label.second));
                                    }),
                      "}"));
  }
  void Put(const Field& field, int indent, const Params& params) {
    if (params.empty()) return;
    Line(field, indent,
         absl::StrCat("{",
                      absl::StrJoin(params, ", ",
                                    [](std::string* out, const auto& param) {
                                      absl::StrAppend(out, Text(param.first), ": ",
                                                      NumberText(param.second));
                                    }),
                      "}"));
  }
  void Put(const Field& field, int, std::vector<PredictorSpec>& list) {
    PutItems(field, PredictorFields(), list);
  }
  void Put(const Field& field, int, std::vector<FailureRule>& list) {
    PutItems(field, FailureFields(), list);
  }

  template <class Item>
  void PutItems(const Field& field, std::span<const Field> fields, std::vector<Item>& list) {
    Key(field, 0);
    absl::StrAppend(&out_, list.empty() ? " []\n" : "\n");
    const int indent = 2 * depth_ + 4;
    for (Item& item : list) {
      item_begins_ = true;
      for (const Field& part : fields) {
        std::visit([&](auto* value) { Put(part, indent, *value); }, part.access.at(&item));
      }
    }
  }

  std::string out_;
  std::vector<std::string>
      open_;                  // names of the sections whose keys are being printed, from outside in
  int depth_ = 0;             // of the newest key
  bool item_begins_ = false;  // the next key is the first of a list's item
};

}  // namespace

std::string JobSpecToYaml(const JobSpec& spec) { return Printer().Print(spec); }

}  // namespace leap
