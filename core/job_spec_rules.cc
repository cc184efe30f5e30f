// Rules over several fields of a job: each a sentence for the reference page and a check that names
// both values.
#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/nearest.h"
#include "core/job_spec_table.h"
#include "core/predictor.h"

namespace leap {
namespace {

using Findings = std::vector<SpecError>;

SpecError Finding(std::string path, std::string message) {
  return {0, std::move(path), std::move(message)};
}

bool IsNameCharacter(char c) {
  return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-';
}

Findings CheckName(const JobSpec& spec) {
  const std::string& name = spec.name;
  const bool good = !name.empty() && name.size() <= 63 &&
                    std::all_of(name.begin(), name.end(), IsNameCharacter) && name.front() != '-' &&
                    name.back() != '-';
  if (good) return {};
  return {Finding(
      "metadata.name",
      absl::StrCat(
          "expected 1 to 63 lower-case letters, digits and dashes, with a letter or digit at "
          "both ends, saw '",
          name.substr(0, 70), "'"))};
}

Findings CheckLabels(const JobSpec& spec) {
  if (spec.labels.size() > 64) {
    return {Finding("metadata.labels",
                    absl::StrCat("expected at most 64 labels, saw ", spec.labels.size()))};
  }
  for (const auto& [name, text] : spec.labels) {
    if (!name.empty() && name.size() <= 63 && text.size() <= 256) continue;
    return {Finding(absl::StrCat("metadata.labels.", name.substr(0, 63)),
                    "expected a name of 1 to 63 bytes and at most 256 bytes of text")};
  }
  return {};
}

Findings CheckModel(const JobSpec& spec) {
  if (spec.model.preset.empty() == spec.model.config.empty()) {
    return {
        Finding("spec.model", "expected either preset or config, not both; take one of them out")};
  }
  return {};
}

Findings CheckPaths(const JobSpec& spec) {
  const std::vector<std::string>& paths = spec.data.paths;
  if (paths.empty()) {
    return {Finding("spec.data.paths",
                    "expected at least one file, folder or glob, saw an empty list")};
  }
  Findings findings;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (!paths[i].empty()) continue;
    findings.push_back(Finding(absl::StrCat("spec.data.paths[", i, "]"),
                               "expected a file, folder or glob, saw an empty text"));
  }
  return findings;
}

Findings CheckWarmup(const JobSpec& spec) {
  if (spec.train.warmup_steps <= spec.train.steps) return {};
  return {Finding("spec.train.warmup_steps",
                  absl::StrCat("expected at most spec.train.steps (", spec.train.steps, "), saw ",
                               spec.train.warmup_steps))};
}

Findings CheckWorkers(const JobSpec& spec) {
  if (spec.workers.min_replicas <= spec.workers.replicas) return {};
  return {Finding("spec.workers.min_replicas",
                  absl::StrCat("expected at most replicas (", spec.workers.replicas, "), saw ",
                               spec.workers.min_replicas))};
}

Findings CheckVerifiers(const JobSpec& spec) {
  if (spec.verifiers.min_replicas <= spec.verifiers.max_replicas) return {};
  return {Finding("spec.verifiers.min_replicas",
                  absl::StrCat("expected at most max_replicas (", spec.verifiers.max_replicas,
                               "), saw ", spec.verifiers.min_replicas))};
}

Findings CheckBatch(const JobSpec& spec) {
  if (spec.train.batch_sequences >= spec.workers.replicas) return {};
  return {Finding(
      "spec.train.batch_sequences",
      absl::StrCat("expected at least one sequence for each main worker (spec.workers.replicas is ",
                   spec.workers.replicas, "), saw ", spec.train.batch_sequences,
                   "; the batch is global"))};
}

Findings CheckThresholds(const JobSpec& spec) {
  if (spec.regime.tau_low < spec.regime.tau_high) return {};
  return {Finding("spec.regime.tau_low",
                  absl::StrCat("expected less than tau_high (", NumberText(spec.regime.tau_high),
                               "), saw ", NumberText(spec.regime.tau_low)))};
}

Findings CheckLadder(const JobSpec& spec) {
  const TimeoutsSpec& t = spec.timeouts;
  const std::array<std::pair<absl::string_view, double>, 5> rungs = {{
      {"lease_seconds", t.lease_seconds},
      {"collective_seconds", t.collective_seconds},
      {"commit_seconds", t.commit_seconds},
      {"epoch_formation_seconds", t.epoch_formation_seconds},
      {"job_start_seconds", t.job_start_seconds},
  }};
  Findings findings;
  for (size_t i = 1; i < rungs.size(); ++i) {
    const auto& [lower, lower_seconds] = rungs[i - 1];
    const auto& [upper, upper_seconds] = rungs[i];
    if (lower_seconds < upper_seconds) continue;
    findings.push_back(Finding(
        absl::StrCat("spec.timeouts.", upper),
        absl::StrCat("expected more than ", lower, " (", NumberText(lower_seconds), "), saw ",
                     NumberText(upper_seconds),
                     "; the ladder must rise: lease < collective < commit < epoch formation < "
                     "job start")));
  }
  return findings;
}

Findings CheckSwitch(const JobSpec& spec) {
  if (spec.leap.policy == "off" && spec.leap.enabled) {
    return {Finding("spec.leap.enabled",
                    "expected false, saw true; policy off has no leaps, name another policy")};
  }
  if (spec.leap.enabled && spec.leap.predictors.empty()) {
    return {Finding("spec.leap.predictors",
                    "expected at least one predictor, saw none; for no leaps say policy: off")};
  }
  return {};
}

Findings CheckRegimes(const JobSpec& spec) {
  const std::vector<std::string>& regimes = spec.leap.regimes;
  if (spec.leap.enabled && regimes.empty()) {
    return {Finding("spec.leap.regimes",
                    "expected at least one regime, saw none; for no leaps say policy: off")};
  }
  for (size_t i = 0; i < regimes.size(); ++i) {
    if (std::find(regimes.begin(), regimes.begin() + i, regimes[i]) == regimes.begin() + i)
      continue;
    return {
        Finding(absl::StrCat("spec.leap.regimes[", i, "]"),
                absl::StrCat("'", regimes[i], "' stands in the list a second time; take it out"))};
  }
  return {};
}

const PredictorInfo* InfoOf(absl::string_view name) {
  for (const PredictorInfo& info : RegisteredPredictors()) {
    if (info.name == name) return &info;
  }
  return nullptr;
}

std::string PredictorPath(size_t index, absl::string_view field = "") {
  return absl::StrCat("spec.leap.predictors[", index, "]", field.empty() ? "" : ".", field);
}

std::string UnknownWord(absl::string_view what, absl::string_view word,
                        const std::vector<std::string>& valid) {
  const std::vector<absl::string_view> names(valid.begin(), valid.end());
  return absl::StrCat("expected ", what, " out of ", absl::StrJoin(valid, ", "), ", saw '",
                      word.substr(0, 60), "'", DidYouMean(word, names));
}

// Name, form and parameters by the registry; what else is wrong with values, MakePredictor says.
Findings CheckPredictor(const PredictorSpec& predictor, size_t index, int64_t interval_steps) {
  const PredictorInfo* info = InfoOf(predictor.name);
  if (info == nullptr) {
    std::vector<std::string> names;
    for (const PredictorInfo& known : RegisteredPredictors()) names.push_back(known.name);
    return {
        Finding(PredictorPath(index, "name"), UnknownWord("a predictor", predictor.name, names))};
  }
  Findings findings;
  if (!predictor.form.empty() &&
      std::find(info->forms.begin(), info->forms.end(), predictor.form) == info->forms.end()) {
    findings.push_back(Finding(
        PredictorPath(index, "form"),
        info->forms.empty() ? absl::StrCat("predictor ", info->name, " has no forms; take it out")
                            : UnknownWord("a form", predictor.form, info->forms)));
  }
  for (const auto& [name, value] : predictor.params) {
    std::vector<std::string> names;
    for (const auto& [known, fallback] : info->params) names.push_back(known);
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    findings.push_back(Finding(
        PredictorPath(index, absl::StrCat("params.", name)),
        names.empty() ? absl::StrCat("predictor ", info->name, " has no parameters; take it out")
                      : UnknownWord("a parameter", name, names)));
  }
  if (info->needs.horizon && predictor.horizons_steps.empty()) {
    findings.push_back(
        Finding(PredictorPath(index, "horizons_steps"),
                absl::StrCat("predictor ", info->name, " needs a grid of K, such as [5, 10, 25]")));
  }
  if (!info->needs.horizon && !predictor.horizons_steps.empty()) {
    findings.push_back(
        Finding(PredictorPath(index, "horizons_steps"),
                absl::StrCat("predictor ", info->name, " takes no horizon; take it out")));
  }
  for (size_t i = 0; i < predictor.horizons_steps.size(); ++i) {
    const auto begin = predictor.horizons_steps.begin();
    if (std::find(begin, begin + i, begin[i]) == begin + i) continue;
    findings.push_back(
        Finding(PredictorPath(index, absl::StrCat("horizons_steps[", i, "]")),
                absl::StrCat(begin[i], " stands in the list a second time; take it out")));
  }
  if (!findings.empty()) return findings;
  const auto made = MakePredictor(predictor, interval_steps);
  if (made.ok()) return {};
  return {Finding(PredictorPath(index), std::string(made.status().message()))};
}

Findings CheckPredictors(const JobSpec& spec) {
  Findings findings;
  const std::vector<PredictorSpec>& predictors = spec.leap.predictors;
  for (size_t i = 0; i < predictors.size(); ++i) {
    for (SpecError& finding : CheckPredictor(predictors[i], i, spec.leap.interval_steps)) {
      findings.push_back(std::move(finding));
    }
    const auto same = [&](const PredictorSpec& other) {
      return other.name == predictors[i].name && other.form == predictors[i].form &&
             other.params == predictors[i].params;
    };
    if (std::any_of(predictors.begin(), predictors.begin() + i, same)) {
      findings.push_back(
          Finding(PredictorPath(i), absl::StrCat("predictor ", predictors[i].name,
                                                 " stands in the list a second time with the same "
                                                 "parameters; put all horizons into one")));
    }
  }
  return findings;
}

// Runs `check` on each predictor that can be made, with what it needs.
template <class Check>
Findings ForEachPredictor(const JobSpec& spec, Check check) {
  Findings findings;
  for (size_t i = 0; i < spec.leap.predictors.size(); ++i) {
    const PredictorSpec& predictor = spec.leap.predictors[i];
    const auto made = MakePredictor(predictor, spec.leap.interval_steps);
    if (!made.ok()) continue;
    std::string message = check(predictor, (*made)->needs());
    if (!message.empty()) findings.push_back(Finding(PredictorPath(i), std::move(message)));
  }
  return findings;
}

Findings CheckRebase(const JobSpec& spec) {
  if (!spec.leap.commit || spec.leap.commit_rule != CommitRule::kRebase) return {};
  return ForEachPredictor(
      spec, [](const PredictorSpec& predictor, const PredictorNeeds& needs) -> std::string {
        if (needs.carries_progress) return "";
        return absl::StrCat("the displacement of predictor ", predictor.name,
                            predictor.name == "trend" ? " at a horizon of zero or less" : "",
                            " removes noise and carries no progress, so it is never rebased; take "
                            "it out, or say commit: "
                            "false");
      });
}

Findings CheckReplace(const JobSpec& spec) {
  if (!spec.leap.commit || spec.leap.commit_rule != CommitRule::kReplace) return {};
  return ForEachPredictor(
      spec, [](const PredictorSpec& predictor, const PredictorNeeds& needs) -> std::string {
        if (needs.horizon) return "";
        return absl::StrCat("predictor ", predictor.name,
                            " has no horizon, so a commit by replace would only discard steps; ",
                            needs.carries_progress ? "say commit_rule: rebase"
                                                   : "take it out, or say commit: false");
      });
}

Findings CheckRing(const JobSpec& spec) {
  Findings findings;
  ForEachPredictor(
      spec, [&](const PredictorSpec& predictor, const PredictorNeeds& needs) -> std::string {
        if (needs.snapshots <= spec.leap.ring_depth) return "";
        findings = {Finding(
            "spec.leap.ring_depth",
            absl::StrCat("expected at least ", needs.snapshots, ", the snapshots that predictor ",
                         predictor.name, " reads, saw ", spec.leap.ring_depth))};
        return "";
      });
  return findings;
}

Findings CheckResume(const JobSpec& spec) {
  if (!spec.checkpoint.resume.empty()) return {};
  return {Finding("spec.checkpoint.resume",
                  "expected auto, never or the path of a checkpoint, saw an empty text")};
}

// Which causes and actions go with a role.
struct RoleRules {
  absl::string_view role;
  std::vector<std::string> causes;
  std::vector<std::string> actions;
};

const std::vector<RoleRules>& FailureRoles() {
  static const auto* const roles = new std::vector<RoleRules>{
      {"worker", {"lost", "corrupt"}, {"replace", "shrink", "fail"}},
      {"verifier", {"lost", "corrupt"}, {"ignore", "fail"}},
      {"training", {"nan-loss", "loss-spike"}, {"rollback", "fail", "ignore"}},
  };
  return *roles;
}

Findings CheckFailureRule(const std::vector<FailureRule>& rules, size_t index) {
  const FailureRule& rule = rules[index];
  const std::string path = absl::StrCat("spec.failure[", index, "]");
  for (const RoleRules& role : FailureRoles()) {
    if (role.role != rule.role) continue;
    const auto has = [](const std::vector<std::string>& words, const std::string& word) {
      return std::find(words.begin(), words.end(), word) != words.end();
    };
    if (!has(role.causes, rule.cause)) {
      return {Finding(
          absl::StrCat(path, ".cause"),
          UnknownWord(absl::StrCat("a cause of role ", rule.role), rule.cause, role.causes))};
    }
    if (!has(role.actions, rule.action)) {
      return {Finding(
          absl::StrCat(path, ".action"),
          UnknownWord(absl::StrCat("an action for role ", rule.role), rule.action, role.actions))};
    }
  }
  for (size_t i = 0; i < index; ++i) {
    if (rules[i].role != rule.role || rules[i].cause != rule.cause) continue;
    return {Finding(path, absl::StrCat("never matches: rule ", i,
                                       " is for the same role and cause; take one out"))};
  }
  return {};
}

Findings CheckFailure(const JobSpec& spec) {
  Findings findings;
  for (size_t i = 0; i < spec.failure.size(); ++i) {
    for (SpecError& finding : CheckFailureRule(spec.failure, i))
      findings.push_back(std::move(finding));
  }
  return findings;
}

const std::vector<Rule>& RuleTable() {
  static const auto* const rules = new std::vector<Rule>{
      {"`metadata.name` is 1 to 63 lower-case letters, digits and dashes.",
       {"metadata.name"},
       CheckName},
      {"At most 64 labels; names up to 63 bytes, texts up to 256.",
       {"metadata.labels"},
       CheckLabels},
      {"Either `model.preset` or `model.config`.",
       {"spec.model.preset", "spec.model.config"},
       CheckModel},
      {"`data.paths` names at least one file, folder or glob.", {"spec.data.paths"}, CheckPaths},
      {"`train.warmup_steps` ≤ `train.steps`.",
       {"spec.train.warmup_steps", "spec.train.steps"},
       CheckWarmup},
      {"`workers.min_replicas` ≤ `workers.replicas`.",
       {"spec.workers.min_replicas", "spec.workers.replicas"},
       CheckWorkers},
      {"`verifiers.min_replicas` ≤ `verifiers.max_replicas`.",
       {"spec.verifiers.min_replicas", "spec.verifiers.max_replicas"},
       CheckVerifiers},
      {"`train.batch_sequences` ≥ `workers.replicas`.",
       {"spec.train.batch_sequences", "spec.workers.replicas"},
       CheckBatch},
      {"`policy: off` has `enabled: false`; with leaps on there is at least one predictor.",
       {"spec.leap.policy", "spec.leap.enabled", "spec.leap.predictors"},
       CheckSwitch},
      {"With leaps on, `leap.regimes` is not empty; no regime stands there twice.",
       {"spec.leap.enabled", "spec.leap.regimes"},
       CheckRegimes},
      {"Predictors, their forms and parameters are those of the table of predictors; none stands "
       "there twice.",
       {"spec.leap.predictors", "spec.leap.interval_steps"},
       CheckPredictors},
      {"Averages (`average`, and `trend` at horizons ≤ 0) are never committed by `rebase`: their "
       "displacement removes "
       "noise, it carries no progress.",
       {"spec.leap.predictors", "spec.leap.commit", "spec.leap.commit_rule"},
       CheckRebase},
      {"Predictors without a horizon (`outer-nesterov`, `average`) are never committed by "
       "`replace`: every commit would only "
       "discard steps.",
       {"spec.leap.predictors", "spec.leap.commit", "spec.leap.commit_rule"},
       CheckReplace},
      {"`leap.ring_depth` ≥ the snapshots that each predictor reads.",
       {"spec.leap.predictors", "spec.leap.ring_depth"},
       CheckRing},
      {"`regime.tau_low` < `regime.tau_high`.",
       {"spec.regime.tau_low", "spec.regime.tau_high"},
       CheckThresholds},
      {"`checkpoint.resume` is auto, never or a path.", {"spec.checkpoint.resume"}, CheckResume},
      {"The time-outs rise strictly: lease < collective < commit < epoch formation < job start.",
       {"spec.timeouts.lease_seconds", "spec.timeouts.collective_seconds",
        "spec.timeouts.commit_seconds", "spec.timeouts.epoch_formation_seconds",
        "spec.timeouts.job_start_seconds"},
       CheckLadder},
      {"Failure rules pair causes and actions with a role that has them, each (role, cause) once.",
       {"spec.failure"},
       CheckFailure},
  };
  return *rules;
}

}  // namespace

std::span<const Rule> JobRules() { return RuleTable(); }

}  // namespace leap
