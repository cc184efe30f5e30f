// The presets of spec.leap and the rules of failure: what a job file need not say. Why these:
// docs/decisions and policies.md section 4, where each was tried.
#include <algorithm>

#include "core/job_spec_table.h"
#include "core/predictor.h"

namespace leap {
namespace {

// Outer Nesterov, verified by a guard: the one policy that saved steps at a tuned learning rate.
void ApplyDefault(LeapSpec& leap) {
  leap.predictors = {{.name = "outer-nesterov", .params = {{"eta", 0.8}, {"mu", 0.5}}}};
  leap.regimes = {"unknown", "chaotic", "transition", "stable"};
}

// How far along the last displacement, strictly tested: for fine-tuning at a rate that nobody
// tuned.
void ApplyLineSearch(LeapSpec& leap) {
  leap.interval_steps = 10;
  leap.predictors = {{.name = "linear", .horizons_steps = {5, 10, 20, 40, 80, 160}}};
  leap.criterion.name = "paired";
  leap.regimes = {"transition", "stable"};
}

// Leap+Verify as published (leap-verify.md sections 2 to 4), its accounting included.
void ApplyPaper(LeapSpec& leap) {
  const std::vector<int64_t> horizons = {5, 10, 25, 50, 75, 100};
  leap.predictors = {{.name = "momentum", .horizons_steps = horizons, .form = "paper"},
                     {.name = "linear", .horizons_steps = horizons},
                     {.name = "quadratic", .horizons_steps = horizons, .form = "paper"}};
  leap.criterion.name = "strict";
  leap.regimes = {"transition", "stable"};
  leap.commit_rule = CommitRule::kReplace;
  leap.optimizer = OptimizerRule::kReset;
  leap.advance_step = true;
  leap.max_candidates = 18;  // all of them
}

bool Covered(const std::vector<FailureRule>& rules, const FailureRule& rule) {
  return std::any_of(rules.begin(), rules.end(), [&](const FailureRule& other) {
    return other.role == rule.role && other.cause == rule.cause;
  });
}

}  // namespace

bool ApplyPolicy(absl::string_view policy, JobSpec& spec) {
  spec.leap = LeapSpec{.policy = std::string(policy)};
  spec.regime.thresholds = RegimeSpec{}.thresholds;
  ApplyDefault(spec.leap);
  if (policy == "default") return true;
  if (policy == "line-search") {
    ApplyLineSearch(spec.leap);
  } else if (policy == "paper") {
    ApplyPaper(spec.leap);
    spec.regime.thresholds = "fixed";
  } else if (policy == "off") {
    spec.leap.enabled = false;
    spec.leap.predictors.clear();
  } else {
    return false;
  }
  return true;
}

const std::vector<FailureRule>& DefaultFailureRules() {
  static const auto* const rules = new std::vector<FailureRule>{
      {.role = "worker", .cause = "lost", .action = "replace", .budget = 10},
      {.role = "worker", .cause = "corrupt", .action = "replace", .budget = 3},
      {.role = "verifier", .cause = "lost", .action = "ignore", .budget = 0},
      {.role = "verifier", .cause = "corrupt", .action = "ignore", .budget = 0},
      {.role = "training", .cause = "nan-loss", .action = "rollback", .budget = 3},
      {.role = "training", .cause = "loss-spike", .action = "ignore", .budget = 0},
  };
  return *rules;
}

void ResolveJobSpec(JobSpec& spec) {
  for (PredictorSpec& predictor : spec.leap.predictors) {
    std::sort(predictor.params.begin(), predictor.params.end());
    for (const PredictorInfo& info : RegisteredPredictors()) {
      if (info.name != predictor.name || !predictor.form.empty() || info.forms.empty()) continue;
      predictor.form = info.forms.front();
    }
  }
  for (const FailureRule& rule : DefaultFailureRules()) {
    if (!Covered(spec.failure, rule)) spec.failure.push_back(rule);
  }
  std::sort(spec.labels.begin(), spec.labels.end());
}

}  // namespace leap
