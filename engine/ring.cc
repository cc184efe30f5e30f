#include "engine/ring.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "core/check.h"
#include "core/digest.h"
#include "core/schedule.h"

namespace leap {
namespace {

constexpr absl::Duration kIdle = absl::Milliseconds(500);
constexpr size_t kWaiting = 64;  // requests and other work on the ring's thread, beside snapshots

std::vector<std::span<float>> Spans(std::vector<std::vector<float>>& buffers) {
  return {buffers.begin(), buffers.end()};
}

}  // namespace

Ring::Ring(const JobSpec& spec, const WeightLayout& layout, FlatRange shard,
           RingCallbacks callbacks)
    : spec_(spec),
      layout_(layout),
      shard_(shard),
      callbacks_(std::move(callbacks)),
      // Two more than the depth: one being filled, one pinned by a staged leap.
      memory_(static_cast<size_t>(spec.leap.ring_depth + 2)),
      queue_(kWaiting + memory_.size()) {}

absl::StatusOr<std::unique_ptr<Ring>> Ring::Create(const JobSpec& spec, const WeightLayout& layout,
                                                   FlatRange shard, RingCallbacks callbacks) {
  std::unique_ptr<Ring> ring(new Ring(spec, layout, shard, std::move(callbacks)));
  ring->moments_ = spec.leap.enabled && spec.leap.audit_every_leaps > 0;
  for (const PredictorSpec& predictor : spec.leap.predictors) {
    LEAP_ASSIGN_OR_RETURN(auto made, MakePredictor(predictor, spec.leap.interval_steps));
    const PredictorNeeds needs = made->needs();
    ring->moments_ = ring->moments_ || needs.moments;
    if (needs.state_buffers > 0 && ring->stateful_ == nullptr) ring->stateful_ = made.get();
    ring->predictors_.push_back(std::move(made));
  }
  const size_t size = static_cast<size_t>(shard.size());
  for (std::shared_ptr<RingSnapshot>& snapshot : ring->memory_) {
    snapshot = std::make_shared<RingSnapshot>();
    snapshot->weights.resize(size);
    if (ring->moments_) {
      snapshot->exp_avg.resize(size);
      snapshot->exp_avg_sq.resize(size);
    }
  }
  ring->thread_ = std::thread([raw = ring.get()] { raw->Loop(); });
  return ring;
}

Ring::~Ring() {
  queue_.Close();
  if (thread_.joinable()) thread_.join();
}

void Ring::Loop() {
  while (true) {
    std::optional<std::function<void()>> work = queue_.Pop(kIdle);
    if (work) {
      (*work)();
    } else if (queue_.closed()) {
      return;
    }
  }
}

void Ring::Drain() {
  BoundedQueue<int> done(1);
  if (!queue_.Push([&done] { (void)done.TryPush(1); }, absl::Seconds(60))) return;
  done.Pop(absl::Seconds(600));
}

bool Ring::Post(std::function<void()> work) {
  return queue_.size() < kWaiting && queue_.TryPush(std::move(work));
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

void Ring::Take(const Model& model, const TrainPosition& position, uint64_t applied_leap) {
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
  model.ReadWeights(shard_, snapshot->weights);
  if (moments_) model.ReadMoments(shard_, snapshot->exp_avg, snapshot->exp_avg_sq);
  snapshot->position = position;
  snapshot->applied_leap = applied_leap;
  snapshot->copy_seconds = absl::ToDoubleSeconds(RealClock().Now() - start);
  const bool pushed =
      queue_.TryPush([this, snapshot = std::move(snapshot), applied = std::move(applied)] {
        Publish(snapshot, applied);
      });
  // Each snapshot in memory_ has a place of its own; the queue closes with the ring.
  Check(pushed, "Ring::Take after the ring was closed");
}

void Ring::Publish(std::shared_ptr<RingSnapshot> snapshot,
                   std::shared_ptr<const StagedLeap> applied) {
  std::shared_ptr<const RingSnapshot> before;
  {
    MutexLock lock(&mutex_);
    if (!published_.empty()) before = published_.back();
  }
  AdvanceState(*snapshot, before.get(), applied.get());
  snapshot->weights_digest = DigestOf(snapshot->weights, shard_);
  snapshot->state_digests.clear();
  for (const std::vector<float>& buffer : snapshot->state) {
    snapshot->state_digests.push_back(DigestOf(buffer, shard_));
  }
  {
    MutexLock lock(&mutex_);
    published_.push_back(snapshot);
  }
  if (callbacks_.on_snapshot) callbacks_.on_snapshot(*snapshot);
}

// S_t from S_{t-Δ}, the point that training went on from at t-Δ, and θ_t; or the first state.
void Ring::AdvanceState(RingSnapshot& snapshot, const RingSnapshot* before,
                        const StagedLeap* applied) {
  snapshot.state.clear();
  if (stateful_ == nullptr || snapshot.position.step < spec_.leap.warmup_steps) return;
  const bool goes_on = before != nullptr && !before->state.empty();
  if (goes_on) {
    snapshot.state = before->state;
    const std::vector<float>& anchor = applied != nullptr ? applied->predicted : before->weights;
    stateful_->AdvanceState(anchor, snapshot.weights, Spans(snapshot.state));
  } else {
    snapshot.state.assign(static_cast<size_t>(stateful_->needs().state_buffers),
                          std::vector<float>(snapshot.weights.size()));
    stateful_->InitState(snapshot.weights, Spans(snapshot.state));
  }
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
  PredictorInputs in{.range = shard_, .scales = request.scales};
  for (int i = 0; i < needs.snapshots; ++i) in.snapshots.push_back((*(base - i))->weights);
  in.exp_avg = theta.exp_avg;
  in.exp_avg_sq = theta.exp_avg_sq;
  for (const std::vector<float>& buffer : theta.state) in.state.push_back(buffer);
  if (static_cast<int>(in.state.size()) < needs.state_buffers) {
    return MakeError(absl::StatusCode::kNotFound, ErrorReason::kSnapshotNotFound,
                     absl::StrCat("step ", request.base_step, " has no predictor state yet"));
  }
  in.adam = {.adam_step = theta.position.adam_step,
             .lr = LearningRate(train, theta.position.step),
             .beta1 = train.beta1,
             .beta2 = train.beta2,
             .epsilon = train.epsilon,
             .weight_decay = train.weight_decay};
  auto leap = std::make_shared<StagedLeap>();
  leap->leap = request.leap;
  leap->base_step = request.base_step;
  leap->horizon_steps = request.horizon_steps;
  leap->base = *base;
  leap->predicted.resize(theta.weights.size());
  predictor.Predict(in, request.horizon_steps, layout_, leap->predicted);
  leap->digest = DigestOf(leap->predicted, shard_);
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

uint64_t Ring::Expire() {
  MutexLock lock(&mutex_);
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
