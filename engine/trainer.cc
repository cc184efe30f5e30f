#include "engine/trainer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "core/digest.h"
#include "core/schedule.h"
#include "engine/corpus.h"
#include "engine/internal/torch_errors.h"
#include "engine/model.h"

namespace leap {
namespace {

constexpr absl::Duration kPausedRhythm = absl::Milliseconds(50);

absl::Time Now() { return RealClock().Now(); }
double SecondsSince(absl::Time start) { return absl::ToDoubleSeconds(Now() - start); }

double Mean(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += value;
  return values.empty() ? std::nan("") : sum / static_cast<double>(values.size());
}

// What ranks tell one another before they step together.
enum PositionColumn {
  kLive,
  kStep,
  kLeaps,
  kDataPosition,
  kAdamStep,
  kLastLeap,
  kDigest,
  kPositionColumns
};

// The boundary vote, combined by MIN over ranks: `x` and `-x` give minimum and maximum.
enum VoteColumn { kHeld, kMinusHeld, kMinusPause, kMinusCheckpoint, kVoteColumns };

class RankTrainer final : public Trainer {
 public:
  RankTrainer(const JobSpec& spec, const std::string& state_dir, TrainerCallbacks callbacks)
      : spec_(spec), state_dir_(state_dir), callbacks_(std::move(callbacks)) {}
  ~RankTrainer() override { Leave(); }

  absl::Status Open();

  absl::StatusOr<JoinReport> Join(const EpochOptions& options,
                                  std::shared_ptr<Interrupt> interrupt) override;
  absl::StatusOr<StepReport> Step() override;
  absl::StatusOr<FinalReport> Finish() override;
  void Leave() override;

  void Prepare(PrepareRequest request) override {
    if (const auto ring = this->ring()) return ring->Prepare(std::move(request));
    callbacks_.on_vote(request, absl::AbortedError("this rank is in no epoch"));
  }
  bool Decide(uint64_t leap, bool commit) override {
    const auto ring = this->ring();
    return ring != nullptr && ring->Decide(leap, commit);
  }
  void SetPaused(bool paused) override { paused_ = paused; }
  void RequestCheckpoint() override { checkpoint_wanted_ = true; }

  TrainPosition position() const override {
    MutexLock lock(&mutex_);
    return shown_position_;
  }
  uint64_t held_leap() const override {
    const auto ring = this->ring();
    return ring == nullptr ? 0 : ring->Held();
  }
  std::shared_ptr<Ring> ring() const override {
    MutexLock lock(&mutex_);
    return ring_;
  }
  const DataRegions& regions() const override { return corpus_->regions(); }
  int64_t corpus_tokens() const override { return corpus_->tokens(); }
  std::string corpus_digest() const override { return corpus_->content_digest(); }
  int64_t parameters() const override { return model_->layout().size; }

 private:
  at::Tensor& Gradients() { return *static_cast<at::Tensor*>(model_->FlatGradientsTensor()); }
  int64_t size() const { return model_->layout().size; }
  FlatRange whole() const { return {0, size()}; }
  std::string checkpoint_dir() const {
    return spec_.checkpoint.dir.empty() ? absl::StrCat(state_dir_, "/checkpoints/", spec_.name)
                                        : spec_.checkpoint.dir;
  }

  uint64_t WeightsDigest() const;
  absl::Status LoadCheckpoint(const EpochOptions& options, std::string* source);
  absl::Status SyncState(const EpochOptions& options, std::string* recovered_from);
  absl::Status BroadcastState(int source, bool receive);
  absl::Status StartRing();
  absl::Status MakeFreshModel();

  absl::StatusOr<double> TrainBatch();
  absl::Status WaitAll(const std::vector<Ticket>& tickets);
  absl::StatusOr<std::vector<int64_t>> WaitVote(const Ticket& ticket, const at::Tensor& vote);
  at::Tensor MyVote(bool may_leap) const;
  absl::Status Boundary(const std::vector<int64_t>& vote);
  absl::Status ApplyLeap();
  absl::Status ScaleMoments(int64_t horizon_steps);
  void PublishLeap(const StagedLeap& leap, int64_t boundary_step, double pause,
                   std::vector<float> weights);
  void TakeSnapshot();
  void WriteCheckpointAside();
  CheckpointData Checkpoint() const;
  void ShowPosition();

  const JobSpec spec_;
  const std::string state_dir_;
  const TrainerCallbacks callbacks_;
  std::unique_ptr<Corpus> corpus_;
  std::unique_ptr<Model> model_;

  // Training thread.
  std::unique_ptr<Group> group_;
  std::shared_ptr<Interrupt> interrupt_;
  TrainPosition position_;
  uint64_t applied_since_snapshot_ = 0;
  double loss_ = std::numeric_limits<double>::quiet_NaN();

  std::atomic<bool> paused_{false};
  std::atomic<bool> checkpoint_wanted_{false};
  std::atomic<bool> checkpoint_busy_{false};

  mutable Mutex mutex_;
  TrainPosition shown_position_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Ring> ring_ ABSL_GUARDED_BY(mutex_);
};

absl::Status RankTrainer::Open() {
  LEAP_ASSIGN_OR_RETURN(corpus_, Corpus::Open(spec_.data, absl::StrCat(state_dir_, "/corpus")));
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
  LEAP_ASSIGN_OR_RETURN(const std::vector<float> weights,
                        ReadSafetensors(spec_.model.init, model_->layout(), nullptr));
  model_->WriteWeights(whole(), weights);
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

// ---- joining an epoch ----

absl::StatusOr<JoinReport> RankTrainer::Join(const EpochOptions& options,
                                             std::shared_ptr<Interrupt> interrupt) {
  Leave();
  interrupt_ = std::move(interrupt);
  model_->RenewGradients();
  JoinReport report;
  LEAP_ASSIGN_OR_RETURN(group_, Group::Join(options.group, interrupt_));
  if (options.from_checkpoint && options.group.rank == 0) {
    LEAP_RETURN_IF_ERROR(LoadCheckpoint(options, &report.recovered_from));
  }
  LEAP_RETURN_IF_ERROR(SyncState(options, &report.recovered_from));
  LEAP_RETURN_IF_ERROR(StartRing());
  applied_since_snapshot_ = 0;
  ShowPosition();
  report.position = position_;
  report.weights_digest = WeightsDigest();
  return report;
}

void RankTrainer::Leave() {
  group_.reset();
  std::shared_ptr<Ring> ring;
  {
    MutexLock lock(&mutex_);
    ring.swap(ring_);
  }
  if (ring == nullptr) return;
  if (const uint64_t expired = ring->Expire()) {
    callbacks_.on_leap({.leap = expired, .boundary_step = position_.step, .step = position_.step});
  }
}

// The newest checkpoint that can be read; damaged ones are named in the log and passed over.
absl::Status RankTrainer::LoadCheckpoint(const EpochOptions& options, std::string* source) {
  const bool fresh = spec_.checkpoint.resume == "never" && options.checkpoint_path.empty();
  if (fresh) return position_ == TrainPosition{} ? absl::OkStatus() : MakeFreshModel();
  std::vector<std::string> paths;
  const bool named = spec_.checkpoint.resume != "auto" && spec_.checkpoint.resume != "never";
  if (!options.checkpoint_path.empty()) paths.push_back(options.checkpoint_path);
  if (named) {
    paths.push_back(spec_.checkpoint.resume);
  } else {
    for (std::string& path : ListCheckpoints(checkpoint_dir())) paths.push_back(std::move(path));
  }
  for (const std::string& path : paths) {
    absl::StatusOr<CheckpointData> data = ReadCheckpoint(path);
    if (!data.ok()) {
      LogError("checkpoint-unreadable", {{"path", path}, {"status", data.status()}});
      if (named && path == spec_.checkpoint.resume) return data.status();
      continue;
    }
    if (static_cast<int64_t>(data->weights.size()) != size()) {
      return MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kCheckpointMismatch,
                       absl::StrCat("checkpoint ", path, " has ", data->weights.size(),
                                    " parameters, this job's model has ", size(),
                                    "; set spec.checkpoint.dir to a folder of this job, or "
                                    "spec.checkpoint.resume to never"));
    }
    model_->WriteWeights(whole(), data->weights);
    model_->WriteMoments(whole(), data->exp_avg, data->exp_avg_sq);
    position_ = data->position;
    *source = absl::StrCat("checkpoint ", path);
    return absl::OkStatus();
  }
  return position_ == TrainPosition{} ? absl::OkStatus() : MakeFreshModel();
}

// The newest state among the ranks that hold it wins; all others receive it.
absl::Status RankTrainer::SyncState(const EpochOptions& options, std::string* recovered_from) {
  const bool nobody_live = options.from_checkpoint;
  const bool live = nobody_live ? options.group.rank == 0 : options.live;
  std::vector<int64_t> mine(kPositionColumns);
  mine[kLive] = live ? 1 : 0;
  mine[kStep] = position_.step;
  mine[kLeaps] = position_.leaps_applied;
  mine[kDataPosition] = position_.data_position;
  mine[kAdamStep] = position_.adam_step;
  mine[kLastLeap] = static_cast<int64_t>(position_.last_leap);
  mine[kDigest] = static_cast<int64_t>(WeightsDigest());
  LEAP_ASSIGN_OR_RETURN(const auto all, group_->GatherInts(mine));
  const auto version = [&all](size_t r) {
    return std::tuple(all[r][kLive], all[r][kDataPosition], all[r][kLeaps]);
  };
  size_t best = 0;
  for (size_t r = 1; r < all.size(); ++r) {
    if (version(r) > version(best)) best = r;
  }
  std::vector<size_t> holders;
  bool equal = true;
  for (size_t r = 0; r < all.size(); ++r) {
    if (version(r) == version(best)) holders.push_back(r);
    equal = equal && std::equal(all[r].begin() + 1, all[r].end(), all[best].begin() + 1) &&
            (all[r][kLive] == 1 || position_.adam_step == 0);
  }
  if (equal) return absl::OkStatus();
  const size_t source = holders[options.epoch % holders.size()];  // round-robin
  const bool receive = version(static_cast<size_t>(group_->rank())) != version(best);
  LEAP_RETURN_IF_ERROR(BroadcastState(static_cast<int>(source), receive));
  if (!receive) return absl::OkStatus();
  position_ = TrainPosition{.step = all[source][kStep],
                            .data_position = all[source][kDataPosition],
                            .adam_step = all[source][kAdamStep],
                            .leaps_applied = all[source][kLeaps],
                            .last_leap = static_cast<uint64_t>(all[source][kLastLeap])};
  *recovered_from = absl::StrCat("peer rank ", source);
  return absl::OkStatus();
}

absl::Status RankTrainer::BroadcastState(int source, bool receive) {
  const size_t n = static_cast<size_t>(size());
  std::vector<float> weights(n), exp_avg(n), exp_avg_sq(n);
  model_->ReadWeights(whole(), weights);
  model_->ReadMoments(whole(), exp_avg, exp_avg_sq);
  LEAP_RETURN_IF_ERROR(group_->BroadcastFloats(weights, source));
  LEAP_RETURN_IF_ERROR(group_->BroadcastFloats(exp_avg, source));
  LEAP_RETURN_IF_ERROR(group_->BroadcastFloats(exp_avg_sq, source));
  if (!receive) return absl::OkStatus();
  model_->WriteWeights(whole(), weights);
  model_->WriteMoments(whole(), exp_avg, exp_avg_sq);
  return absl::OkStatus();
}

absl::Status RankTrainer::StartRing() {
  const FlatRange shard = ShardOf(size(), group_->rank(), group_->world_size());
  LEAP_ASSIGN_OR_RETURN(std::shared_ptr<Ring> ring,
                        Ring::Create(spec_, model_->layout(), shard,
                                     {.on_snapshot =
                                          [this, shard](const RingSnapshot& snapshot) {
                                            callbacks_.on_snapshot(snapshot, shard);
                                          },
                                      .on_vote = callbacks_.on_vote}));
  MutexLock lock(&mutex_);
  ring_ = std::move(ring);
  return absl::OkStatus();
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
    StepReport report{.loss = loss_};
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
    report.loss = loss_ = *loss;
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
  return mean;
}

// ---- the boundary after a step ----

absl::Status RankTrainer::Boundary(const std::vector<int64_t>& vote) {
  const bool all_hold = vote[kHeld] > 0 && vote[kHeld] == -vote[kMinusHeld];
  if (all_hold) LEAP_RETURN_IF_ERROR(ApplyLeap());
  const bool last = position_.step >= spec_.train.steps;
  if (spec_.leap.enabled && position_.data_position % spec_.leap.interval_steps == 0) {
    TakeSnapshot();
  }
  const int64_t every = spec_.checkpoint.every_steps;
  const bool due = every > 0 && position_.data_position % every == 0;
  if (vote[kMinusCheckpoint] < 0) checkpoint_wanted_ = false;
  if (group_->rank() == 0 && !last && (due || vote[kMinusCheckpoint] < 0)) WriteCheckpointAside();
  return absl::OkStatus();
}

// Every rank holds COMMIT for the same leap: the live shard becomes θ̂ (replace) or moves by θ̂ - θ_t
// (rebase), as separately rounded fp32, and the shards are gathered into the live weights.
absl::Status RankTrainer::ApplyLeap() {
  const absl::Time start = Now();
  const std::shared_ptr<Ring> ring = this->ring();
  const std::shared_ptr<const StagedLeap> leap = ring->HeldLeap();
  if (leap == nullptr) return absl::InternalError("a leap was agreed that is not held");
  int64_t largest = 0;
  for (int r = 0; r < group_->world_size(); ++r) {
    largest = std::max(largest, ShardOf(size(), r, group_->world_size()).size());
  }
  const FlatRange shard = ring->shard();
  at::Tensor mine = at::zeros({largest}, at::kFloat);
  float* values = mine.data_ptr<float>();
  const std::span<float> live(values, static_cast<size_t>(shard.size()));
  if (spec_.leap.commit_rule == CommitRule::kReplace) {
    std::copy(leap->predicted.begin(), leap->predicted.end(), values);
  } else {
    model_->ReadWeights(shard, live);
    const std::vector<float>& base = leap->base->weights;
    for (size_t i = 0; i < live.size(); ++i) {
      const float displacement = leap->predicted[i] - base[i];
      live[i] = live[i] + displacement;
    }
  }
  at::Tensor all = at::empty({largest * group_->world_size()}, at::kFloat);
  LEAP_RETURN_IF_ERROR(group_->Wait(group_->AllGather(all, mine)));
  std::vector<float> weights(static_cast<size_t>(size()));
  for (int r = 0; r < group_->world_size(); ++r) {
    const FlatRange part = ShardOf(size(), r, group_->world_size());
    const float* from = all.data_ptr<float>() + r * largest;
    std::copy(from, from + part.size(), weights.begin() + part.begin);
  }
  model_->WriteWeights(whole(), weights);
  const int64_t boundary_step = position_.step;
  LEAP_RETURN_IF_ERROR(ScaleMoments(leap->horizon_steps));
  if (spec_.leap.advance_step) {
    // Replace goes from the base; rebase keeps the steps trained since (core/savings.h).
    const bool replace = spec_.leap.commit_rule == CommitRule::kReplace;
    const int64_t from = replace ? leap->base_step : position_.step;
    position_.step = std::max(position_.step, from + leap->horizon_steps);
  }
  ++position_.leaps_applied;
  position_.last_leap = leap->leap;
  applied_since_snapshot_ = leap->leap;
  ring->MarkApplied(leap->leap);
  ShowPosition();
  PublishLeap(*leap, boundary_step, SecondsSince(start), std::move(weights));
  return absl::OkStatus();
}

absl::Status RankTrainer::ScaleMoments(int64_t horizon_steps) {
  if (spec_.leap.optimizer == OptimizerRule::kKeep) return absl::OkStatus();
  const size_t n = static_cast<size_t>(size());
  std::vector<float> exp_avg(n), exp_avg_sq(n);
  if (spec_.leap.optimizer == OptimizerRule::kReset) {
    position_.adam_step = 0;  // with its counter: bias correction starts over
  } else {
    model_->ReadMoments(whole(), exp_avg, exp_avg_sq);
    const auto k = static_cast<double>(horizon_steps);
    const auto first = static_cast<float>(std::pow(spec_.train.beta1, k));
    const auto second = static_cast<float>(std::pow(spec_.train.beta2, k));
    for (size_t i = 0; i < n; ++i) {
      exp_avg[i] *= first;
      exp_avg_sq[i] *= second;
    }
  }
  model_->WriteMoments(whole(), exp_avg, exp_avg_sq);
  return absl::OkStatus();
}

// Digests are made on the ring's thread: training does not wait for them.
void RankTrainer::PublishLeap(const StagedLeap& leap, int64_t boundary_step, double pause,
                              std::vector<float> weights) {
  const auto ring = this->ring();
  LeapReport report{.leap = leap.leap,
                    .applied = true,
                    .boundary_step = boundary_step,
                    .step = position_.step,
                    .pause_seconds = pause};
  const FlatRange shard = ring->shard();
  auto shared = std::make_shared<std::vector<float>>(std::move(weights));  // std::function copies
  const bool posted = ring->Post([this, report, shard, shared]() mutable {
    const std::span<const float> all(*shared);
    report.weights_digest = DigestOf(all, {0, static_cast<int64_t>(all.size())});
    report.shard_digest = DigestOf(
        all.subspan(static_cast<size_t>(shard.begin), static_cast<size_t>(shard.size())), shard);
    callbacks_.on_leap(report);
  });
  if (!posted) LogError("leap-report-dropped", {{"leap", leap.leap}});
}

void RankTrainer::TakeSnapshot() {
  const auto ring = this->ring();
  // In this order: once the new snapshot is the newest, nothing can be staged on an older one.
  ring->Take(*model_, position_, applied_since_snapshot_);
  if (const uint64_t expired = ring->Expire()) {
    callbacks_.on_leap({.leap = expired, .boundary_step = position_.step, .step = position_.step});
  }
  applied_since_snapshot_ = 0;
}

// ---- checkpoints ----

CheckpointData RankTrainer::Checkpoint() const {
  CheckpointData data{.position = position_, .seed = spec_.train.seed, .config = model_->config()};
  const size_t n = static_cast<size_t>(size());
  data.weights.resize(n);
  data.exp_avg.resize(n);
  data.exp_avg_sq.resize(n);
  model_->ReadWeights(whole(), data.weights);
  model_->ReadMoments(whole(), data.exp_avg, data.exp_avg_sq);
  return data;
}

void RankTrainer::WriteCheckpointAside() {
  if (checkpoint_busy_.exchange(true)) {
    LogWarning("checkpoint-skipped",
               {{"step", position_.step}, {"reason", "one is being written"}});
    return;
  }
  auto data = std::make_shared<CheckpointData>(Checkpoint());  // std::function copies
  const bool posted = ring()->Post([this, data] {
    const absl::Time start = Now();
    const auto path = WriteCheckpoint(checkpoint_dir(), *data, spec_.checkpoint.keep);
    callbacks_.on_checkpoint(data->position.step, path, SecondsSince(start));
    checkpoint_busy_ = false;
  });
  if (!posted) checkpoint_busy_ = false;
}

absl::StatusOr<FinalReport> RankTrainer::Finish() {
  FinalReport report{.step = position_.step, .train_loss = loss_};
  ring()->Drain();
  report.weights_digest = WeightsDigest();
  if (group_->rank() != 0) return report;
  const absl::Time start = Now();
  const auto path = WriteCheckpoint(checkpoint_dir(), Checkpoint(), spec_.checkpoint.keep);
  callbacks_.on_checkpoint(position_.step, path, SecondsSince(start));
  if (!path.ok())
    return WithContext(path.status(), "the last checkpoint");  // no success without it
  const int64_t row_tokens = spec_.data.sequence_length_tokens + 1;
  LEAP_ASSIGN_OR_RETURN(const auto gate, model_->RowLosses(corpus_->GateSet(), row_tokens));
  LEAP_ASSIGN_OR_RETURN(const auto held_out, model_->RowLosses(corpus_->ReportSet(), row_tokens));
  report.gate_loss = Mean(gate);
  report.report_loss = Mean(held_out);
  return report;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const JobSpec& spec,
                                                         const std::string& state_dir,
                                                         TrainerCallbacks callbacks) {
  auto trainer = std::make_unique<RankTrainer>(spec, state_dir, std::move(callbacks));
  LEAP_RETURN_IF_ERROR(trainer->Open());
  return trainer;
}

}  // namespace leap
