// The predictors that exist, and how a spec becomes one of them.

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/error_reason.h"
#include "base/nearest.h"
#include "base/status_macros.h"
#include "core/predictors/registration.h"

// One line per predictor. Order: as help and docs list them.
#define LEAP_PREDICTORS(X) \
  X(OuterNesterov)         \
  X(Linear)                \
  X(Quadratic)             \
  X(Momentum)              \
  X(LastUpdate)            \
  X(Average)               \
  X(Trend)

namespace leap {

#define LEAP_DECLARE(Name) PredictorRegistration Name##Registration();
LEAP_PREDICTORS(LEAP_DECLARE)
#undef LEAP_DECLARE

namespace {

// No horizon reaches further; a bound for loops over K.
constexpr int64_t kMaxHorizonSteps = 1'000'000;

const std::vector<PredictorRegistration>& Registrations() {
#define LEAP_CALL(Name) Name##Registration(),
  static const auto* const registrations =
      new std::vector<PredictorRegistration>{LEAP_PREDICTORS(LEAP_CALL)};
#undef LEAP_CALL
  return *registrations;
}

absl::Status Invalid(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kJobSpecInvalid, message);
}

absl::Status UnknownName(absl::string_view what, absl::string_view name,
                         const std::vector<std::string>& valid) {
  const std::vector<absl::string_view> candidates(valid.begin(), valid.end());
  return Invalid(
      absl::StrCat("unknown ", what, " '", name, "'", DidYouMean(name, candidates),
                   "; expected one of: ", valid.empty() ? "(none)" : absl::StrJoin(valid, ", ")));
}

absl::StatusOr<const PredictorRegistration*> Find(absl::string_view name) {
  std::vector<std::string> names;
  for (const PredictorRegistration& registration : Registrations()) {
    if (registration.name == name) return &registration;
    names.push_back(registration.name);
  }
  return UnknownName("predictor", name, names);
}

absl::StatusOr<std::string> ResolveForm(const PredictorRegistration& predictor,
                                        const std::string& form) {
  if (form.empty()) return predictor.forms.empty() ? std::string() : predictor.forms.front();
  if (predictor.forms.empty())
    return Invalid(absl::StrCat("predictor '", predictor.name, "' has no forms, saw '", form, "'"));
  if (std::ranges::find(predictor.forms, form) != predictor.forms.end()) return form;
  return UnknownName(absl::StrCat("form of predictor '", predictor.name, "'"), form,
                     predictor.forms);
}

absl::Status CheckParam(const PredictorRegistration& predictor, const ParamRule& rule,
                        const std::string& form, double value) {
  const std::string what =
      absl::StrCat("parameter '", rule.name, "' of predictor '", predictor.name, "'");
  if (!rule.forms.empty() && std::ranges::find(rule.forms, form) == rule.forms.end()) {
    return Invalid(absl::StrCat(what, " belongs to form ", absl::StrJoin(rule.forms, ", "),
                                ", not to '", form, "'"));
  }
  const bool in_range =
      value >= rule.low && value <= rule.high && (!rule.whole || value == std::floor(value));
  if (in_range) return absl::OkStatus();
  return Invalid(absl::StrFormat("%s: expected a %snumber from %g to %g, saw %g", what,
                                 rule.whole ? "whole " : "", rule.low, rule.high, value));
}

absl::StatusOr<std::map<std::string, double>> ResolveParams(const PredictorRegistration& predictor,
                                                            const PredictorSpec& spec,
                                                            const std::string& form) {
  std::map<std::string, double> params;
  std::vector<std::string> names;
  for (const ParamRule& rule : predictor.params) {
    params[rule.name] = rule.fallback;
    names.push_back(rule.name);
  }
  for (const auto& [name, value] : spec.params) {
    const auto rule = std::ranges::find(predictor.params, name, &ParamRule::name);
    if (rule == predictor.params.end()) {
      return UnknownName(absl::StrCat("parameter of predictor '", predictor.name, "'"), name,
                         names);
    }
    LEAP_RETURN_IF_ERROR(CheckParam(predictor, *rule, form, value));
    params[name] = value;
  }
  return params;
}

absl::Status CheckHorizons(const PredictorRegistration& predictor, const PredictorNeeds& needs,
                           const std::vector<int64_t>& horizons_steps) {
  if (!needs.horizon && !horizons_steps.empty()) {
    return Invalid(absl::StrCat("predictor '", predictor.name, "' takes no horizon, saw ",
                                horizons_steps.front()));
  }
  const int64_t lowest = predictor.backward ? -kMaxHorizonSteps : 1;
  for (const int64_t steps : horizons_steps) {
    if (steps >= lowest && steps <= kMaxHorizonSteps) continue;
    return Invalid(absl::StrCat("horizon of predictor '", predictor.name, "': expected ", lowest,
                                " to ", kMaxHorizonSteps, " steps, saw ", steps));
  }
  return absl::OkStatus();
}

PredictorInfo InfoOf(const PredictorRegistration& registration) {
  PredictorInfo info{
      .name = registration.name, .summary = registration.summary, .forms = registration.forms};
  PredictorArgs args;
  if (!registration.forms.empty()) args.form = registration.forms.front();
  for (const ParamRule& rule : registration.params) {
    info.params.emplace_back(rule.name, rule.fallback);
    args.params[rule.name] = rule.fallback;
  }
  info.needs = registration.make(args)->needs();
  return info;
}

}  // namespace

const std::vector<PredictorInfo>& RegisteredPredictors() {
  static const auto* const infos = [] {
    auto* all = new std::vector<PredictorInfo>();
    for (const PredictorRegistration& registration : Registrations())
      all->push_back(InfoOf(registration));
    return all;
  }();
  return *infos;
}

absl::StatusOr<std::unique_ptr<Predictor>> MakePredictor(const PredictorSpec& spec,
                                                         int64_t interval_steps) {
  LEAP_ASSIGN_OR_RETURN(const PredictorRegistration* registration, Find(spec.name));
  if (interval_steps < 1)
    return Invalid(absl::StrCat("interval_steps: expected at least 1, saw ", interval_steps));
  PredictorArgs args{.horizons_steps = spec.horizons_steps, .interval_steps = interval_steps};
  LEAP_ASSIGN_OR_RETURN(args.form, ResolveForm(*registration, spec.form));
  LEAP_ASSIGN_OR_RETURN(args.params, ResolveParams(*registration, spec, args.form));
  std::unique_ptr<Predictor> predictor = registration->make(args);
  LEAP_RETURN_IF_ERROR(CheckHorizons(*registration, predictor->needs(), spec.horizons_steps));
  return predictor;
}

absl::Status CheckScales(const PredictorNeeds& needs, std::span<const double> scales,
                         size_t tensors) {
  const bool counted = !needs.scales ? scales.empty()
                       : tensors > 0 ? scales.size() == tensors
                                     : !scales.empty();
  if (!counted) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected ", needs.scales ? "a scale for each tensor" : "no scales", ", saw ",
                     scales.size()));
  }
  for (const double scale : scales) {
    if (scale >= 0 && scale <= 1) continue;
    return absl::InvalidArgumentError(absl::StrCat("expected scales from 0 to 1, saw ", scale));
  }
  return absl::OkStatus();
}

}  // namespace leap
