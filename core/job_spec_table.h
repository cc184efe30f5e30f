// The one table of the job file: every field with its path, place in JobSpec, range and meaning.
// The parser, the search for unknown keys, the JSON Schema, the reference page and the printer all
// walk it, so that they cannot disagree.
//
// To add a field: a member in core/job_spec.h with its default, and one row in
// core/job_spec_table.cc. Internal to core/job_spec_*.cc; users include core/job_spec.h.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/job_spec.h"

namespace leap {

inline constexpr absl::string_view kApiVersion = "leap/v1";
inline constexpr absl::string_view kJobKind = "Job";

using Labels = std::vector<std::pair<std::string, std::string>>;
using Params = std::vector<std::pair<std::string, double>>;

// A pointer to a field in its object; the type tells how it is written in YAML.
using FieldRef =
    std::variant<bool*, int64_t*, uint64_t*, double*, std::string*, LrSchedule*, CommitRule*,
                 OptimizerRule*, std::vector<std::string>*, std::vector<int64_t>*, Labels*, Params*,
                 std::vector<PredictorSpec>*, std::vector<FailureRule>*>;

// Bounds of a number, or of each number of a list.
struct Bounds {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool above_min = false;  // min itself is not allowed
  bool below_max = false;  // max itself is not allowed
};

struct Access {
  FieldRef type;  // a null pointer of the field's type
  FieldRef (*at)(
      void* object);  // the field in an object: the JobSpec, PredictorSpec or FailureRule
};

struct Field {
  absl::string_view path;  // "spec.train.lr"; in the item of a list: "name"
  Access access;
  Bounds bounds;  // numbers
  std::vector<std::string>
      choices;  // enumerations: names in the order of their values; text: the words allowed
  absl::string_view doc;  // a sentence
  bool required = false;
};

struct Section {
  absl::string_view path;  // "spec.train"
  absl::string_view doc;
};

// In the order in which a job is printed; the fields of a section stand together.
std::span<const Field> JobFields();
std::span<const Field> PredictorFields();  // items of spec.leap.predictors
std::span<const Field> FailureFields();    // items of spec.failure
std::span<const Section> JobSections();

// Names of the keys right under `prefix` ("" for the top of a job file).
std::vector<std::string> KeysUnder(absl::string_view prefix);

const Field* FindField(std::span<const Field> fields, absl::string_view path);
bool IsSection(absl::string_view path);

// "a number above 0", "one of constant, cosine, wsd", "a list of whole numbers from 1 to 100".
std::string Expectation(const Field& field);

// Shortest text that reads back as the same number.
std::string NumberText(double value);

// The preset `policy` written over spec.leap (and spec.regime.thresholds for `paper`); false for an
// unknown name.
bool ApplyPolicy(absl::string_view policy, JobSpec& spec);

// The rules that apply after those of the job file, and which none of them may contradict.
const std::vector<FailureRule>& DefaultFailureRules();

// Fills in what a job file may leave out: parameters and forms of predictors, failure rules, and so
// on.
void ResolveJobSpec(JobSpec& spec);

// A rule over several fields; the reference page prints `doc`.
struct Rule {
  absl::string_view doc;
  std::vector<absl::string_view>
      reads;  // fields; the rule is skipped if one of them could not be read
  std::vector<SpecError> (*check)(const JobSpec& spec);  // `line` 0: found by path
};
std::span<const Rule> JobRules();

}  // namespace leap
