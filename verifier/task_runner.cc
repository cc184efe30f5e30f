#include "verifier/task_runner.h"

#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "core/digest.h"
#include "core/regime.h"

namespace leap {

TaskRunner::TaskRunner(std::unique_ptr<Scorer> scorer, std::unique_ptr<Assembler> assembler,
                       SnapshotStore* store)
    : scorer_(std::move(scorer)), assembler_(std::move(assembler)), store_(store) {}

absl::StatusOr<std::unique_ptr<TaskRunner>> TaskRunner::Create(
    const std::string& job, const JobSpec& spec, std::unique_ptr<Scorer> scorer,
    SnapshotStore* store, BufferFetcher fetch, uint64_t spread) {
  LEAP_ASSIGN_OR_RETURN(
      std::unique_ptr<Assembler> assembler,
      Assembler::Create(job, spec, scorer->layout(), store, std::move(fetch), spread));
  store->Reset(job, assembler->depth());
  return std::unique_ptr<TaskRunner>(
      new TaskRunner(std::move(scorer), std::move(assembler), store));
}

v1::TaskResult TaskRunner::Run(const v1::Task& task, const TaskControl& control) {
  v1::TaskResult result;
  result.set_job(task.job());
  result.set_epoch(task.epoch());
  result.set_task(task.task());
  result.set_base_step(task.base_step());
  result.set_report_loss(std::numeric_limits<double>::quiet_NaN());
  result.set_similarity(std::numeric_limits<double>::quiet_NaN());
  const absl::Time start = control.clock().Now();
  absl::Status status;
  switch (task.kind()) {
    case v1::Task::BASELINE:
      status = Baseline(task, control, &result);
      break;
    case v1::Task::CANDIDATE:
      status = ScoreCandidate(task, control, &result);
      break;
    case v1::Task::AUDIT:
      status = Audit(task, control, &result);
      break;
    default:
      status = absl::InvalidArgumentError(
          absl::StrCat("a task of kind ", static_cast<int>(task.kind()), " is not known here"));
  }
  result.set_ok(status.ok());
  if (!status.ok()) result.set_error(status.ToString(absl::StatusToStringMode::kWithNoExtraData));
  result.set_seconds(absl::ToDoubleSeconds(control.clock().Now() - start));
  result.set_fetch_seconds(assembler_->TakeFetchSeconds());
  result.set_busy_seconds(result.seconds());
  return result;
}

absl::Status TaskRunner::Baseline(const v1::Task& task, const TaskControl& control,
                                  v1::TaskResult* result) {
  LEAP_ASSIGN_OR_RETURN(const double similarity, Similarity(task, control));
  result->set_similarity(similarity);
  LEAP_ASSIGN_OR_RETURN(const Floats weights, assembler_->Weights(task, 0, control));
  scorer_->Load(*weights);
  result->set_digest(task.snapshots(0).weights_digest());
  LEAP_RETURN_IF_ERROR(AddGateLosses(control, result));
  if (task.report()) {
    LEAP_ASSIGN_OR_RETURN(const double loss, scorer_->ReportLoss(control));
    result->set_report_loss(loss);
  }
  return absl::OkStatus();
}

absl::Status TaskRunner::ScoreCandidate(const v1::Task& task, const TaskControl& control,
                                        v1::TaskResult* result) {
  LEAP_ASSIGN_OR_RETURN(const Candidate candidate, assembler_->Build(task, control));
  result->set_digest(DigestOf(candidate.weights, FlatRange{0, scorer_->layout().size}));
  for (const double scale : candidate.scales) result->add_scales(scale);
  scorer_->Load(candidate.weights);
  return AddGateLosses(control, result);
}

absl::Status TaskRunner::Audit(const v1::Task& task, const TaskControl& control,
                               v1::TaskResult* result) {
  if (task.audit_steps() <= 0) return absl::InvalidArgumentError("an audit of no steps");
  LEAP_ASSIGN_OR_RETURN(const HeldSnapshot base, assembler_->WithMoments(task, control));
  scorer_->Load(*base.weights);
  scorer_->LoadMoments(*base.exp_avg, *base.exp_avg_sq);
  result->set_digest(base.weights_digest);
  LEAP_RETURN_IF_ERROR(scorer_->TrainOn({.step = task.base_step(),
                                         .data_position = task.data_position(),
                                         .adam_step = task.adam_step()},
                                        task.audit_steps(), control));
  return AddGateLosses(control, result);
}

absl::Status TaskRunner::AddGateLosses(const TaskControl& control, v1::TaskResult* result) {
  LEAP_ASSIGN_OR_RETURN(const std::vector<float> losses, scorer_->GateLosses(control));
  result->mutable_gate_losses()->Add(losses.begin(), losses.end());
  return absl::OkStatus();
}

absl::StatusOr<double> TaskRunner::Similarity(const v1::Task& task, const TaskControl& control) {
  std::optional<std::vector<float>> before;
  if (task.snapshots_size() > 1) {
    absl::StatusOr<std::vector<float>> fingerprint = FingerprintOf(task, 1, control);
    // Without its predecessor a snapshot is still worth scoring; its regime is unknown.
    if (fingerprint.ok()) before = *std::move(fingerprint);
    LEAP_RETURN_IF_ERROR(control.Check());
  }
  LEAP_ASSIGN_OR_RETURN(const std::vector<float> now, FingerprintOf(task, 0, control));
  if (!before.has_value()) return std::numeric_limits<double>::quiet_NaN();
  return CosineSimilarity(now, *before);
}

absl::StatusOr<std::vector<float>> TaskRunner::FingerprintOf(const v1::Task& task, int index,
                                                             const TaskControl& control) {
  LEAP_ASSIGN_OR_RETURN(const Floats weights, assembler_->Weights(task, index, control));
  const v1::SnapshotRef& ref = task.snapshots(index);
  std::optional<HeldSnapshot> held = store_->Find(ref.step(), ref.weights_digest());
  if (held.has_value() && !held->fingerprint.empty()) return held->fingerprint;
  scorer_->Load(*weights);
  LEAP_ASSIGN_OR_RETURN(std::vector<float> fingerprint, scorer_->Fingerprint(control));
  if (held.has_value()) {
    held->fingerprint = fingerprint;
    store_->Put(*std::move(held));
  }
  return fingerprint;
}

}  // namespace leap
