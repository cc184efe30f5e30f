#include "engine/ring.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "core/digest.h"
#include "core/schedule.h"

namespace leap {
namespace {

constexpr absl::Duration kLongDrain = absl::Minutes(10);
constexpr absl::Duration kLongCopy = absl::Minutes(1);
constexpr size_t kWaiting = 64;  // requests and other work on the ring's thread, beside snapshots

std::vector<std::span<float>> Spans(std::vector<std::vector<float>>& buffers) {
  return {buffers.begin(), buffers.end()};
}

absl::Status AllocatePart(ShardCopier& copier, RangeSnapshot& part, FlatRange range, bool moments) {
  for (std::vector<float>* buffer : {&part.weights, &part.exp_avg, &part.exp_avg_sq}) {
    if (buffer != &part.weights && !moments) break;
    buffer->resize(static_cast<size_t>(range.size()));
    LEAP_ASSIGN_OR_RETURN(HostPin pin, copier.Pin(*buffer));
    part.pins.push_back(std::move(pin));
  }
  return absl::OkStatus();
}

absl::Status WaitAll(const ShardCopies& copies) {
  for (const auto& copy : copies) LEAP_RETURN_IF_ERROR(copy->Wait(kLongCopy));
  return absl::OkStatus();
}

}  // namespace

FlatRange NextShardOf(int64_t size, int rank, int world_size) {
  if (world_size == 1) return {size, size};
  return ShardOf(size, (rank + 1) % world_size, world_size);
}

int64_t LongestShardOf(int64_t size, int world_size) {
  int64_t longest = 0;
  for (int rank = 0; rank < world_size; ++rank) {
    longest = std::max(longest, ShardOf(size, rank, world_size).size());
  }
  return longest;
}

Ring::Ring(const JobSpec& spec, const WeightLayout& layout, int rank, int world_size,
           RingCallbacks callbacks, StateSource seed)
    : spec_(spec),
      layout_(layout),
      rank_(rank),
      world_size_(world_size),
      shard_(ShardOf(layout.size, rank, world_size)),
      next_(NextShardOf(layout.size, rank, world_size)),
      callbacks_(std::move(callbacks)),
      // Two more than the depth: one being filled, one pinned by a staged leap.
      memory_(spec.leap.enabled ? static_cast<size_t>(spec.leap.ring_depth + 2) : 0),
      seed_(std::move(seed)),
      work_(kWaiting + memory_.size()) {}

absl::StatusOr<std::unique_ptr<Ring>> Ring::Create(const JobSpec& spec, const Model& model,
                                                   int rank, int world_size,
                                                   RingCallbacks callbacks, StateSource seed) {
  std::unique_ptr<Ring> ring(
      new Ring(spec, model.layout(), rank, world_size, std::move(callbacks), std::move(seed)));
  ring->moments_ = spec.leap.enabled && spec.leap.audit_every_leaps > 0;
  bool predictors_read_moments = false;
  for (const PredictorSpec& predictor : spec.leap.predictors) {
    LEAP_ASSIGN_OR_RETURN(auto made, MakePredictor(predictor, spec.leap.interval_steps));
    const PredictorNeeds needs = made->needs();
    ring->moments_ = ring->moments_ || needs.moments;
    predictors_read_moments = predictors_read_moments || needs.moments;
    if (needs.state_buffers > 0 && ring->stateful_ == nullptr) ring->stateful_ = made.get();
    ring->predictors_.push_back(std::move(made));
  }
  ring->next_moments_ = ring->stateful_ != nullptr && predictors_read_moments;
  LEAP_RETURN_IF_ERROR(ring->Allocate(model));
  return ring;
}

absl::Status Ring::Allocate(const Model& model) {
  for (std::shared_ptr<RingSnapshot>& snapshot : memory_) {
    snapshot = std::make_shared<RingSnapshot>();
    LEAP_RETURN_IF_ERROR(AllocatePart(model.copier(), *snapshot, shard_, moments_));
    LEAP_RETURN_IF_ERROR(AllocatePart(model.copier(), snapshot->next, next_, next_moments_));
  }
  if (world_size_ < 3 || !spec_.leap.enabled) return absl::OkStatus();
  third_->values.resize(static_cast<size_t>(LongestShardOf(layout_.size, world_size_)));
  LEAP_ASSIGN_OR_RETURN(third_->pin, model.copier().Pin(third_->values));
  return absl::OkStatus();
}

Ring::~Ring() { Stop(); }

void Ring::Stop() { work_.Stop(); }

void Ring::Drain() { (void)work_.Drain(kLongDrain); }

bool Ring::Post(std::function<void()> work) {
  return work_.waiting() < kWaiting && work_.TryPost(std::move(work));
}

std::shared_ptr<RingSnapshot> Ring::FreeSnapshot() const {
  for (const std::shared_ptr<RingSnapshot>& snapshot : memory_) {
    if (snapshot.use_count() == 1) return snapshot;
  }
  return nullptr;
}

// Memory that nobody else holds cannot be taken hold of: readers find only what is published.
bool Ring::HasRoom() const { return FreeSnapshot() != nullptr; }

void Ring::Skip(int64_t step) {
  MutexLock lock(&mutex_);
  newest_step_ = step;
}

absl::Status Ring::Take(const Model& model, const TrainPosition& position, uint64_t applied_leap) {
  const absl::Time start = RealClock().Now();
  std::shared_ptr<const StagedLeap> applied;
  {
    MutexLock lock(&mutex_);
    applied = std::move(applied_);
    applied_ = nullptr;
    newest_step_ = position.step;
    // Room for the new one among `ring_depth`.
    while (static_cast<int64_t>(published_.size()) >= spec_.leap.ring_depth) {
      published_.erase(published_.begin());
    }
  }
  std::shared_ptr<RingSnapshot> snapshot = FreeSnapshot();
  Check(snapshot != nullptr, "Ring::Take without room");
  const auto copies = std::make_shared<ShardCopies>();
  const auto copy = [&](FlatRange range, RangeSnapshot& to, bool moments) -> absl::Status {
    LEAP_RETURN_IF_ERROR(model.StartReadWeights(range, to.weights, *copies));
    if (!moments) return absl::OkStatus();
    return model.StartReadMoments(range, to.exp_avg, to.exp_avg_sq, *copies);
  };
  LEAP_RETURN_IF_ERROR(copy(shard_, *snapshot, moments_));
  LEAP_RETURN_IF_ERROR(copy(next_, snapshot->next, next_moments_));
  snapshot->position = position;
  snapshot->applied_leap = applied_leap;
  snapshot->others.clear();
  LEAP_ASSIGN_OR_RETURN(std::shared_ptr<const Third> third, TakeThird(model, *snapshot, *copies));
  snapshot->copy_seconds = absl::ToDoubleSeconds(RealClock().Now() - start);
  const bool pushed =
      work_.TryPost([this, snapshot = std::move(snapshot), applied = std::move(applied),
                     third = std::move(third), copies]() mutable {
        if (const absl::Status copied = WaitAll(*copies); !copied.ok()) {
          return LogError("snapshot-lost", {{"step", snapshot->position.step}, {"status", copied}});
        }
        DigestOthers(*snapshot, std::move(third));
        Publish(snapshot, applied);
      });
  // Each snapshot in memory_ has a place of its own; the queue closes with the ring.
  Check(pushed, "Ring::Take after the ring was closed");
  return absl::OkStatus();
}

// One more of the other ranks' shards, each in its turn; null: there are no three ranks, or the one
// before is still being digested.
absl::StatusOr<std::shared_ptr<const Ring::Third>> Ring::TakeThird(const Model& model,
                                                                   RingSnapshot& snapshot,
                                                                   ShardCopies& copies) {
  if (world_size_ < 3 || third_.use_count() > 1) return nullptr;
  const int64_t turn = snapshot.position.data_position / spec_.leap.interval_steps;
  const int rank = static_cast<int>((rank_ + 2 + turn % (world_size_ - 2)) % world_size_);
  const FlatRange range = ShardOf(layout_.size, rank, world_size_);
  const std::span<float> to(third_->values.data(), static_cast<size_t>(range.size()));
  LEAP_RETURN_IF_ERROR(model.StartReadWeights(range, to, copies));
  snapshot.others.push_back({.rank = rank});
  return third_;
}

void Ring::DigestOthers(RingSnapshot& snapshot, std::shared_ptr<const Third> third) {
  for (ShardDigest& other : snapshot.others) {
    const FlatRange range = ShardOf(layout_.size, other.rank, world_size_);
    other.digest = DigestOf({third->values.data(), static_cast<size_t>(range.size())}, range);
  }
  if (world_size_ == 1) return;
  snapshot.others.push_back(
      {.rank = (rank_ + 1) % world_size_, .digest = DigestOf(snapshot.next.weights, next_)});
}

void Ring::Publish(std::shared_ptr<RingSnapshot> snapshot,
                   std::shared_ptr<const StagedLeap> applied) {
  StateSource before;
  {
    MutexLock lock(&mutex_);
    before = NewestSource();
  }
  before.leap = applied;
  const int64_t step = snapshot->position.step;
  const bool first = before.snapshot == nullptr;
  AdvanceState(step, *snapshot, before.snapshot.get(), first ? nullptr : &before.anchor());
  AdvanceState(step, snapshot->next, first ? nullptr : &before.snapshot->next,
               first ? nullptr : &before.next_anchor());
  snapshot->weights_digest = DigestOf(snapshot->weights, shard_);
  snapshot->state_digests.clear();
  for (const std::vector<float>& buffer : snapshot->state) {
    snapshot->state_digests.push_back(DigestOf(buffer, shard_));
  }
  {
    MutexLock lock(&mutex_);
    published_.push_back(snapshot);
    between_ = std::move(applied);
    if (published_.size() > 1) seed_ = {};
  }
  if (callbacks_.on_snapshot) callbacks_.on_snapshot(*snapshot);
}

// S_t from S_{t-Δ}, the point that training went on from at t-Δ, and θ_t; or the first state.
void Ring::AdvanceState(int64_t step, RangeSnapshot& now, const RangeSnapshot* before,
                        const std::vector<float>* anchor) {
  now.state.clear();
  if (stateful_ == nullptr || step < spec_.leap.warmup_steps) return;
  if (before != nullptr && !before->state.empty()) {
    now.state = before->state;
    stateful_->AdvanceState(*anchor, now.weights, Spans(now.state));
  } else {
    now.state.assign(static_cast<size_t>(stateful_->needs().state_buffers),
                     std::vector<float>(now.weights.size()));
    stateful_->InitState(now.weights, Spans(now.state));
  }
}

StateSource Ring::NewestSource() const {
  if (published_.empty()) return seed_;
  return {.snapshot = published_.back(), .own = shard_, .next = next_};
}

std::vector<StateSource> Ring::StateSources() const {
  MutexLock lock(&mutex_);
  std::vector<StateSource> sources;
  const auto add = [&](StateSource source, const std::shared_ptr<const StagedLeap>& leap) {
    if (source.snapshot == nullptr || source.snapshot->state.empty()) return;
    source.leap = leap;
    if (leap != nullptr) source.leap_number = leap->leap;
    sources.push_back(std::move(source));
  };
  add(NewestSource(), applied_);
  if (held_) add(NewestSource(), staged_);
  if (published_.empty()) return sources;
  StateSource older = seed_;
  if (published_.size() > 1) {
    older = {.snapshot = *(published_.end() - 2), .own = shard_, .next = next_};
  }
  add(std::move(older), between_);
  return sources;
}

void Ring::Prepare(PrepareRequest request) {
  const PrepareRequest kept = request;
  if (Post([this, request = std::move(request)] { Compute(request); })) return;
  if (callbacks_.on_vote) {
    callbacks_.on_vote(kept, absl::ResourceExhaustedError("the rank's ring has too much to do"));
  }
}

void Ring::Compute(const PrepareRequest& request) {
  {
    MutexLock lock(&mutex_);
    if (staged_ != nullptr && staged_->leap == request.leap) {
      const uint64_t digest = staged_->digest;
      if (callbacks_.on_vote) callbacks_.on_vote(request, digest);
      return;
    }
  }
  absl::StatusOr<std::shared_ptr<StagedLeap>> leap = Predict(request);
  absl::StatusOr<uint64_t> vote = uint64_t{0};
  if (!leap.ok()) {
    vote = leap.status();
  } else {
    MutexLock lock(&mutex_);
    if (request.base_step != newest_step_) {
      vote = MakeError(absl::StatusCode::kAborted, ErrorReason::kLeapSuperseded,
                       absl::StrCat("the base, step ", request.base_step,
                                    ", is no longer the newest snapshot, ", newest_step_, " is"));
    } else {
      staged_ = *leap;
      held_ = false;
      vote = (*leap)->digest;
    }
  }
  if (callbacks_.on_vote) callbacks_.on_vote(request, vote);
}

absl::StatusOr<std::shared_ptr<StagedLeap>> Ring::Predict(const PrepareRequest& request) const {
  if (request.predictor < 0 || request.predictor >= static_cast<int>(predictors_.size())) {
    return absl::InvalidArgumentError(absl::StrCat("predictor ", request.predictor, " of ",
                                                   predictors_.size(), " does not exist"));
  }
  const Predictor& predictor = *predictors_[static_cast<size_t>(request.predictor)];
  const PredictorNeeds needs = predictor.needs();
  LEAP_RETURN_IF_ERROR(CheckScales(needs, request.scales, layout_.tensors.size()));
  const std::vector<std::shared_ptr<const RingSnapshot>> held = List();
  const auto base = std::find_if(held.begin(), held.end(), [&request](const auto& snapshot) {
    return snapshot->position.step == request.base_step;
  });
  const auto available = base == held.end() ? 0 : base - held.begin() + 1;
  if (available < needs.snapshots) {
    return MakeError(
        absl::StatusCode::kNotFound, ErrorReason::kSnapshotNotFound,
        absl::StrCat("step ", request.base_step, ": ", available,
                     " consecutive snapshots in the ring, ", needs.snapshots, " are needed"));
  }
  const RingSnapshot& theta = **base;
  const TrainSpec& train = spec_.train;
  if (static_cast<int>(theta.state.size()) < needs.state_buffers) {
    return MakeError(absl::StatusCode::kNotFound, ErrorReason::kSnapshotNotFound,
                     absl::StrCat("step ", request.base_step, " has no predictor state yet"));
  }
  const AdamContext adam = {.adam_step = theta.position.adam_step,
                            .lr = LearningRate(train, theta.position.step),
                            .beta1 = train.beta1,
                            .beta2 = train.beta2,
                            .epsilon = train.epsilon,
                            .weight_decay = train.weight_decay};
  const auto predict = [&](FlatRange range, const auto& part_of, std::vector<float>& out) {
    PredictorInputs in{.range = range, .adam = adam, .scales = request.scales};
    for (int i = 0; i < needs.snapshots; ++i) in.snapshots.push_back(part_of(**(base - i)).weights);
    const RangeSnapshot& part = part_of(theta);
    in.exp_avg = part.exp_avg;
    in.exp_avg_sq = part.exp_avg_sq;
    for (const std::vector<float>& buffer : part.state) in.state.push_back(buffer);
    out.resize(part.weights.size());
    predictor.Predict(in, request.horizon_steps, layout_, out);
  };
  auto leap = std::make_shared<StagedLeap>();
  leap->leap = request.leap;
  leap->base_step = request.base_step;
  leap->horizon_steps = request.horizon_steps;
  leap->base = *base;
  predict(
      shard_, [](const RingSnapshot& all) -> const RangeSnapshot& { return all; }, leap->predicted);
  if (stateful_ != nullptr) {
    predict(
        next_, [](const RingSnapshot& all) -> const RangeSnapshot& { return all.next; },
        leap->next_predicted);
  }
  leap->digest = DigestOf(leap->predicted, shard_);
  if (spec_.leap.commit_rule == CommitRule::kReplace) return leap;
  leap->displacement.resize(leap->predicted.size());
  for (size_t i = 0; i < leap->predicted.size(); ++i) {
    leap->displacement[i] = leap->predicted[i] - theta.weights[i];
  }
  return leap;
}

bool Ring::Decide(uint64_t leap, bool commit) {
  MutexLock lock(&mutex_);
  if (staged_ == nullptr || staged_->leap != leap) return false;
  held_ = commit;
  if (!commit) staged_ = nullptr;
  return true;
}

uint64_t Ring::Held() const {
  MutexLock lock(&mutex_);
  return held_ ? staged_->leap : 0;
}

std::shared_ptr<const StagedLeap> Ring::HeldLeap() const {
  MutexLock lock(&mutex_);
  return held_ ? staged_ : nullptr;
}

void Ring::MarkApplied(uint64_t leap) {
  MutexLock lock(&mutex_);
  if (staged_ == nullptr || staged_->leap != leap) return;
  applied_ = std::move(staged_);
  staged_ = nullptr;
  held_ = false;
}

uint64_t Ring::Expire(int64_t step) {
  MutexLock lock(&mutex_);
  if (staged_ == nullptr || staged_->base_step >= step) return 0;
  const uint64_t expired = held_ ? staged_->leap : 0;
  staged_ = nullptr;
  held_ = false;
  return expired;
}

std::shared_ptr<const RingSnapshot> Ring::Find(int64_t step) const {
  MutexLock lock(&mutex_);
  for (const auto& snapshot : published_) {
    if (snapshot->position.step == step) return snapshot;
  }
  return nullptr;
}

std::vector<std::shared_ptr<const RingSnapshot>> Ring::List() const {
  MutexLock lock(&mutex_);
  return published_;
}

}  // namespace leap
