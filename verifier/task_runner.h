// Runs one task: from what the coordinator asks (proto Task) to what it gets back (proto
// TaskResult). The life of a verification, in order:
//   BASELINE   weights of θ_t (Assembler::Weights) -> fingerprint, similarity with θ_{t-Δ} -> gate
//   losses -> report loss CANDIDATE  θ̂ (Assembler::Build) -> its digest -> gate losses AUDIT
//   weights and moments of θ_t (Assembler::WithMoments) -> Scorer::TrainOn -> gate losses
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/job_spec.h"
#include "leap/v1/agent.pb.h"
#include "verifier/assembler.h"
#include "verifier/scorer.h"
#include "verifier/snapshot_store.h"
#include "verifier/task_control.h"

namespace leap {

// One per job, used by the scoring thread alone.
class TaskRunner {
 public:
  // `store` must outlive this, and is shared with the snapshot service; it is Reset for `job` here.
  static absl::StatusOr<std::unique_ptr<TaskRunner>> Create(const std::string& job,
                                                            const JobSpec& spec,
                                                            std::unique_ptr<Scorer> scorer,
                                                            SnapshotStore* store,
                                                            BufferFetcher fetch, uint64_t spread);

  // Never fails: an error is a result with ok = false and a reason.
  v1::TaskResult Run(const v1::Task& task, const TaskControl& control);

 private:
  TaskRunner(std::unique_ptr<Scorer> scorer, std::unique_ptr<Assembler> assembler,
             SnapshotStore* store);

  absl::Status Baseline(const v1::Task& task, const TaskControl& control, v1::TaskResult* result);
  absl::Status ScoreCandidate(const v1::Task& task, const TaskControl& control,
                              v1::TaskResult* result);
  absl::Status Audit(const v1::Task& task, const TaskControl& control, v1::TaskResult* result);
  absl::Status AddGateLosses(const TaskControl& control, v1::TaskResult* result);
  // NaN if the task names no predecessor, or nobody has it any more.
  absl::StatusOr<double> Similarity(const v1::Task& task, const TaskControl& control);
  absl::StatusOr<std::vector<float>> FingerprintOf(const v1::Task& task, int index,
                                                   const TaskControl& control);

  const std::unique_ptr<Scorer> scorer_;
  const std::unique_ptr<Assembler> assembler_;
  SnapshotStore* const store_;
};

}  // namespace leap
