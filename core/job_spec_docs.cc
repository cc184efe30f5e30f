// What the table of fields says about itself: the JSON Schema for editors and the reference page
// docs/job.md.
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "core/job_spec_table.h"
#include "core/predictor.h"

namespace leap {
namespace {

using Json = nlohmann::ordered_json;

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};

// ---- values of fields, as JSON and as words ----

Json NumberJson(double value) {
  if (value == 18446744073709551615.0) return UINT64_MAX;
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return value;
}

// The default of a field: what a fresh object has. Null: none worth showing.
Json DefaultJson(const Field& field, void* object) {
  return std::visit(
      Overloaded{
          [](bool* value) { return Json(*value); },
          [](int64_t* value) { return Json(*value); },
          [](uint64_t* value) { return Json(*value); },
          [](double* value) { return NumberJson(*value); },
          [](std::string* value) { return value->empty() ? Json() : Json(*value); },
          [](std::vector<std::string>* value) { return value->empty() ? Json() : Json(*value); },
          [](std::vector<int64_t>*) { return Json(); },
          [](Labels*) { return Json(); },
          [](Params*) { return Json(); },
          [](std::vector<PredictorSpec>*) { return Json(); },
          [](std::vector<FailureRule>*) { return Json(); },
          [&](auto* value) { return Json(field.choices[static_cast<size_t>(*value)]); },
      },
      field.access.at(object));
}

Json BoundsJson(const char* type, const Bounds& bounds) {
  Json schema = {{"type", type}};
  schema[bounds.above_min ? "exclusiveMinimum" : "minimum"] = NumberJson(bounds.min);
  schema[bounds.below_max ? "exclusiveMaximum" : "maximum"] = NumberJson(bounds.max);
  return schema;
}

Json WordsJson(const Field& field) {
  Json schema = {{"type", "string"}};
  if (!field.choices.empty()) schema["enum"] = field.choices;
  return schema;
}

Json ItemsSchema(std::span<const Field> fields);

Json TypeSchema(const Field& field) {
  return std::visit(Overloaded{
                        [](bool*) { return Json{{"type", "boolean"}}; },
                        [&](int64_t*) { return BoundsJson("integer", field.bounds); },
                        [&](uint64_t*) { return BoundsJson("integer", field.bounds); },
                        [&](double*) { return BoundsJson("number", field.bounds); },
                        [&](std::string*) { return WordsJson(field); },
                        [&](std::vector<std::string>*) {
                          return Json{{"type", "array"}, {"items", WordsJson(field)}};
                        },
                        [&](std::vector<int64_t>*) {
                          return Json{{"type", "array"},
                                      {"items", BoundsJson("integer", field.bounds)}};
                        },
                        [](Labels*) {
                          return Json{{"type", {"object", "null"}},
                                      {"additionalProperties", {{"type", "string"}}}};
                        },
                        [](Params*) {
                          return Json{{"type", {"object", "null"}},
                                      {"additionalProperties", {{"type", "number"}}}};
                        },
                        [](std::vector<PredictorSpec>*) {
                          return Json{{"type", "array"}, {"items", ItemsSchema(PredictorFields())}};
                        },
                        [](std::vector<FailureRule>*) {
                          return Json{{"type", "array"}, {"items", ItemsSchema(FailureFields())}};
                        },
                        [&](auto*) { return WordsJson(field); },
                    },
                    field.access.type);
}

// ---- JSON Schema ----

// Adds a field to the object schema that its section is.
void AddField(Json& parent, absl::string_view key, const Field& field, const Json& fallback) {
  Json schema = TypeSchema(field);
  schema["description"] = std::string(field.doc);
  if (!fallback.is_null()) schema["default"] = fallback;
  const std::string name(key);
  parent["properties"][name] = std::move(schema);
  if (field.required) parent["required"].push_back(name);
}

Json ObjectSchema(absl::string_view doc) {
  Json schema = {{"type", "object"}, {"additionalProperties", false}};
  if (!doc.empty()) schema["description"] = std::string(doc);
  return schema;
}

Json ItemsSchema(std::span<const Field> fields) {
  Json schema = ObjectSchema("");
  for (const Field& field : fields) AddField(schema, field.path, field, Json());
  if (fields.data() == PredictorFields().data()) {
    for (const PredictorInfo& info : RegisteredPredictors()) {
      schema["properties"]["name"]["enum"].push_back(info.name);
    }
  }
  return schema;
}

// The sections a required field lies in are required too; the others may be left empty.
bool IsRequired(absl::string_view section) {
  for (const Field& field : JobFields()) {
    if (field.required && absl::StrContains(field.path, absl::StrCat(section, "."))) return true;
  }
  return false;
}

Json& SectionSchema(Json& root, absl::string_view path) {
  Json* schema = &root;
  std::string open;
  for (absl::string_view name : absl::StrSplit(path, '.')) {
    absl::StrAppend(&open, open.empty() ? "" : ".", name);
    Json& properties = (*schema)["properties"];
    if (!properties.contains(std::string(name))) {
      absl::string_view doc;
      for (const Section& section : JobSections()) {
        if (section.path == open) doc = section.doc;
      }
      Json fresh = ObjectSchema(doc);
      if (IsRequired(open)) {
        (*schema)["required"].push_back(std::string(name));
      } else {
        fresh["type"] = {"object", "null"};
      }
      (*schema)["properties"][std::string(name)] = std::move(fresh);
    }
    schema = &(*schema)["properties"][std::string(name)];
  }
  return *schema;
}

// ---- the reference page ----

std::string Cell(absl::string_view text) { return absl::StrReplaceAll(text, {{"|", "\\|"}}); }

std::string DefaultCell(const Field& field, const Json& fallback) {
  if (field.required) return "required";
  if (field.path == "spec.failure") return "see below";
  if (absl::StartsWith(field.path, "spec.leap.predictors") || field.path == "spec.leap.regimes")
    return "by policy";
  if (fallback.is_null()) return "";
  if (fallback.is_number_float()) return absl::StrCat("`", NumberText(fallback.get<double>()), "`");
  return absl::StrCat("`", fallback.is_string() ? fallback.get<std::string>() : fallback.dump(),
                      "`");
}

std::string FieldRow(absl::string_view key, const Field& field, const Json& fallback) {
  return absl::StrCat("| `", key, "` | ", Cell(Expectation(field)), " | ",
                      DefaultCell(field, fallback), " | ", Cell(field.doc), " |\n");
}

constexpr absl::string_view kFieldHeader =
    "| key | value | default | meaning |\n| --- | --- | --- | --- |\n";

std::string SectionPages() {
  JobSpec job;
  ApplyPolicy("default", job);
  std::string page;
  for (const Section& section : JobSections()) {
    std::string rows;
    for (const Field& field : JobFields()) {
      const size_t dot = field.path.rfind('.');
      if (field.path.substr(0, dot) != section.path) continue;
      absl::StrAppend(&rows, FieldRow(field.path.substr(dot + 1), field, DefaultJson(field, &job)));
    }
    if (!rows.empty()) {
      absl::StrAppend(&page, "\n## ", section.path, "\n", section.doc, "\n\n", kFieldHeader, rows);
    }
  }
  return page;
}

std::string ItemTable(std::span<const Field> fields, void* object) {
  std::string rows(kFieldHeader);
  for (const Field& field : fields) {
    absl::StrAppend(&rows, FieldRow(field.path, field, DefaultJson(field, object)));
  }
  return rows;
}

// The spec.leap of a preset (and what else it sets), as it would stand in a job file.
std::string PolicyYaml(absl::string_view policy) {
  JobSpec job;
  ApplyPolicy(policy, job);
  std::string text;
  bool inside = false;
  const std::string yaml = JobSpecToYaml(job);
  for (absl::string_view line : absl::StrSplit(yaml, '\n')) {
    if (absl::StartsWith(line, "  ") && !absl::StartsWith(line, "   "))
      inside = line == "  leap:" || line == "  regime:";
    if (inside && !line.empty()) absl::StrAppend(&text, line.substr(2), "\n");
  }
  return text;
}

std::string PolicyPages() {
  std::string page =
      "\n## Policies\n"
      "A policy is a preset of `spec.leap`; what the file says is written over it. `off` trains as "
      "if Leap were not there: no snapshots, held-out losses at the end only.\n";
  for (const std::string& policy : FindField(JobFields(), "spec.leap.policy")->choices) {
    if (policy == "off") continue;
    absl::StrAppend(&page, "\n### ", policy, "\n```yaml\n", PolicyYaml(policy), "```\n");
  }
  return page;
}

std::string PredictorPages() {
  PredictorSpec predictor;
  std::string page = absl::StrCat(
      "\n## Predictors\n"
      "An item of `spec.leap.predictors`:\n\n",
      ItemTable(PredictorFields(), &predictor),
      "\nThe predictors there are (formulas: [formulas.md](formulas.md)):\n\n"
      "| name | forms | parameters | horizons | snapshots | what it does |\n"
      "| --- | --- | --- | --- | --- | --- |\n");
  for (const PredictorInfo& info : RegisteredPredictors()) {
    const std::string params =
        absl::StrJoin(info.params, ", ", [](std::string* out, const auto& param) {
          absl::StrAppend(out, "`", param.first, "` ", NumberText(param.second));
        });
    absl::StrAppend(&page, "| `", info.name, "` | ", absl::StrJoin(info.forms, ", "), " | ", params,
                    " | ", info.needs.horizon ? "yes" : "no", " | ", info.needs.snapshots, " | ",
                    Cell(info.summary), " |\n");
  }
  return page;
}

constexpr absl::string_view kTrainingFailures =
    "\nFor role training:\n\n"
    "* `nan-loss`: the training loss or the norm of the gradient is not finite. Weights are as "
    "they "
    "were before that step. There is no grace: nothing can be trained on.\n"
    "* `loss-spike`: the loss of the newest step (the mean over all workers), as reported twice a "
    "second, is above a limit in four reports in a row, each of a newer step, and for "
    "`grace_seconds`. The limit is the median of the last 64 calm reports plus six deviations "
    "(1.4826 times the median absolute deviation), at least 5 % above the median; there is none "
    "before 16 reports, nor right after the run went back. With such a rule a "
    "checkpoint counts once a later step had a calm loss, so `checkpoint.keep` must leave one of "
    "before the spike.\n"
    "* `rollback`: the run goes back to the newest checkpoint, or, with `leap.rollback_bound` "
    "above "
    "0, to before the newest leap, if that is later and every worker kept that state. Without a "
    "checkpoint `nan-loss` fails the job; after a `loss-spike` training goes on, and an event says "
    "so. The data come again in the same order: what a leap, a machine or chance did is gone, "
    "what the job file does (a learning rate too high) happens again, until the budget is used "
    "up.\n"
    "* `ignore`: after `nan-loss` the same step is tried again: a fault of the machine may be "
    "gone, "
    "what the job file does is not. After a `loss-spike` nothing is done.\n"
    "* A rule without a limit (budget 0) fails the job, too, when training came to it three times "
    "in "
    "a row from the same state with the same workers: nothing changed, and nothing would.\n";

std::string FailurePages() {
  FailureRule rule;
  std::string page = absl::StrCat(
      "\n## Failure rules\nAn item of `spec.failure`:\n\n", ItemTable(FailureFields(), &rule),
      "\nAppended to every job, for what its own rules do not cover:\n\n"
      "| role | cause | action | budget |\n| --- | --- | --- | --- |\n");
  for (const FailureRule& known : DefaultFailureRules()) {
    absl::StrAppend(&page, "| ", known.role, " | ", known.cause, " | ", known.action, " | ",
                    known.budget == 0 ? "no limit" : absl::StrCat(known.budget), " |\n");
  }
  return absl::StrCat(page, kTrainingFailures);
}

std::string RulePages() {
  std::string page = "\n## Rules over several fields\n";
  for (const Rule& rule : JobRules()) absl::StrAppend(&page, "* ", rule.doc, "\n");
  return page;
}

constexpr absl::string_view kIntroduction =
    "# The job file\n"
    "<!-- Made by `leapctl docs job` from the table that the parser walks; a test compares. Do not "
    "edit. -->\n"
    "\n"
    "YAML, one document, at most 256 KiB. All but a name, the text to train on and the number of "
    "steps has a default "
    "that works:\n"
    "\n"
    "```yaml\n"
    "apiVersion: leap/v1\n"
    "kind: Job\n"
    "metadata: {name: my-first-leaps}\n"
    "spec:\n"
    "  data: {paths: [corpus.txt]}\n"
    "  train: {steps: 1000}\n"
    "```\n"
    "\n"
    "* `leapctl submit --dry-run job.yaml` prints the job with every default filled in, or every "
    "error, each with its "
    "line.\n"
    "* Unknown keys, keys given twice and values out of range are errors. Units stand last in "
    "names: `_steps` are "
    "optimizer steps.\n"
    "* Numbers in quotes are text, and text that looks like a number needs quotes, as YAML has "
    "it.\n"
    "* An editor checks as you type with the [JSON Schema](job.schema.json): `# "
    "yaml-language-server: "
    "$schema=docs/job.schema.json` in the first line.\n"
    "\n"
    "`apiVersion` is `leap/v1`, `kind` is `Job`; both are required.\n";

}  // namespace

std::string JobSpecJsonSchema() {
  Json root = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
               {"title", "Leap job"},
               {"description",
                "Made by `leapctl docs schema`; rules over several fields are checked at submit."},
               {"type", "object"},
               {"additionalProperties", false},
               {"required", {"apiVersion", "kind"}}};
  root["properties"]["apiVersion"] = {{"const", std::string(kApiVersion)}};
  root["properties"]["kind"] = {{"const", std::string(kJobKind)}};
  JobSpec job;
  ApplyPolicy("default", job);
  for (const Field& field : JobFields()) {
    const size_t dot = field.path.rfind('.');
    AddField(SectionSchema(root, field.path.substr(0, dot)), field.path.substr(dot + 1), field,
             DefaultJson(field, &job));
  }
  return root.dump(2) + "\n";
}

std::string JobSpecReferenceMarkdown() {
  return absl::StrCat(kIntroduction, SectionPages(), PolicyPages(), PredictorPages(),
                      FailurePages(), RulePages());
}

}  // namespace leap
