// The committed reference page and JSON Schema are those of the code, and the schema says what the
// parser says.
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "base/test_paths.h"
#include "core/job_spec.h"
#include "core/job_spec_table.h"
#include "core/yaml_tree.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using Json = nlohmann::ordered_json;

std::string ReadSource(absl::string_view path) {
  std::ifstream file(SourcePath(path));
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// A YAML value as JSON, by the rules of YAML 1.2.
Json ToJson(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return nullptr;
    case YamlNode::Kind::kSequence: {
      Json list = Json::array();
      for (const YamlNode& item : node.items) list.push_back(ToJson(item));
      return list;
    }
    case YamlNode::Kind::kMapping: {
      Json object = Json::object();
      for (size_t i = 0; i < node.keys.size(); ++i)
        object[node.keys[i].text] = ToJson(node.items[i]);
      return object;
    }
    case YamlNode::Kind::kScalar:
      break;
  }
  if (node.quoted) return node.text;
  if (node.text == "true" || node.text == "false") return node.text == "true";
  int64_t whole = 0;
  double number = 0;
  if (absl::SimpleAtoi(node.text, &whole)) return whole;
  if (absl::SimpleAtod(node.text, &number)) return number;
  return node.text;
}

bool HasType(const Json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "number") return value.is_number();
  if (type == "integer") return value.is_number_integer() || value.is_number_unsigned();
  ADD_FAILURE() << "unknown type " << type;
  return false;
}

// A naive validator of the part of JSON Schema that ours uses. Returns the first complaint, or
// nothing.
std::string Complaint(const Json& schema, const Json& value, const std::string& path) {
  if (schema.contains("const") && schema["const"] != value) return path + ": const";
  if (schema.contains("type")) {
    bool fits = false;
    const Json types = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
    for (const Json& type : types) fits |= HasType(value, type);
    if (!fits) return path + ": type";
  }
  if (schema.contains("enum") &&
      std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end()) {
    return path + ": enum";
  }
  if (value.is_number()) {
    const double number = value;
    if (schema.contains("minimum") && number < schema["minimum"]) return path + ": minimum";
    if (schema.contains("maximum") && number > schema["maximum"]) return path + ": maximum";
    if (schema.contains("exclusiveMinimum") && number <= schema["exclusiveMinimum"])
      return path + ": exclusiveMinimum";
    if (schema.contains("exclusiveMaximum") && number >= schema["exclusiveMaximum"])
      return path + ": exclusiveMaximum";
  }
  if (value.is_array() && schema.contains("items")) {
    for (const Json& item : value) {
      if (std::string bad = Complaint(schema["items"], item, path + "[]"); !bad.empty()) return bad;
    }
  }
  if (!value.is_object()) return "";
  for (const Json& name : schema.value("required", Json::array())) {
    if (!value.contains(name)) return absl::StrCat(path, ": lacks ", std::string(name));
  }
  for (const auto& [key, item] : value.items()) {
    const Json properties = schema.value("properties", Json::object());
    const bool known = properties.contains(key);
    const Json inner = known ? properties[key] : schema.value("additionalProperties", Json(true));
    if (inner == Json(false)) return absl::StrCat(path, ": unknown ", key);
    if (inner.is_boolean()) continue;
    if (std::string bad = Complaint(inner, item, absl::StrCat(path, ".", key)); !bad.empty())
      return bad;
  }
  return "";
}

std::string SchemaComplaint(absl::string_view yaml) {
  static const auto* const schema = new Json(Json::parse(JobSpecJsonSchema()));
  const YamlDocument document = ParseYaml(yaml);
  return document.readable ? Complaint(*schema, ToJson(document.root), "job") : "unreadable";
}

// The smallest job with one field of the table set to `value`.
std::string JobWith(absl::string_view path, absl::string_view value) {
  Json job = {{"apiVersion", "leap/v1"}, {"kind", "Job"}};
  const auto set = [&](absl::string_view at, const Json& to) {
    std::string pointer = absl::StrCat("/", at);
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    job[Json::json_pointer(pointer)] = to;
  };
  set("metadata.name", "good");
  set("spec.data.paths", Json::array({"a"}));
  set("spec.train.steps", 1000);
  set(path, "VALUE");
  const std::string text = job.dump();
  const size_t at = text.find("\"VALUE\"");
  return absl::StrCat(text.substr(0, at), value, text.substr(at + 7));
}

TEST(JobSpecDocsTest, TheReferencePageIsTheCodes) {
  EXPECT_EQ(ReadSource("docs/job.md"), JobSpecReferenceMarkdown())
      << "run: leapctl docs job > docs/job.md";
}

TEST(JobSpecDocsTest, TheSchemaFileIsTheCodes) {
  EXPECT_EQ(ReadSource("docs/job.schema.json"), JobSpecJsonSchema())
      << "run: leapctl docs schema > docs/job.schema.json";
}

TEST(JobSpecDocsTest, TheSchemaAcceptsTheExamplesAsWrittenAndAsResolved) {
  for (const char* name : {"demo", "line-search", "minimal", "paper"}) {
    const std::string yaml = ReadSource(absl::StrCat("examples/", name, ".yaml"));
    ASSERT_OK_AND_ASSIGN(const JobSpec spec, ParseJobSpec(yaml));
    EXPECT_EQ(SchemaComplaint(yaml), "") << name;
    EXPECT_EQ(SchemaComplaint(JobSpecToYaml(spec)), "") << name;
  }
}

TEST(JobSpecDocsTest, TheSchemaRefusesWhatTheParserRefusesByTheTable) {
  EXPECT_EQ(SchemaComplaint(JobWith("spec.train.lr", "0")), "job.spec.train.lr: exclusiveMinimum");
  EXPECT_EQ(SchemaComplaint(JobWith("spec.train.beta1", "1")),
            "job.spec.train.beta1: exclusiveMaximum");
  EXPECT_EQ(SchemaComplaint(JobWith("spec.train.steps", "1.5")), "job.spec.train.steps: type");
  EXPECT_EQ(SchemaComplaint(JobWith("spec.train.sede", "1")), "job.spec.train: unknown sede");
  EXPECT_EQ(SchemaComplaint(JobWith("spec.leap.policy", "papper")), "job.spec.leap.policy: enum");
  EXPECT_EQ(SchemaComplaint(JobWith("spec.leap.predictors", "[{name: liner}]")),
            "job.spec.leap.predictors[].name: enum");
  EXPECT_EQ(SchemaComplaint("{apiVersion: leap/v1, kind: Job, metadata: {name: a}}"),
            "job: lacks spec");
}

// For every number of the table: just outside its bounds both refuse, at its bounds the schema
// accepts.
TEST(JobSpecDocsTest, SchemaAndParserAgreeOnTheBoundsOfEveryNumber) {
  for (const Field& field : JobFields()) {
    const bool number = std::holds_alternative<int64_t*>(field.access.type) ||
                        std::holds_alternative<double*>(field.access.type);
    if (!number) continue;
    SCOPED_TRACE(std::string(field.path));
    const Bounds& bounds = field.bounds;
    EXPECT_EQ(SchemaComplaint(JobWith(field.path, NumberText(bounds.max))) == "",
              !bounds.below_max);
    EXPECT_EQ(SchemaComplaint(JobWith(field.path, NumberText(bounds.min))) == "",
              !bounds.above_min);
    for (const double outside : {bounds.min - 1, bounds.max + 1}) {
      const std::string job = JobWith(field.path, NumberText(outside));
      EXPECT_NE(SchemaComplaint(job), "") << job;
      EXPECT_THAT(ParseJobSpec(job), StatusIs(absl::StatusCode::kInvalidArgument)) << job;
    }
  }
}

TEST(JobSpecDocsTest, EveryDefaultLiesWithinItsBounds) {
  JobSpec job;
  for (const Field& field : JobFields()) {
    const FieldRef ref = field.access.at(&job);
    const auto inside = [&](double value) {
      return value >= field.bounds.min && value <= field.bounds.max;
    };
    if (field.required) continue;
    if (auto* whole = std::get_if<int64_t*>(&ref)) {
      EXPECT_TRUE(inside(static_cast<double>(**whole))) << field.path;
    } else if (auto* number = std::get_if<double*>(&ref)) {
      EXPECT_TRUE(inside(**number)) << field.path;
    }
  }
}

TEST(JobSpecDocsTest, EveryFieldIsDocumentedByASentence) {
  for (std::span<const Field> fields : {JobFields(), PredictorFields(), FailureFields()}) {
    for (const Field& field : fields) {
      ASSERT_FALSE(field.doc.empty()) << field.path;
      EXPECT_EQ(field.doc.back(), '.') << field.path;
    }
  }
}

}  // namespace
}  // namespace leap
