// Predictors: formulas that turn named snapshots of the weights into predicted weights, in pure
// fp32 arithmetic.
//
// A predictor is given spans over the SAME range of the flat vector for every input, and fills the
// same range of the output, so a rank can compute its shard and a verifier the whole, with
// bit-identical results: every formula is a fixed sequence of separately rounded fp32 operations
// per element (the build forbids contraction to fma), and what needs a reduction over a tensor is
// put into `scales`, computed once by the verifier from whole tensors (fixed order, double
// accumulators) and sent with the candidate.
//
// Time is discrete: snapshots are taken every Δ = interval_steps; K = horizon_steps; s = K / Δ.
// Formulas and their sources: docs/formulas.md. Adding one: one file core/predictors/<name>.cc, one
// test, one line in core/predictors/registry.cc.
//
// Stateful predictors (outer-nesterov) keep buffers of the size of the weights, advanced once per
// snapshot by the same rule on ranks and verifiers. For a snapshot at t the state S_t is what
// Predict needs; it is computed from S_{t-Δ}, θ_{t-Δ}, the outcome at t-Δ (was a leap applied, and
// where it led) and θ_t.
//
// Thread-safe: stateless objects of const methods.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/job_spec.h"
#include "core/layout.h"

namespace leap {

// AdamW's constants at the base step, for predictors that continue the optimizer.
struct AdamContext {
  int64_t adam_step = 0;  // updates done so far: the bias correction's counter
  double lr = 0;          // the schedule's rate for the step after the base step
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.1;
};

// What a formula may read; every span covers exactly `range` of the flat vector.
struct PredictorInputs {
  FlatRange range;
  std::vector<std::span<const float>>
      snapshots;                      // [0] = θ_t, [1] = θ_{t-Δ}, ... at least needs().snapshots
  std::span<const float> exp_avg;     // Adam's m at t, if needs().moments
  std::span<const float> exp_avg_sq;  // Adam's v at t, if needs().moments
  std::vector<std::span<const float>> state;  // S_t, needs().state_buffers spans
  AdamContext adam;
  std::vector<double> scales;  // from Scales(); one per tensor of the layout, or empty
};

struct PredictorNeeds {
  int snapshots = 1;  // how many of θ_t, θ_{t-Δ}, ...
  bool moments = false;
  int state_buffers = 0;
  bool scales = false;  // Scales() must be called on whole tensors first
  bool horizon = true;  // takes K; false: a single candidate with K = 0
  bool carries_progress =
      true;  // displacement may be rebased (false for averages, see policies.md section 3)
};

class Predictor {
 public:
  virtual ~Predictor() = default;

  virtual absl::string_view name() const = 0;
  virtual PredictorNeeds needs() const = 0;

  // Per-tensor scales from whole-model inputs (range = all), each from 0 to 1. Default: empty.
  virtual std::vector<double> Scales(const PredictorInputs& /*whole*/,
                                     const WeightLayout& /*layout*/) const {
    return {};
  }

  // out[i] = θ̂ for the elements of in.range. `horizon_steps` K ≥ 0 (0 if !needs().horizon);
  // `layout` tells which tensor an element belongs to (decay flag, scale). out.size() ==
  // in.range.size(); `out` overlaps no input. `trend` alone takes K at or below zero too (it reads
  // its line backwards).
  virtual void Predict(const PredictorInputs& in, int64_t horizon_steps, const WeightLayout& layout,
                       std::span<float> out) const = 0;

  // First state, at the first snapshot after warm-up. `state` buffers have the range's size.
  // Default: nothing.
  virtual void InitState(std::span<const float> /*theta*/,
                         std::vector<std::span<float>> /*state*/) const {}

  // S_{t-Δ} -> S_t in place. `anchor` is the point that training went on from at t-Δ: θ̂ of the
  // applied leap, or θ_{t-Δ} if none was applied. `theta` is θ_t. Default: nothing.
  virtual void AdvanceState(std::span<const float> /*anchor*/, std::span<const float> /*theta*/,
                            std::vector<std::span<float>> /*state*/) const {}
};

struct PredictorInfo {
  std::string name;
  std::string summary;                                 // one sentence, for docs and --help
  std::vector<std::string> forms;                      // first is the default; empty: no forms
  std::vector<std::pair<std::string, double>> params;  // name and default
  PredictorNeeds needs;                                // with default params
};

// Scales as somebody sent them: none for a formula that takes none; else one per tensor of the
// layout, each from 0 to 1. InvalidArgument. `tensors` 0: the layout is not known here.
absl::Status CheckScales(const PredictorNeeds& needs, std::span<const double> scales,
                         size_t tensors);

// The registry: one line per predictor, in core/predictors/registry.cc.
const std::vector<PredictorInfo>& RegisteredPredictors();

// Makes the predictor of `spec` for snapshots `interval_steps` apart. InvalidArgument
// (JOB_SPEC_INVALID) for an unknown name, form or parameter (nearest valid one in the message) or a
// value out of range.
absl::StatusOr<std::unique_ptr<Predictor>> MakePredictor(const PredictorSpec& spec,
                                                         int64_t interval_steps);

}  // namespace leap
