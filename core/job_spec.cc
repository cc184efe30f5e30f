// Reads a YAML tree into a JobSpec by walking the table of fields, and collects what is wrong with
// it.
#include "core/job_spec.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error_reason.h"
#include "base/nearest.h"
#include "core/job_spec_table.h"
#include "core/yaml_tree.h"

namespace leap {
namespace {

constexpr size_t kMaxFindings = 20;

std::string Join(absl::string_view prefix, absl::string_view key) {
  return prefix.empty() ? std::string(key) : absl::StrCat(prefix, ".", key);
}

// A plain decimal number, as in YAML 1.2: sign, digits, fraction, exponent.
bool IsNumberText(absl::string_view text) {
  size_t at = 0;
  const auto digits = [&] {
    const size_t start = at;
    while (at < text.size() && absl::ascii_isdigit(text[at])) ++at;
    return at - start;
  };
  if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
  size_t count = digits();
  if (at < text.size() && text[at] == '.') {
    ++at;
    count += digits();
  }
  if (count == 0) return false;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
    if (digits() == 0) return false;
  }
  return at == text.size();
}

bool IsTrue(absl::string_view text) { return text == "true" || text == "True" || text == "TRUE"; }
bool IsFalse(absl::string_view text) {
  return text == "false" || text == "False" || text == "FALSE";
}

std::string Saw(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kSequence:
      return "a list";
    case YamlNode::Kind::kMapping:
      return "a mapping";
    case YamlNode::Kind::kScalar:
      break;
  }
  const bool bare =
      !node.quoted && (IsNumberText(node.text) || IsTrue(node.text) || IsFalse(node.text));
  const std::string text =
      node.text.size() > 60 ? absl::StrCat(node.text.substr(0, 57), "...") : node.text;
  if (bare) return text;
  return absl::StrCat(node.quoted && IsNumberText(node.text) ? "the text '" : "'", text, "'");
}

bool InBounds(const Bounds& bounds, double value) {
  if (bounds.above_min ? value <= bounds.min : value < bounds.min) return false;
  return bounds.below_max ? value < bounds.max : value <= bounds.max;
}

class Reader {
 public:
  explicit Reader(JobSpec& spec) : spec_(spec) {}

  // All findings, in order of line, at most kMaxFindings.
  std::vector<SpecError> Read(absl::string_view yaml);

 private:
  void ReadRoot(const YamlNode& root);
  void ReadConstant(const YamlNode& root, absl::string_view key, absl::string_view value);
  void ReadPolicy(const YamlNode& root);
  // The keys of `node`, which is the section `section` of `fields` ("": the item of a list), shown
  // as `path`.
  void ReadKeys(const YamlNode& node, const std::string& path, const std::string& section,
                std::span<const Field> fields, void* object);
  void ReadUnknownKey(const YamlKey& key, const std::string& path, const std::string& section,
                      std::span<const Field> fields);
  void CheckRequired(const std::string& path, std::span<const Field> fields, int line);
  void FillIn();
  void CheckRules();

  void Set(const Field& field, const YamlNode& node, const std::string& path, bool* out);
  void Set(const Field& field, const YamlNode& node, const std::string& path, int64_t* out);
  void Set(const Field& field, const YamlNode& node, const std::string& path, uint64_t* out);
  void Set(const Field& field, const YamlNode& node, const std::string& path, double* out);
  void Set(const Field& field, const YamlNode& node, const std::string& path, std::string* out);
  void Set(const Field& field, const YamlNode& node, const std::string& path, Labels* out);
  void Set(const Field& field, const YamlNode& node, const std::string& path, Params* out);
  void Set(const Field& field, const YamlNode& node, const std::string& path,
           std::vector<PredictorSpec>* out);
  void Set(const Field& field, const YamlNode& node, const std::string& path,
           std::vector<FailureRule>* out);
  template <class Enum>
    requires std::is_enum_v<Enum>
  void Set(const Field& field, const YamlNode& node, const std::string& path, Enum* out);
  template <class Item>
  void Set(const Field& field, const YamlNode& node, const std::string& path,
           std::vector<Item>* out);
  template <class Item>
  void ReadItems(std::span<const Field> fields, const YamlNode& node, const std::string& path,
                 std::vector<Item>* out);

  bool Expect(YamlNode::Kind kind, const Field& field, const YamlNode& node,
              const std::string& path);
  void Unexpected(const Field& field, const YamlNode& node, const std::string& path,
                  absl::string_view hint = "");
  void Add(int line, std::string path, std::string message);
  int LineOf(absl::string_view path) const;
  bool Unreadable(absl::string_view path) const;  // it, or a section around it
  bool Given(absl::string_view path) const { return lines_.count(std::string(path)) > 0; }

  JobSpec& spec_;
  std::vector<SpecError> errors_;
  std::map<std::string, int> lines_;  // of what the file gives, by path
  std::set<std::string> unreadable_;  // fields of the table whose value could not be read
};

void Reader::Add(int line, std::string path, std::string message) {
  unreadable_.insert(path.substr(0, path.find('[')));
  if (path.size() > 160) path = absl::StrCat(path.substr(0, 157), "...");
  errors_.push_back({line, std::move(path), std::move(message)});
}

bool Reader::Unreadable(absl::string_view path) const {
  for (size_t end = path.size(); end != absl::string_view::npos; end = path.rfind('.', end - 1)) {
    if (unreadable_.count(std::string(path.substr(0, end))) > 0) return true;
    if (end == 0) break;
  }
  return false;
}

void Reader::Unexpected(const Field& field, const YamlNode& node, const std::string& path,
                        absl::string_view hint) {
  Add(node.line, path, absl::StrCat("expected ", Expectation(field), ", saw ", Saw(node), hint));
}

bool Reader::Expect(YamlNode::Kind kind, const Field& field, const YamlNode& node,
                    const std::string& path) {
  if (node.kind == kind) return true;
  Unexpected(field, node, path);
  return false;
}

int Reader::LineOf(absl::string_view path) const {
  while (!path.empty()) {
    if (const auto found = lines_.find(std::string(path)); found != lines_.end())
      return found->second;
    const size_t end = path.find_last_of(".[");
    path = path.substr(0, end == absl::string_view::npos ? 0 : end);
  }
  return 1;
}

void Reader::Set(const Field& field, const YamlNode& node, const std::string& path, bool* out) {
  const bool plain = node.kind == YamlNode::Kind::kScalar && !node.quoted;
  if (plain && (IsTrue(node.text) || IsFalse(node.text))) {
    *out = IsTrue(node.text);
    return;
  }
  Unexpected(
      field, node, path,
      node.quoted && (IsTrue(node.text) || IsFalse(node.text)) ? "; take the quotes off" : "");
}

void Reader::Set(const Field& field, const YamlNode& node, const std::string& path, int64_t* out) {
  int64_t value = 0;
  const bool plain = node.kind == YamlNode::Kind::kScalar && !node.quoted;
  if (plain && IsNumberText(node.text) && absl::SimpleAtoi(node.text, &value) &&
      InBounds(field.bounds, static_cast<double>(value))) {
    *out = value;
    return;
  }
  Unexpected(field, node, path,
             node.quoted && IsNumberText(node.text) ? "; take the quotes off" : "");
}

void Reader::Set(const Field& field, const YamlNode& node, const std::string& path, uint64_t* out) {
  const bool plain = node.kind == YamlNode::Kind::kScalar && !node.quoted;
  if (plain && IsNumberText(node.text) && absl::SimpleAtoi(node.text, out)) return;
  Unexpected(field, node, path,
             node.quoted && IsNumberText(node.text) ? "; take the quotes off" : "");
}

void Reader::Set(const Field& field, const YamlNode& node, const std::string& path, double* out) {
  double value = 0;
  const bool plain = node.kind == YamlNode::Kind::kScalar && !node.quoted;
  if (plain && IsNumberText(node.text) && absl::SimpleAtod(node.text, &value) &&
      std::isfinite(value) && InBounds(field.bounds, value)) {
    *out = value;
    return;
  }
  Unexpected(field, node, path,
             node.quoted && IsNumberText(node.text) ? "; take the quotes off" : "");
}

void Reader::Set(const Field& field, const YamlNode& node, const std::string& path,
                 std::string* out) {
  const bool scalar = node.kind == YamlNode::Kind::kScalar;
  if (!field.choices.empty()) {
    if (scalar &&
        std::find(field.choices.begin(), field.choices.end(), node.text) != field.choices.end()) {
      *out = node.text;
      return;
    }
    const std::vector<absl::string_view> words(field.choices.begin(), field.choices.end());
    Unexpected(field, node, path, scalar ? DidYouMean(node.text, words) : "");
    return;
  }
  const bool bare = scalar && !node.quoted &&
                    (IsNumberText(node.text) || IsTrue(node.text) || IsFalse(node.text));
  if (scalar && !bare) {
    *out = node.text;
    return;
  }
  Unexpected(field, node, path, bare ? "; put it in quotes" : "");
}

template <class Enum>
  requires std::is_enum_v<Enum>
void Reader::Set(const Field& field, const YamlNode& node, const std::string& path, Enum* out) {
  std::string word;
  Set(field, node, path, &word);
  const auto found = std::find(field.choices.begin(), field.choices.end(), word);
  if (found != field.choices.end()) *out = static_cast<Enum>(found - field.choices.begin());
}

// Lists of numbers and of text: each item by the rules of the field.
template <class Item>
void Reader::Set(const Field& field, const YamlNode& node, const std::string& path,
                 std::vector<Item>* out) {
  if (node.kind != YamlNode::Kind::kSequence) {
    Unexpected(field, node, path,
               node.kind == YamlNode::Kind::kScalar ? "; put it in brackets" : "");
    return;
  }
  Field item_field = field;
  item_field.access.type = static_cast<Item*>(nullptr);
  out->clear();
  for (size_t i = 0; i < node.items.size(); ++i) {
    const std::string item_path = absl::StrCat(path, "[", i, "]");
    lines_[item_path] = node.items[i].line;
    Set(item_field, node.items[i], item_path, &out->emplace_back());
  }
}

void Reader::Set(const Field& field, const YamlNode& node, const std::string& path, Labels* out) {
  if (node.kind == YamlNode::Kind::kNull) return;
  if (!Expect(YamlNode::Kind::kMapping, field, node, path)) return;
  Field item = field;
  item.access.type = static_cast<std::string*>(nullptr);
  out->clear();
  for (size_t i = 0; i < node.keys.size(); ++i) {
    const std::string item_path = Join(path, node.keys[i].text);
    lines_[item_path] = node.keys[i].line;
    out->emplace_back(node.keys[i].text, "");
    Set(item, node.items[i], item_path, &out->back().second);
  }
}

void Reader::Set(const Field& field, const YamlNode& node, const std::string& path, Params* out) {
  if (node.kind == YamlNode::Kind::kNull) return;
  if (!Expect(YamlNode::Kind::kMapping, field, node, path)) return;
  out->clear();
  for (size_t i = 0; i < node.keys.size(); ++i) {
    const std::string item_path = Join(path, node.keys[i].text);
    const YamlNode& item = node.items[i];
    lines_[item_path] = node.keys[i].line;
    double value = 0;
    if (item.kind == YamlNode::Kind::kScalar && !item.quoted && IsNumberText(item.text) &&
        absl::SimpleAtod(item.text, &value) && std::isfinite(value)) {
      out->emplace_back(node.keys[i].text, value);
    } else {
      Add(item.line, item_path, absl::StrCat("expected a number, saw ", Saw(item)));
    }
  }
}

template <class Item>
void Reader::ReadItems(std::span<const Field> fields, const YamlNode& node, const std::string& path,
                       std::vector<Item>* out) {
  out->clear();
  for (size_t i = 0; i < node.items.size(); ++i) {
    const YamlNode& item = node.items[i];
    const std::string item_path = absl::StrCat(path, "[", i, "]");
    lines_[item_path] = item.line;
    out->emplace_back();
    if (item.kind != YamlNode::Kind::kMapping) {
      Add(item.line, item_path,
          absl::StrCat("expected a mapping such as {", fields.front().path, ": ...}, saw ",
                       Saw(item)));
      continue;
    }
    ReadKeys(item, item_path, "", fields, &out->back());
    CheckRequired(item_path, fields, item.line);
  }
}

void Reader::Set(const Field& field, const YamlNode& node, const std::string& path,
                 std::vector<PredictorSpec>* out) {
  if (!Expect(YamlNode::Kind::kSequence, field, node, path)) return;
  ReadItems(PredictorFields(), node, path, out);
}

void Reader::Set(const Field& field, const YamlNode& node, const std::string& path,
                 std::vector<FailureRule>* out) {
  if (!Expect(YamlNode::Kind::kSequence, field, node, path)) return;
  ReadItems(FailureFields(), node, path, out);
}

void Reader::ReadKeys(const YamlNode& node, const std::string& path, const std::string& section,
                      std::span<const Field> fields, void* object) {
  for (size_t i = 0; i < node.keys.size(); ++i) {
    const YamlKey& key = node.keys[i];
    const YamlNode& value = node.items[i];
    const std::string key_path = Join(path, key.text);
    const std::string field_path = Join(section, key.text);
    const bool plain = key.text.find_first_of(".[") == std::string::npos;
    const Field* field = plain ? FindField(fields, field_path) : nullptr;
    lines_[key_path] = key.line;
    if (field != nullptr) {
      std::visit([&](auto* out) { Set(*field, value, key_path, out); }, field->access.at(object));
    } else if (plain && object == &spec_ && IsSection(field_path)) {
      if (value.kind == YamlNode::Kind::kMapping) {
        ReadKeys(value, key_path, field_path, fields, object);
      } else if (value.kind != YamlNode::Kind::kNull) {
        Add(value.line, key_path,
            absl::StrCat("expected a mapping of ", absl::StrJoin(KeysUnder(field_path), ", "),
                         ", saw ", Saw(value)));
      }
    } else if (!section.empty() || object != &spec_ ||
               (key.text != "apiVersion" && key.text != "kind")) {
      ReadUnknownKey(key, path, section, fields);
    }
  }
}

void Reader::ReadUnknownKey(const YamlKey& key, const std::string& path, const std::string& section,
                            std::span<const Field> fields) {
  std::vector<std::string> valid;
  const bool job = fields.data() == JobFields().data();
  if (job) {
    valid = KeysUnder(section);
  } else {
    for (const Field& field : fields) valid.emplace_back(field.path);
  }
  const std::vector<absl::string_view> names(valid.begin(), valid.end());
  const std::string shown =
      key.text.size() > 60 ? absl::StrCat(key.text.substr(0, 57), "...") : key.text;
  std::string message = absl::StrCat("unknown key '", shown, "'");
  const std::string near = DidYouMean(key.text, names);
  std::string home;
  for (const Field& field : JobFields()) {
    const size_t dot = field.path.rfind('.');
    if (field.path.substr(dot + 1) == key.text) home = std::string(field.path.substr(0, dot));
  }
  if (!near.empty()) {
    absl::StrAppend(&message, near);
  } else if (!home.empty()) {
    absl::StrAppend(&message, "; it belongs under ", home);
  } else {
    absl::StrAppend(&message, "; valid here: ", absl::StrJoin(valid, ", "));
  }
  errors_.push_back({key.line, path.empty() ? shown : Join(path, shown), std::move(message)});
}

void Reader::CheckRequired(const std::string& path, std::span<const Field> fields, int line) {
  for (const Field& field : fields) {
    const std::string full = Join(path, field.path);
    if (!field.required || Given(full) || Unreadable(full)) continue;
    Add(line > 0 ? line : LineOf(full), full,
        absl::StrCat("missing; expected ", Expectation(field)));
  }
}

void Reader::ReadConstant(const YamlNode& root, absl::string_view key, absl::string_view value) {
  const YamlNode* node = FindKey(root, key);
  if (node == nullptr) {
    Add(1, std::string(key), absl::StrCat("missing; expected ", key, ": ", value));
  } else if (node->kind != YamlNode::Kind::kScalar || node->text != value) {
    Add(node->line, std::string(key), absl::StrCat("expected ", value, ", saw ", Saw(*node)));
  }
}

// The preset comes first, whatever the order of keys; what the file says is written over it.
void Reader::ReadPolicy(const YamlNode& root) {
  ApplyPolicy("default", spec_);
  const YamlNode* node = FindKey(root, "spec");
  if (node != nullptr) node = FindKey(*node, "leap");
  if (node != nullptr) node = FindKey(*node, "policy");
  if (node != nullptr && node->kind == YamlNode::Kind::kScalar && !ApplyPolicy(node->text, spec_)) {
    ApplyPolicy("default", spec_);
  }
}

void Reader::FillIn() {
  if (!spec_.model.config.empty() && !Given("spec.model.preset")) spec_.model.preset.clear();
  if (!Given("spec.train.warmup_steps")) {
    spec_.train.warmup_steps = std::min(spec_.train.warmup_steps, spec_.train.steps);
  }
  ResolveJobSpec(spec_);
}

void Reader::CheckRules() {
  for (const Rule& rule : JobRules()) {
    const bool readable = std::none_of(
        rule.reads.begin(), rule.reads.end(),
        [&](absl::string_view path) { return unreadable_.count(std::string(path)) > 0; });
    if (!readable) continue;
    for (SpecError& finding : rule.check(spec_)) {
      finding.line = LineOf(finding.path);
      errors_.push_back(std::move(finding));
    }
  }
}

void Reader::ReadRoot(const YamlNode& root) {
  if (root.kind != YamlNode::Kind::kMapping) {
    Add(std::max(root.line, 1), "",
        absl::StrCat("expected a job: a mapping of apiVersion, kind, metadata, spec; saw ",
                     Saw(root)));
    return;
  }
  ReadConstant(root, "apiVersion", kApiVersion);
  ReadConstant(root, "kind", kJobKind);
  ReadPolicy(root);
  ReadKeys(root, "", "", JobFields(), &spec_);
  CheckRequired("", JobFields(), 0);
  FillIn();
  CheckRules();
}

std::vector<SpecError> Reader::Read(absl::string_view yaml) {
  YamlDocument document = ParseYaml(yaml);
  errors_ = std::move(document.errors);
  if (document.readable) ReadRoot(document.root);
  std::stable_sort(errors_.begin(), errors_.end(),
                   [](const SpecError& a, const SpecError& b) { return a.line < b.line; });
  if (errors_.size() > kMaxFindings) errors_.resize(kMaxFindings);
  return std::move(errors_);
}

}  // namespace

std::vector<SpecError> CheckJobSpec(absl::string_view yaml, JobSpec* spec) {
  *spec = JobSpec{};
  return Reader(*spec).Read(yaml);
}

absl::StatusOr<JobSpec> ParseJobSpec(absl::string_view yaml, absl::string_view file) {
  JobSpec spec;
  const std::vector<SpecError> findings = CheckJobSpec(yaml, &spec);
  if (findings.empty()) return spec;
  std::vector<std::string> lines;
  for (const SpecError& finding : findings) {
    std::string line;
    if (!file.empty()) absl::StrAppend(&line, file, ":");
    if (finding.line > 0) absl::StrAppend(&line, file.empty() ? "line " : "", finding.line, ":");
    if (!line.empty()) line += ' ';
    if (!finding.path.empty()) absl::StrAppend(&line, finding.path, ": ");
    lines.push_back(absl::StrCat(line, finding.message));
  }
  if (findings.size() == kMaxFindings)
    lines.push_back("these are the first 20 findings; mend them to see whether there are more");
  return MakeError(
      absl::StatusCode::kInvalidArgument, ErrorReason::kJobSpecInvalid, absl::StrJoin(lines, "\n"),
      {{"findings", absl::StrCat(findings.size())}, {"first_path", findings.front().path}});
}

}  // namespace leap
