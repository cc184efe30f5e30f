// Builds what a task scores: the weights of a snapshot, its moments, a predictor's state, and θ̂
// itself, from the verifier's own ring where possible and from others where not.
//
// Predictor state S_t comes from, in this order: the ring; the state before, advanced by the same
// rule the ranks use (with the leap applied in between recomputed as the anchor); the first state,
// if the job has just left warm-up; a fetch. Whatever is computed here counts only if its digests
// equal the ones the ranks reported.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/job_spec.h"
#include "core/layout.h"
#include "core/predictor.h"
#include "leap/v1/agent.pb.h"
#include "verifier/fetch.h"
#include "verifier/snapshot_store.h"
#include "verifier/task_control.h"

namespace leap {

// θ̂ with what is sent along.
struct Candidate {
  std::vector<float> weights;
  std::vector<double> scales;  // per tensor; empty if the predictor takes none
};

// One per job; used by the scoring thread alone (the store is shared).
class Assembler {
 public:
  // InvalidArgument if a predictor of the spec cannot be made. `store` must outlive this.
  static absl::StatusOr<std::unique_ptr<Assembler>> Create(const std::string& job,
                                                           const JobSpec& spec, WeightLayout layout,
                                                           SnapshotStore* store,
                                                           BufferFetcher fetch, uint64_t spread);

  // Snapshots that the hungriest predictor reads, and one to spare: how deep the ring must be.
  int depth() const { return depth_; }
  const WeightLayout& layout() const { return layout_; }

  // Weights of task.snapshots(index), held or fetched. InvalidArgument: the task names no such
  // snapshot.
  absl::StatusOr<Floats> Weights(const v1::Task& task, int index, const TaskControl& control);

  // The base snapshot with weights and moments. Errors as FetchWhole.
  absl::StatusOr<HeldSnapshot> WithMoments(const v1::Task& task, const TaskControl& control);

  // θ̂(predictor, K) of a CANDIDATE task.
  absl::StatusOr<Candidate> Build(const v1::Task& task, const TaskControl& control);

  // S_t of the base snapshot for the predictor of the task; empty if it keeps none.
  absl::StatusOr<std::vector<Floats>> State(const v1::Task& task, const TaskControl& control);

  // Seconds spent fetching since the last call.
  double TakeFetchSeconds();

 private:
  Assembler(const std::string& job, const JobSpec& spec, WeightLayout layout, SnapshotStore* store,
            BufferFetcher fetch, uint64_t spread);

  // What Predict reads, kept alive.
  struct Inputs {
    std::vector<Floats> snapshots;
    Floats exp_avg, exp_avg_sq;
    std::vector<Floats> state;
    AdamContext adam;
    std::vector<double> scales;
  };

  absl::StatusOr<const Predictor*> PredictorAt(int index) const;
  AdamContext AdamAt(int64_t step, int64_t adam_step) const;
  PredictorInputs InputsFor(const Inputs& inputs, FlatRange range) const;
  absl::StatusOr<std::vector<float>> Predict(const Predictor& predictor, const Inputs& inputs,
                                             int64_t horizon_steps,
                                             const TaskControl& control) const;
  absl::StatusOr<Floats> Fetch(const v1::Task& task, const v1::SnapshotRef& ref, v1::Buffer buffer,
                               std::optional<uint64_t> digest, const TaskControl& control);

  // The ways to S_t; nothing: this way is not open. The caller compares digests.
  std::optional<std::vector<Floats>> AdvancedState(const v1::Task& task, const Predictor& predictor,
                                                   const TaskControl& control);
  std::optional<std::vector<Floats>> FirstState(const v1::Task& task, const Predictor& predictor);
  std::optional<HeldSnapshot> Predecessor(const v1::Task& task);
  std::optional<Floats> Anchor(const v1::Task& task, const HeldSnapshot& before,
                               const TaskControl& control);
  bool StateMatches(const v1::SnapshotRef& ref, const std::vector<Floats>& state) const;

  const std::string job_;
  const JobSpec spec_;
  const WeightLayout layout_;
  SnapshotStore* const store_;
  const BufferFetcher fetch_;
  const uint64_t spread_;
  std::vector<std::unique_ptr<Predictor>> predictors_;
  int depth_ = 2;
  double fetch_seconds_ = 0;
};

}  // namespace leap
