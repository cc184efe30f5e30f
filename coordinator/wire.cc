#include "coordinator/wire.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace leap {
namespace {

void SetTime(absl::Time time, google::protobuf::Timestamp* out) {
  const int64_t micros = absl::ToUnixMicros(time);
  out->set_seconds(micros / 1000000);
  out->set_nanos(static_cast<int32_t>(micros % 1000000) * 1000);
}

// ---- coordinator to agent ----

void To(const machine::Member& in, v1::Member* out) {
  out->set_agent(in.agent);
  out->set_incarnation(in.incarnation);
  out->set_role(static_cast<v1::Role>(in.role));
  out->set_rank(in.rank);
  out->set_data_address(in.data_address);
  out->set_state(in.state);
  out->set_step(in.step);
}

void To(const machine::ShardSource& in, v1::ShardSource* out) {
  out->set_data_address(in.data_address);
  out->set_begin(in.begin);
  out->set_end(in.end);
  out->set_rank(in.rank);
}

struct ToMessage {
  v1::CoordinatorMessage* out;

  void operator()(const machine::Welcome& in) const {
    v1::Welcome* to = out->mutable_welcome();
    to->set_coordinator_incarnation(in.coordinator_incarnation);
    to->set_heartbeat_seconds(in.heartbeat_seconds);
    to->set_lease_seconds(in.lease_seconds);
  }
  void operator()(const machine::AssignWorker& in) const {
    v1::AssignWorker* to = out->mutable_assign_worker();
    to->set_job(in.job);
    to->set_epoch(in.epoch);
    to->set_rank(in.rank);
    to->set_world_size(in.world_size);
    to->set_spec_yaml(in.spec_yaml);
    to->set_store_address(in.store_address);
    for (const machine::Member& member : in.members) To(member, to->add_members());
    to->set_from_checkpoint(in.from_checkpoint);
    to->set_checkpoint_path(in.checkpoint_path);
    to->set_next_leap(in.next_leap);
    to->set_undo_leap(in.undo_leap);
  }
  void operator()(const machine::AssignVerifier& in) const {
    v1::AssignVerifier* to = out->mutable_assign_verifier();
    to->set_job(in.job);
    to->set_epoch(in.epoch);
    to->set_spec_yaml(in.spec_yaml);
  }
  void operator()(const machine::AbortEpoch& in) const {
    v1::AbortEpoch* to = out->mutable_abort_epoch();
    to->set_job(in.job);
    to->set_epoch(in.epoch);
    to->set_reason(in.reason);
  }
  void operator()(const machine::Release& in) const {
    out->mutable_release()->set_job(in.job);
    out->mutable_release()->set_reason(in.reason);
  }
  void operator()(const machine::RunControl& in) const {
    v1::RunControl* to = out->mutable_run_control();
    to->set_job(in.job);
    to->set_epoch(in.epoch);
    to->set_command(static_cast<v1::RunControl::Command>(in.command));
  }
  void operator()(const machine::Task& in) const {
    v1::Task* to = out->mutable_task();
    to->set_job(in.job);
    to->set_epoch(in.epoch);
    to->set_task(in.task);
    to->set_kind(static_cast<v1::Task::Kind>(in.kind));
    to->set_base_step(in.base_step);
    to->set_data_position(in.data_position);
    to->set_adam_step(in.adam_step);
    for (const machine::SnapshotRef& ref : in.snapshots) {
      v1::SnapshotRef* snapshot = to->add_snapshots();
      snapshot->set_step(ref.step);
      snapshot->set_weights_digest(ref.weights_digest);
      for (const uint64_t digest : ref.state_digests) snapshot->add_state_digests(digest);
      for (const machine::ShardSource& source : ref.sources) To(source, snapshot->add_sources());
      snapshot->set_has_moments(ref.has_moments);
    }
    to->set_predictor(in.predictor);
    to->set_horizon_steps(in.horizon_steps);
    to->set_audit_steps(in.audit_steps);
    to->set_deadline_seconds(in.deadline_seconds);
    v1::AppliedLeap* applied = to->mutable_applied();
    applied->set_leap(in.applied.leap);
    applied->set_base_step(in.applied.base_step);
    applied->set_predictor(in.applied.predictor);
    applied->set_horizon_steps(in.applied.horizon_steps);
    for (const double scale : in.applied.scales) applied->add_scales(scale);
    to->set_report(in.report);
  }
  void operator()(const machine::CancelTask& in) const {
    v1::CancelTask* to = out->mutable_cancel_task();
    to->set_job(in.job);
    to->set_epoch(in.epoch);
    to->set_task(in.task);
    to->set_reason(in.reason);
  }
  void operator()(const machine::Prepare& in) const {
    v1::Prepare* to = out->mutable_prepare();
    to->set_job(in.job);
    to->set_epoch(in.epoch);
    to->set_leap(in.leap);
    to->set_base_step(in.base_step);
    to->set_predictor(in.predictor);
    to->set_horizon_steps(in.horizon_steps);
    for (const double scale : in.scales) to->add_scales(scale);
  }
  void operator()(const machine::Decide& in) const {
    v1::Decide* to = out->mutable_decide();
    to->set_job(in.job);
    to->set_epoch(in.epoch);
    to->set_leap(in.leap);
    to->set_commit(in.commit);
    to->set_reason(in.reason);
  }
  void operator()(const machine::Stale& in) const {
    v1::Stale* to = out->mutable_stale();
    to->set_job(in.job);
    to->set_epoch(in.epoch);
    to->set_what(in.what);
  }
};

// ---- job.proto ----

void To(const machine::Progress& in, v1::Progress* out) {
  out->set_step(in.step);
  out->set_steps(in.steps);
  out->set_train_loss(in.train_loss);
  out->set_tokens_per_second(in.tokens_per_second);
  out->set_step_seconds(in.step_seconds);
  out->set_regime(in.regime);
  out->set_regime_confirmed(in.regime_confirmed);
  out->set_similarity(in.similarity);
  out->set_gate_loss(in.gate_loss);
  out->set_report_loss(in.report_loss);
  out->set_lr(in.lr);
  out->set_trained_steps(in.trained_steps);
}

void To(const machine::LeapSummary& in, v1::LeapSummary* out) {
  out->set_candidates(in.candidates);
  out->set_accepted(in.accepted);
  out->set_rejected(in.rejected);
  out->set_committed(in.committed);
  out->set_aborted(in.aborted);
  out->set_booked_steps(in.booked_steps);
  out->set_net_steps(in.net_steps);
  out->set_equivalent_steps(in.equivalent_steps);
  out->set_equivalent_known(in.equivalent_known);
  out->set_verifiers(in.verifiers);
  out->set_verifiers_busy(in.verifiers_busy);
  out->set_audit(in.audit);
  out->set_policy_off(in.policy_off);
  out->set_worker_device_seconds(in.worker_device_seconds);
  out->set_verifier_device_seconds(in.verifier_device_seconds);
  out->set_verdict_age_steps(in.verdict_age_steps);
  out->set_rolled_back(in.rolled_back);
}

void To(const machine::Data& in, v1::Data* out) {
  out->set_tokens(in.tokens);
  out->set_train_begin(in.train_begin);
  out->set_train_end(in.train_end);
  out->set_gate_begin(in.gate_begin);
  out->set_gate_end(in.gate_end);
  out->set_report_begin(in.report_begin);
  out->set_report_end(in.report_end);
  out->set_parameters(in.parameters);
  out->set_content_digest(in.content_digest);
}

void To(const machine::Result& in, v1::Result* out) {
  out->set_step(in.step);
  out->set_train_loss(in.train_loss);
  out->set_report_loss(in.report_loss);
  out->set_gate_loss(in.gate_loss);
  out->set_weights_digest(in.weights_digest);
  out->set_training_seconds(in.training_seconds);
}

void To(const machine::Wait& in, v1::Wait* out) {
  out->set_what(in.what);
  out->set_reason(in.reason);
  out->set_resolution(in.resolution);
  SetTime(in.since, out->mutable_since());
  if (in.until != absl::InfiniteFuture()) SetTime(in.until, out->mutable_until());
}

}  // namespace

v1::CoordinatorMessage ToWire(const machine::CoordinatorMessage& message) {
  v1::CoordinatorMessage out;
  std::visit(ToMessage{&out}, message);
  return out;
}

v1::Job ToWire(const machine::JobView& job) {
  const machine::JobRecord& record = job.record;
  v1::Job out;
  out.set_job(record.job);
  out.set_name(record.name);
  out.set_state(static_cast<v1::Job::State>(record.state));
  out.set_state_reason(record.state_reason);
  const absl::Time never = absl::InfinitePast();
  if (record.state_time != never) SetTime(record.state_time, out.mutable_state_time());
  if (record.create_time != never) SetTime(record.create_time, out.mutable_create_time());
  if (record.start_time != never) SetTime(record.start_time, out.mutable_start_time());
  if (record.end_time != never) SetTime(record.end_time, out.mutable_end_time());
  out.set_spec_yaml(record.spec_yaml);
  out.set_epoch(record.epoch);
  for (const machine::Member& member : job.members) To(member, out.add_members());
  To(record.progress, out.mutable_progress());
  To(record.leaps, out.mutable_leaps());
  if (record.has_data) To(record.data, out.mutable_data());
  if (record.has_result) To(record.result, out.mutable_result());
  out.set_checkpoint_path(record.checkpoint_path);
  out.set_checkpoint_step(record.checkpoint_step);
  out.set_submitter(record.submitter);
  for (const machine::Wait& wait : job.waits) To(wait, out.add_waits());
  return out;
}

v1::Agent ToWire(const machine::AgentView& agent) {
  v1::Agent out;
  out.set_agent(agent.agent);
  out.set_incarnation(agent.incarnation);
  out.set_role(static_cast<v1::Role>(agent.role));
  out.set_state(agent.reason.empty() ? agent.state : absl::StrCat(agent.state, ": ", agent.reason));
  out.set_job(agent.job);
  out.set_data_address(agent.data_address);
  out.set_version(agent.version);
  if (agent.heartbeat_time != absl::InfinitePast()) {
    SetTime(agent.heartbeat_time, out.mutable_heartbeat_time());
  }
  return out;
}

v1::Snapshot ToWire(const machine::SnapshotRecord& row) {
  v1::Snapshot out;
  out.set_job(row.job);
  out.set_epoch(row.epoch);
  out.set_step(row.step);
  out.set_weights_digest(row.weights_digest);
  out.set_gate_loss(row.gate_loss);
  out.set_report_loss(row.report_loss);
  out.set_similarity(row.similarity);
  out.set_regime(row.regime);
  out.set_regime_confirmed(row.regime_confirmed);
  out.set_scored(row.scored);
  for (const machine::SnapshotShard& shard : row.shards) {
    To(machine::ShardSource{shard.data_address, shard.begin, shard.end, shard.rank},
       out.add_sources());
  }
  SetTime(row.create_time, out.mutable_create_time());
  out.set_data_position(row.data_position);
  return out;
}

v1::Candidate ToWire(const machine::CandidateRecord& row) {
  v1::Candidate out;
  out.set_job(row.job);
  out.set_epoch(row.epoch);
  out.set_base_step(row.base_step);
  out.set_predictor(row.predictor);
  out.set_horizon_steps(row.horizon_steps);
  out.set_regime(row.regime);
  out.set_loss(row.loss);
  out.set_baseline_loss(row.baseline_loss);
  out.set_difference(row.difference);
  out.set_standard_error(row.standard_error);
  out.set_accepted(row.accepted);
  out.set_reason(row.reason);
  out.set_sentence(row.sentence);
  out.set_digest(row.digest);
  out.set_verdict_age_steps(row.verdict_age_steps);
  out.set_verification_seconds(row.verification_seconds);
  out.set_verifier(row.verifier);
  SetTime(row.create_time, out.mutable_create_time());
  return out;
}

v1::Leap ToWire(const machine::LeapRecord& row) {
  v1::Leap out;
  out.set_job(row.job);
  out.set_leap(row.leap);
  out.set_epoch(row.epoch);
  out.set_base_step(row.base_step);
  out.set_predictor(row.predictor);
  out.set_horizon_steps(row.horizon_steps);
  out.set_state(static_cast<v1::Leap::State>(row.state));
  out.set_reason(row.reason);
  out.set_boundary_step(row.boundary_step);
  out.set_candidate_digest(row.candidate_digest);
  out.set_weights_digest(row.weights_digest);
  out.set_pause_seconds(row.pause_seconds);
  out.set_booked_steps(row.booked_steps);
  out.set_net_steps(row.net_steps);
  out.set_equivalent_steps(row.equivalent_steps);
  out.set_equivalent_known(row.equivalent_known);
  out.set_promised_difference(row.promised_difference);
  out.set_retained_gain(row.retained_gain);
  out.set_retained_known(row.retained_known);
  SetTime(row.create_time, out.mutable_create_time());
  out.set_commit_rule(row.commit_rule);
  return out;
}

v1::Event ToWire(const machine::EventRecord& row) {
  v1::Event out;
  out.set_job(row.job);
  out.set_sequence(row.sequence);
  SetTime(row.create_time, out.mutable_create_time());
  out.set_kind(row.kind);
  out.set_sentence(row.sentence);
  out.set_epoch(row.epoch);
  out.set_step(row.step);
  return out;
}

}  // namespace leap
