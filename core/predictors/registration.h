// How a predictor enters the registry. A predictor's file defines one function that returns its
// registration and says everything about it; core/predictors/registry.cc names that function on one
// line. There are no static initialisers.
//
//   PredictorRegistration Linear() {
//     return {.name = "linear", .summary = "...", .make = [](const PredictorArgs& args) ... };
//   }
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/predictor.h"

namespace leap {

// One parameter of a predictor: its default and the closed range it may lie in.
struct ParamRule {
  std::string name;
  double fallback = 0;
  double low = 0;
  double high = 1;
  bool whole = false;              // whole numbers only
  std::vector<std::string> forms;  // forms that read it; empty: all
};

// A PredictorSpec that was found valid, with form and parameters filled in. Factories need check
// nothing.
struct PredictorArgs {
  std::string form;
  std::map<std::string, double> params;  // every parameter of the registration
  std::vector<int64_t> horizons_steps;   // as in the spec
  int64_t interval_steps = 1;            // Δ

  double Param(const std::string& name) const { return params.at(name); }
};

struct PredictorRegistration {
  std::string name;
  std::string summary;             // one sentence
  std::vector<std::string> forms;  // first is the default; empty: no forms
  std::vector<ParamRule> params;
  bool backward = false;  // takes horizons at or below zero too
  std::unique_ptr<Predictor> (*make)(const PredictorArgs& args) = nullptr;
};

}  // namespace leap
