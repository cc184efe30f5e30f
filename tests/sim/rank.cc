// A main worker's part of the protocol: what the real worker must do too.
#include <algorithm>
#include <string>
#include <utility>

#include "tests/sim/world.h"

namespace leap::sim {

namespace wire = machine;

namespace {

constexpr size_t kMostKept = 4;

const JobSpec& SpecOf(World& world, const std::string& job) {
  for (const JobPlan& plan : world.jobs()) {
    if (plan.job == job) return plan.request.spec;
  }
  std::abort();
}

}  // namespace

void Process::On(const wire::AssignWorker& message) {
  const bool same_job = job_ == message.job && mode != Mode::kVerifying;
  if (same_job && message.epoch < epoch_) return;
  if (same_job && message.epoch == epoch_ && mode != Mode::kAborted) {  // said again
    if (mode == Mode::kStopped && failed_) return Send(*failed_);
    if (ready_ && ready_->epoch == epoch_) Send(*ready_);
    return;
  }
  if (same_job && message.epoch == epoch_) return;  // an epoch that is over
  if (!same_job) LeaveJob();
  LeaveEpoch();
  job_ = message.job;
  epoch_ = message.epoch;
  rank_ = message.rank;
  world_size_ = message.world_size;
  mode = Mode::kJoining;
  if (message.members[rank_].state != "live") {  // whatever it holds is not the job's state
    state.reset();
    ring.clear();
    kept_.clear();
    corrupt = false;
  }
  world_.Join(*this, message);
}

void Process::LeaveEpoch() {
  if (mode == Mode::kJoining || mode == Mode::kTraining) world_.Leave(*this);
  staged_.clear();
  votes_.clear();
  held_leap = 0;  // dropped at a change of epoch
  ended = false;
  ready_.reset();
  failed_.reset();
  job_ended_.reset();
}

void Process::Ready(const ModelState& newest, const std::string& recovered_from, bool undone,
                    const std::string& undo_problem) {
  if (!(state == newest)) {
    state = newest;
    ring.clear();
  }
  corrupt = std::exchange(bad_transfer, false) && world_size_ > 1;
  if (corrupt) state->weights ^= 1u << rank_;
  mode = Mode::kTraining;
  applied_since_snapshot_ = 0;
  ready_ = wire::EpochReady{.job = job_,
                            .epoch = epoch_,
                            .rank = rank_,
                            .step = state->step,
                            .leaps_applied = static_cast<int64_t>(state->leaps.size()),
                            .weights_digest = state->weights,
                            .recovered_from = recovered_from,
                            .last_leap = state->last_leap(),
                            .undo_problem = undo_problem};
  world_.oracle().OnReady(*this, *ready_);
  if (undone && rank_ == 0) WriteCheckpoint(/*at_once=*/true);  // the newest has the leap, maybe
  Send(*ready_);
}

void Process::CollectiveBroke() {
  if (mode != Mode::kJoining && mode != Mode::kTraining) return;
  mode = Mode::kStopped;
  staged_.clear();
  held_leap = 0;
  failed_ = wire::CollectiveFailed{.job = job_,
                                   .epoch = epoch_,
                                   .step = state ? state->step : 0,
                                   .message = "connection closed by peer"};
  world_.oracle().OnCollectiveFailed(job_, epoch_);
  Send(*failed_);
}

void Process::On(const wire::RunControl& message) {
  if (message.job != job_) return;  // it outlives the epoch, as the real worker's does
  if (message.command == wire::RunControl::Command::kPause) paused = true;
  if (message.command == wire::RunControl::Command::kResume) paused = false;
}

// ---- leaps ----

void Process::On(const wire::Prepare& message) {
  if (message.job != job_ || message.epoch != epoch_ || mode != Mode::kTraining) return;
  if (const auto voted = votes_.find(message.leap); voted != votes_.end())
    return Send(voted->second);
  const Micros cost = world_.random().Percent(10) ? world_.random().In(50, 400) * kMillisecond
                                                  : world_.random().In(1, 20) * kMillisecond;
  Later(cost, [message](Process& process) { process.Vote(message); });
}

void Process::Vote(const wire::Prepare& message) {
  if (message.job != job_ || message.epoch != epoch_ || mode != Mode::kTraining) return;
  wire::PrepareVote vote{.job = job_, .epoch = epoch_, .leap = message.leap, .rank = rank_};
  const std::optional<uint64_t> base = SnapshotWeights(message.base_step);
  if (!base) {
    vote.reason = "the base is not in the ring";
  } else {
    const uint64_t candidate = CandidateOf(*base, message.predictor, message.horizon_steps);
    vote.ok = true;
    vote.shard_digest = ShardDigest(candidate, rank_, world_size_);
    if (ring.back().step == message.base_step) staged_[message.leap] = {message, *base, candidate};
  }
  votes_[message.leap] = vote;
  world_.oracle().OnVote(vote);
  Send(vote);
}

void Process::On(const wire::Decide& message) {
  if (message.job != job_ || message.epoch != epoch_ || mode != Mode::kTraining) return;
  if (const auto known = outcomes_.find(message.leap);
      known != outcomes_.end() && known->second.epoch == epoch_) {
    return Send(known->second);
  }
  if (!message.commit) {
    if (held_leap == message.leap)
      world_.oracle().Violate("leap %d aborted after COMMIT", static_cast<int>(message.leap));
    staged_.erase(message.leap);
    return;
  }
  if (!staged_.contains(message.leap) || ended) return Outcome(message.leap, false, 0);
  held_leap = message.leap;
}

bool Process::HoldsApplicable(uint64_t leap) const {
  const auto staged = staged_.find(leap);
  if (leap == 0 || held_leap != leap || staged == staged_.end()) return false;
  const LeapSpec& spec = SpecOf(world_, job_).leap;
  if (spec.commit_rule != CommitRule::kReplace) return true;
  return staged->second.prepare.horizon_steps >
         state->step + 1 - staged->second.prepare.base_step;  // K > δ
}

void Process::Outcome(uint64_t leap, bool applied, int64_t boundary) {
  wire::LeapOutcome outcome{.job = job_,
                            .epoch = epoch_,
                            .leap = leap,
                            .rank = rank_,
                            .applied = applied,
                            .boundary_step = boundary,
                            .step = state->step,
                            .pause_seconds = 0.001};
  if (applied) {
    outcome.shard_digest = ShardDigest(state->weights, rank_, world_size_);
    outcome.weights_digest = state->weights;
  }
  outcomes_[leap] = outcome;
  Send(outcome);
}

void Process::Apply(uint64_t leap) {
  const Staged staged = staged_.at(leap);
  world_.oracle().OnApply(*this, leap, staged.base, staged.candidate);
  world_.CancelAtApply(job_);
  if (!corrupt) kept_[leap] = {*state, rank_, world_size_};
  if (kept_.size() > kMostKept) kept_.erase(kept_.begin());
  const bool replace = SpecOf(world_, job_).leap.commit_rule == CommitRule::kReplace;
  state->weights = ApplyLeap(state->weights, staged.base, staged.candidate, replace);
  state->leaps.push_back(leap);
  applied_since_snapshot_ = leap;
  staged_.clear();
  held_leap = 0;
  Outcome(leap, true, state->step);
}

const ModelState* Process::Before(uint64_t leap) const {
  const auto kept = kept_.find(leap);
  const bool mine =
      kept != kept_.end() && kept->second.rank == rank_ && kept->second.world_size == world_size_;
  return mine ? &kept->second.state : nullptr;
}

void Process::Undo(uint64_t leap, const ModelState& before) {
  state = before;
  corrupt = false;
  ring.clear();
  kept_.erase(kept_.lower_bound(leap), kept_.end());
}

// ---- steps ----

void Process::Train(uint64_t leap, bool snapshot, bool last) {
  TrainStep(*state);
  if (leap != 0) Apply(leap);
  if (snapshot) TakeSnapshot();
  const int64_t every = SpecOf(world_, job_).checkpoint.every_steps;
  if (rank_ == 0 && (last || (every > 0 && state->step % every == 0)))
    WriteCheckpoint(/*at_once=*/false);
  if (last) End();
}

void Process::End() {
  if (corrupt) world_.oracle().OnUnnoticed(job_);  // no snapshot came after it
  if (held_leap != 0) Outcome(std::exchange(held_leap, 0), false, 0);
  ended = true;
  job_ended_ = wire::JobEnded{
      .job = job_,
      .epoch = epoch_,
      .rank = rank_,
      .ok = true,
      .result = {.step = state->step, .train_loss = 3, .weights_digest = state->weights},
      .last_leap = state->last_leap()};
  Send(*job_ended_);
}

void Process::StopForNan() {
  mode = Mode::kStopped;
  reports_nan = false;
  staged_.clear();
  held_leap = 0;
  job_ended_ = wire::JobEnded{.job = job_,
                              .epoch = epoch_,
                              .rank = rank_,
                              .ok = false,
                              .reason = "the loss is NaN",
                              .cause = "nan-loss"};
  Send(*job_ended_);
}

void Process::TakeSnapshot() {
  const JobSpec& spec = SpecOf(world_, job_);
  if (held_leap != 0) Outcome(held_leap, false, 0);  // the next snapshot came first
  held_leap = 0;
  staged_.clear();
  ring.push_back({state->step, state->weights});
  if (static_cast<int64_t>(ring.size()) > spec.leap.ring_depth) ring.pop_front();
  const auto bound = [&](int rank) { return kFloats * rank / world_size_; };
  Send(wire::SnapshotTaken{.job = job_,
                           .epoch = epoch_,
                           .rank = rank_,
                           .step = state->step,
                           .data_position = state->position,
                           .begin = bound(rank_),
                           .end = bound(rank_ + 1),
                           .weights_digest = ShardDigest(state->weights, rank_, world_size_),
                           .applied_leap = std::exchange(applied_since_snapshot_, 0),
                           .has_moments = true,
                           .adam_step = state->position,
                           .others = DigestOthers(spec.leap.interval_steps)});
}

// The next rank's shard, and a third rank's in turn unless this rank is still busy with one.
std::vector<wire::ShardDigest> Process::DigestOthers(int64_t interval_steps) const {
  std::vector<wire::ShardDigest> others;
  const int64_t turn = state->position / interval_steps;
  const auto add = [&](int64_t after) {
    const int other = static_cast<int>((rank_ + after) % world_size_);
    others.push_back({other, ShardDigest(state->weights, other, world_size_)});
  };
  if (world_size_ > 1) add(1);
  if (world_size_ > 2 && turn % 5 != 4) add(2 + turn % (world_size_ - 2));
  return others;
}

std::optional<uint64_t> Process::SnapshotWeights(int64_t step) const {
  for (const RingEntry& entry : ring) {
    if (entry.step == step) return entry.weights;
  }
  return std::nullopt;
}

void Process::WriteCheckpoint(bool at_once) {
  if (corrupt) return;  // what it would hold is nobody's state; nothing here could tell
  const std::string path = "/state/checkpoints/" + job_ + "/step-" + std::to_string(state->step);
  if (std::ranges::any_of(world_.checkpoints(), [&](const Checkpoint& other) {
        return other.job == job_ && other.epoch > epoch_;
      }))
    return;  // another group trains now (engine/checkpoint.h)
  world_.checkpoints().push_back({job_, epoch_, path, *state});
  checkpoint_ =
      wire::CheckpointWritten{.job = job_, .epoch = epoch_, .step = state->step, .path = path};
  if (at_once) return Send(*checkpoint_);
  Later(world_.random().In(1, 50) * kMillisecond,
        [message = *checkpoint_](Process& process) { process.Send(message); });
}

}  // namespace leap::sim
