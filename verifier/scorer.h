// The verifier's model and text for one job: puts weights into the model and says how good they
// are.
//
// Everything is computed in small chunks of rows, always the same ones, and the task's control is
// asked between them; so equal weights give equal losses to the last bit on one machine.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/job_spec.h"
#include "core/layout.h"
#include "verifier/task_control.h"

namespace leap {

// Where an audit begins: the position of the main run at the base snapshot.
struct AuditStart {
  int64_t step = 0;           // the schedule's
  int64_t data_position = 0;  // batches trained so far
  int64_t adam_step = 0;      // updates done so far
};

// Created once per job, used by the scoring thread alone.
class Scorer {
 public:
  virtual ~Scorer() = default;

  virtual const WeightLayout& layout() const = 0;

  // Puts weights (layout().size floats) into the model.
  virtual void Load(std::span<const float> weights) = 0;
  virtual void LoadMoments(std::span<const float> exp_avg, std::span<const float> exp_avg_sq) = 0;

  // Of the weights in the model. Errors: the model's, and `control`'s.
  virtual absl::StatusOr<std::vector<float>> Fingerprint(const TaskControl& control) = 0;
  virtual absl::StatusOr<std::vector<float>> GateLosses(const TaskControl& control) = 0;
  virtual absl::StatusOr<double> ReportLoss(const TaskControl& control) = 0;

  // Trains `steps` optimizer steps from `start` on the global batches that the main run sees,
  // without any leap.
  virtual absl::Status TrainOn(const AuditStart& start, int64_t steps,
                               const TaskControl& control) = 0;
};

// Opens text and model as the spec says; `state_dir` holds the token cache if the spec names no
// other. Errors: Corpus::Open's and Model::Create's.
absl::StatusOr<std::unique_ptr<Scorer>> MakeScorer(const JobSpec& spec,
                                                   const std::string& state_dir);

}  // namespace leap
