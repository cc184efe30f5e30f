#include "coordinator/paper_mind.h"

#include <algorithm>
#include <limits>

#include "core/job_spec.h"
#include "core/predictor.h"

namespace leap {
namespace {

constexpr int64_t kFloats = 1 << 20;
constexpr uint64_t kWeightsAfter = 9'000;  // digest of the live weights after a leap

}  // namespace

uint64_t PaperDigest(int64_t base_step, int predictor, int64_t horizon_steps) {
  return static_cast<uint64_t>(base_step) * 1'000'003 + static_cast<uint64_t>(predictor) * 1009 +
         static_cast<uint64_t>(horizon_steps) + 1;
}

PaperMind::PaperMind(const std::string& name, v1::Role role, uint64_t incarnation) {
  hello_.set_agent(name);
  hello_.set_incarnation(incarnation);
  hello_.set_role(role);
  hello_.set_data_address("127.0.0.1:1");
  hello_.set_store_address("127.0.0.1:2");
  hello_.set_version("paper");
}

v1::Hello PaperMind::Hello() const {
  v1::Hello hello = hello_;
  hello.set_step(step_);
  return hello;
}

v1::Heartbeat PaperMind::Beat() {
  if (trains_) ++step_;
  v1::Heartbeat beat;
  beat.set_job(job());
  beat.set_epoch(epoch());
  beat.set_step(step_);
  beat.set_trained_steps(step_);
  beat.set_train_loss(3.0);
  beat.set_tokens_per_second(1000);
  beat.set_busy_seconds(0.1 * static_cast<double>(step_));
  return beat;
}

std::vector<v1::AgentMessage> PaperMind::On(const v1::CoordinatorMessage& message) {
  std::vector<v1::AgentMessage> replies;
  if (message.has_assign_worker()) Join(message.assign_worker(), &replies);
  if (message.has_assign_verifier()) {
    trains_ = false;
    hello_.set_job(message.assign_verifier().job());
    hello_.set_epoch(message.assign_verifier().epoch());
    ReadSpec(message.assign_verifier().spec_yaml());
  }
  if (message.has_release() && message.release().job() == job()) {
    trains_ = false;
    hello_.clear_job();
    hello_.clear_epoch();
    ended_.reset();
    replies.emplace_back().mutable_heartbeat();
  }
  if (message.has_task()) replies.push_back(Score(message.task()));
  if (message.has_prepare()) replies.push_back(Vote(message.prepare()));
  if (message.has_decide()) replies.push_back(Outcome(message.decide()));
  return replies;
}

void PaperMind::TakeStateOf(const PaperMind& peer) {
  step_ = peer.step_;
  applied_ = peer.applied_;
  hello_.set_last_leap(peer.hello_.last_leap());
  hello_.set_leaps_applied(peer.hello_.leaps_applied());
}

void PaperMind::Join(const v1::AssignWorker& assign, std::vector<v1::AgentMessage>* replies) {
  trains_ = true;
  hello_.set_job(assign.job());
  hello_.set_epoch(assign.epoch());
  rank_ = assign.rank();
  world_size_ = assign.world_size();
  for (const v1::Member& member : assign.members()) step_ = std::max(step_, member.step());
  v1::EpochReady* ready = replies->emplace_back().mutable_epoch_ready();
  ready->set_job(assign.job());
  ready->set_epoch(assign.epoch());
  ready->set_rank(assign.rank());
  ready->set_step(step_);
  ready->set_weights_digest(7);
  ready->set_leaps_applied(hello_.leaps_applied());
  ready->set_last_leap(hello_.last_leap());
  if (assign.rank() != 0) return;
  v1::TrainingStarted* started = replies->emplace_back().mutable_training_started();
  started->set_job(assign.job());
  started->set_epoch(assign.epoch());
  started->mutable_data()->set_tokens(1000);
}

// Rank 0's share is what the others leave: all of them add up to `digest`.
uint64_t PaperMind::ShareOf(uint64_t digest) const {
  return rank_ == 0 ? digest - static_cast<uint64_t>(world_size_ - 1) : 1;
}

void PaperMind::ReadSpec(const std::string& yaml) {
  scaled_.clear();
  const absl::StatusOr<JobSpec> spec = ParseJobSpec(yaml);
  if (!spec.ok()) return;
  for (const PredictorSpec& predictor : spec->leap.predictors) {
    const auto made = MakePredictor(predictor, spec->leap.interval_steps);
    scaled_.push_back(made.ok() && (*made)->needs().scales);
  }
}

v1::AgentMessage PaperMind::Score(const v1::Task& task) const {
  v1::AgentMessage message;
  v1::TaskResult* result = message.mutable_task_result();
  result->set_job(task.job());
  result->set_epoch(task.epoch());
  result->set_task(task.task());
  result->set_base_step(task.base_step());
  result->set_ok(true);
  const bool candidate = task.kind() == v1::Task::CANDIDATE;
  for (int i = 0; i < 4; ++i) {
    result->add_gate_losses((candidate ? 2.5f : 3.0f) + 0.01f * static_cast<float>(i));
  }
  const auto predictor = static_cast<size_t>(task.predictor());
  if (candidate && predictor < scaled_.size() && scaled_[predictor]) result->add_scales(1);
  result->set_report_loss(3.1);
  result->set_similarity(task.snapshots_size() > 1 ? 0.9999
                                                   : std::numeric_limits<double>::quiet_NaN());
  result->set_digest(candidate
                         ? PaperDigest(task.base_step(), task.predictor(), task.horizon_steps())
                         : task.snapshots(0).weights_digest());
  result->set_seconds(0.01);
  result->set_fetch_seconds(0.001);
  return message;
}

v1::AgentMessage PaperMind::Vote(const v1::Prepare& prepare) {
  if (bases_.size() > 16) bases_.erase(bases_.begin());
  bases_[prepare.leap()] = prepare.base_step();
  v1::AgentMessage message;
  v1::PrepareVote* vote = message.mutable_prepare_vote();
  vote->set_job(prepare.job());
  vote->set_epoch(prepare.epoch());
  vote->set_leap(prepare.leap());
  vote->set_rank(rank_);
  vote->set_ok(true);
  vote->set_shard_digest(
      ShareOf(PaperDigest(prepare.base_step(), prepare.predictor(), prepare.horizon_steps())));
  return message;
}

v1::AgentMessage PaperMind::Outcome(const v1::Decide& decide) {
  v1::AgentMessage message;
  v1::LeapOutcome* outcome = message.mutable_leap_outcome();
  outcome->set_job(decide.job());
  outcome->set_epoch(decide.epoch());
  outcome->set_leap(decide.leap());
  outcome->set_rank(rank_);
  const bool apply = decide.commit() && !ended_;  // a rank that has ended has no boundary left
  outcome->set_applied(apply);
  outcome->set_boundary_step(bases_[decide.leap()]);
  outcome->set_step(bases_[decide.leap()]);
  outcome->set_pause_seconds(0.001);
  outcome->set_shard_digest(ShareOf(kWeightsAfter));
  outcome->set_weights_digest(kWeightsAfter);
  if (apply) {
    applied_.insert(decide.leap());
    hello_.set_last_leap(*applied_.rbegin());
    hello_.set_leaps_applied(static_cast<int64_t>(applied_.size()));
  }
  return message;
}

v1::AgentMessage PaperMind::Snapshot(int64_t step) {
  step_ = std::max(step_, step);
  v1::AgentMessage message;
  v1::SnapshotTaken* taken = message.mutable_snapshot_taken();
  taken->set_job(job());
  taken->set_epoch(epoch());
  taken->set_rank(rank_);
  taken->set_step(step);
  taken->set_data_position(step);
  taken->set_adam_step(step);
  taken->set_begin(kFloats * rank_ / world_size_);
  taken->set_end(kFloats * (rank_ + 1) / world_size_);
  taken->set_weights_digest(ShareOf(static_cast<uint64_t>(step) + 10'000));
  taken->set_has_moments(true);
  taken->set_snapshot_seconds(0.001);
  return message;
}

v1::AgentMessage PaperMind::EndJob(int64_t step) {
  step_ = step;
  v1::AgentMessage message;
  v1::JobEnded* ended = message.mutable_job_ended();
  ended->set_job(job());
  ended->set_epoch(epoch());
  ended->set_rank(rank_);
  ended->set_ok(true);
  ended->set_last_leap(applied_.empty() ? 0 : *applied_.rbegin());
  ended->mutable_result()->set_step(step);
  ended->mutable_result()->set_train_loss(2.5);
  ended_ = message;
  return message;
}

std::vector<v1::AgentMessage> PaperMind::Repeat() const {
  if (!ended_) return {};
  return {*ended_};
}

}  // namespace leap
