#include "engine/trainer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/backoff.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "core/digest.h"
#include "core/schedule.h"
#include "engine/internal/rank_trainer.h"
#include "engine/internal/torch_errors.h"

namespace leap {
namespace {

double Mean(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += value;
  return values.empty() ? std::nan("") : sum / static_cast<double>(values.size());
}

}  // namespace

absl::Status RankTrainer::Open() {
  LEAP_ASSIGN_OR_RETURN(corpus_, Corpus::Open(spec_.data, absl::StrCat(state_dir_, "/corpus")));
  for (const PredictorSpec& predictor : spec_.leap.predictors) {
    if (!spec_.leap.enabled || stateful_ != nullptr) break;
    LEAP_ASSIGN_OR_RETURN(auto made, MakePredictor(predictor, spec_.leap.interval_steps));
    if (made->needs().state_buffers > 0) stateful_ = std::move(made);
  }
  return MakeFreshModel();
}

// First weights: from the seed, or the file that the job names; position zero.
absl::Status RankTrainer::MakeFreshModel() {
  position_ = {};
  model_.reset();  // the old one's memory first
  LEAP_ASSIGN_OR_RETURN(const ModelConfig config,
                        ResolveModelConfig(spec_.model, spec_.data.sequence_length_tokens));
  LEAP_ASSIGN_OR_RETURN(model_, Model::Create(config,
                                              {.device = spec_.train.device,
                                               .precision = spec_.train.precision,
                                               .threads = static_cast<int>(spec_.train.threads)},
                                              spec_.train.seed));
  if (spec_.model.init.empty()) return absl::OkStatus();
  const auto weights = ReadSafetensors(spec_.model.init, model_->layout(), nullptr);
  if (!weights.ok()) return WithContext(weights.status(), "spec.model.init");
  model_->WriteWeights(whole(), *weights);
  return absl::OkStatus();
}

uint64_t RankTrainer::WeightsDigest() const {
  std::vector<float> weights(static_cast<size_t>(size()));
  model_->ReadWeights(whole(), weights);
  return DigestOf(weights, whole());
}

void RankTrainer::ShowPosition() {
  MutexLock lock(&mutex_);
  shown_position_ = position_;
}

// ---- one step ----

at::Tensor RankTrainer::MyVote(bool may_leap) const {
  at::Tensor vote = at::zeros({kVoteColumns}, at::kLong);
  int64_t* values = vote.data_ptr<int64_t>();
  const auto held = may_leap ? static_cast<int64_t>(held_leap()) : 0;
  values[kHeld] = held;
  values[kMinusHeld] = -held;
  values[kMinusPause] = paused_ ? -1 : 0;
  values[kMinusCheckpoint] = checkpoint_wanted_ ? -1 : 0;
  const auto ring = this->ring();
  values[kRoom] = ring == nullptr || ring->HasRoom() ? 1 : 0;
  return vote;
}

absl::StatusOr<std::vector<int64_t>> RankTrainer::WaitVote(const Ticket& ticket,
                                                           const at::Tensor& vote) {
  LEAP_RETURN_IF_ERROR(group_->Wait(ticket));
  const int64_t* values = vote.data_ptr<int64_t>();
  return std::vector<int64_t>(values, values + kVoteColumns);
}

absl::StatusOr<StepReport> RankTrainer::Step() {
  return Fenced("training step", [this]() -> absl::StatusOr<StepReport> {
    const absl::Time start = Now();
    StepReport report{.loss = position_.train_loss};
    report.done = position_.step >= spec_.train.steps;
    if (report.done) return report;
    const at::Tensor vote = MyVote(/*may_leap=*/true);
    const Ticket voting = group_->AllReduceMin(vote);
    const absl::StatusOr<double> loss = TrainBatch();
    if (!loss.ok()) {
      // What was given up may still write into the old buffer.
      model_->RenewGradients();
      return loss.status();
    }
    report.loss = *loss;
    ShowPosition();
    LEAP_ASSIGN_OR_RETURN(const std::vector<int64_t> agreed, WaitVote(voting, vote));
    LEAP_RETURN_IF_ERROR(Boundary(agreed));
    report.paused = agreed[kMinusPause] < 0;
    while (report.paused) {
      LEAP_RETURN_IF_ERROR(interrupt_->status());
      RealClock().SleepFor(kPausedRhythm);
      const at::Tensor idle = MyVote(/*may_leap=*/false);
      const Ticket ticket = group_->AllReduceMin(idle);
      LEAP_ASSIGN_OR_RETURN(const std::vector<int64_t> still, WaitVote(ticket, idle));
      if (still[kMinusPause] == 0) break;
    }
    report.done = position_.step >= spec_.train.steps;
    report.seconds = SecondsSince(start);
    return report;
  });
}

absl::Status RankTrainer::WaitAll(const std::vector<Ticket>& tickets) {
  for (const Ticket& ticket : tickets) LEAP_RETURN_IF_ERROR(group_->Wait(ticket));
  return absl::OkStatus();
}

// Forward, backward with buckets reduced meanwhile, update. Changes weights only if all of it
// worked.
absl::StatusOr<double> RankTrainer::TrainBatch() {
  const TrainSpec& train = spec_.train;
  const std::vector<int64_t> windows =
      BatchWindows(train.seed, position_.data_position, corpus_->train_windows(),
                   train.batch_sequences, group_->rank(), group_->world_size());
  const std::vector<int64_t> rows = corpus_->TrainBatch(windows);
  std::vector<Ticket> tickets;
  const bool alone = group_->world_size() == 1;
  LEAP_ASSIGN_OR_RETURN(
      const double mine,
      model_->ForwardBackward(
          rows, spec_.data.sequence_length_tokens + 1, train.batch_sequences, [&](FlatRange range) {
            if (alone) return;
            tickets.push_back(
                group_->AllReduceSum(Gradients().narrow(0, range.begin, range.size())));
          }));
  const at::Tensor loss = at::full({1}, mine, at::kDouble);
  tickets.push_back(group_->AllReduceSum(loss));
  LEAP_RETURN_IF_ERROR(WaitAll(tickets));
  const double mean = loss.item<double>();
  const auto failed = [&](absl::string_view what) {
    return absl::OutOfRangeError(
        absl::StrCat("step ", position_.step, ": the ", what,
                     " is not finite; lower spec.train.lr, lengthen spec.train.warmup_steps, or "
                     "look at the data; the newest checkpoint is sound"));
  };
  if (!std::isfinite(mean)) return failed("training loss");
  LEAP_ASSIGN_OR_RETURN(
      const double norm,
      model_->Update(train, LearningRate(train, position_.step), position_.adam_step + 1));
  if (!std::isfinite(norm)) return failed("gradient");
  ++position_.step;
  ++position_.data_position;
  ++position_.adam_step;
  position_.train_loss = mean;
  return mean;
}

// ---- the end ----

absl::StatusOr<FinalReport> RankTrainer::Finish() {
  FinalReport report{.step = position_.step, .train_loss = position_.train_loss};
  ring()->Drain();
  report.weights_digest = WeightsDigest();
  if (group_->rank() != 0) return report;
  (void)checkpoints_.Drain(kCheckpointWait);
  LEAP_RETURN_IF_ERROR(WriteLastCheckpoint());
  const int64_t row_tokens = spec_.data.sequence_length_tokens + 1;
  LEAP_ASSIGN_OR_RETURN(const auto gate, model_->RowLosses(corpus_->GateSet(), row_tokens));
  LEAP_ASSIGN_OR_RETURN(const auto held_out, model_->RowLosses(corpus_->ReportSet(), row_tokens));
  report.gate_loss = Mean(gate);
  report.report_loss = Mean(held_out);
  return report;
}

// No success without it, and what was trained since the one before would be lost: a disk that is
// full or away is waited for, until somebody cancels the job.
absl::Status RankTrainer::WriteLastCheckpoint() {
  Backoff backoff({.initial = absl::Seconds(1)}, spec_.train.seed);
  const CheckpointData data = Checkpoint();
  for (;;) {
    const absl::Time start = Now();
    const auto path = WriteCheckpoint(checkpoint_dir(), data, spec_.checkpoint.keep);
    callbacks_.on_checkpoint(position_.step, path, SecondsSince(start));
    if (path.ok()) return absl::OkStatus();
    // A disk can be mended; that this group was given up and another one goes on cannot.
    const bool disk = absl::IsResourceExhausted(path.status()) || absl::IsNotFound(path.status()) ||
                      absl::IsPermissionDenied(path.status()) || absl::IsUnavailable(path.status());
    if (!disk) return WithContext(path.status(), "the last checkpoint");
    const absl::Status waited = interrupt_->Await([] { return false; }, backoff.Next(), "the disk");
    if (absl::IsAborted(waited)) return waited;
  }
}

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const JobSpec& spec,
                                                         const std::string& state_dir,
                                                         TrainerCallbacks callbacks) {
  auto trainer = std::make_unique<RankTrainer>(spec, state_dir, std::move(callbacks));
  LEAP_RETURN_IF_ERROR(trainer->Open());
  return trainer;
}

}  // namespace leap
