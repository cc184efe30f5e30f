// The fields of each ledger row, named once: the table's columns, what is bound and what is read
// all walk this list. `v.Key` marks the columns that identify a row. Nested values (members,
// shards, progress, ...) are JSON text in one column, made from the same kind of list, so `sqlite3
// ledger.db` and its json_extract can read everything.
//
// Adding a column: one line here and a migration in store.cc.
#pragma once

#include "coordinator/machine/record.h"

namespace leap {

template <class V>
void Fields(V& v, machine::Member& r) {
  v("agent", r.agent), v("incarnation", r.incarnation), v("role", r.role), v("rank", r.rank);
  v("data_address", r.data_address), v("state", r.state), v("step", r.step);
}

template <class V>
void Fields(V& v, machine::SnapshotShard& r) {
  v("rank", r.rank), v("begin", r.begin), v("end", r.end), v("data_address", r.data_address);
}

template <class V>
void Fields(V& v, machine::Progress& r) {
  v("step", r.step), v("steps", r.steps), v("train_loss", r.train_loss);
  v("tokens_per_second", r.tokens_per_second), v("step_seconds", r.step_seconds);
  v("regime", r.regime), v("regime_confirmed", r.regime_confirmed), v("similarity", r.similarity);
  v("gate_loss", r.gate_loss), v("report_loss", r.report_loss), v("lr", r.lr);
  v("trained_steps", r.trained_steps);
}

template <class V>
void Fields(V& v, machine::LeapSummary& r) {
  v("candidates", r.candidates), v("accepted", r.accepted), v("rejected", r.rejected);
  v("committed", r.committed), v("aborted", r.aborted), v("booked_steps", r.booked_steps);
  v("net_steps", r.net_steps), v("equivalent_steps", r.equivalent_steps);
  v("equivalent_known", r.equivalent_known), v("audit", r.audit), v("policy_off", r.policy_off);
  v("worker_device_seconds", r.worker_device_seconds);
  v("verifier_device_seconds", r.verifier_device_seconds);
  v("verdict_age_steps", r.verdict_age_steps), v("rolled_back", r.rolled_back);
}

template <class V>
void Fields(V& v, machine::Data& r) {
  v("tokens", r.tokens), v("train_begin", r.train_begin), v("train_end", r.train_end);
  v("gate_begin", r.gate_begin), v("gate_end", r.gate_end);
  v("report_begin", r.report_begin), v("report_end", r.report_end);
  v("parameters", r.parameters), v("content_digest", r.content_digest);
}

template <class V>
void Fields(V& v, machine::Result& r) {
  v("step", r.step), v("train_loss", r.train_loss), v("report_loss", r.report_loss);
  v("gate_loss", r.gate_loss), v("weights_digest", r.weights_digest);
  v("training_seconds", r.training_seconds);
}

template <class V>
void Fields(V& v, machine::JobRecord& r) {
  v.Key("job", r.job);
  v("name", r.name), v("request_id", r.request_id), v("submitter", r.submitter);
  v("spec_yaml", r.spec_yaml), v("queue_number", r.queue_number), v("state", r.state);
  v("state_reason", r.state_reason), v("state_time", r.state_time);
  v("create_time", r.create_time), v("start_time", r.start_time), v("end_time", r.end_time);
  v("paused", r.paused), v("epoch", r.epoch), v("task_ids_reserved", r.task_ids_reserved);
  v("progress", r.progress), v("leaps", r.leaps), v("has_data", r.has_data), v("data", r.data);
  v("has_result", r.has_result), v("result", r.result);
  v("checkpoint_path", r.checkpoint_path), v("checkpoint_step", r.checkpoint_step);
  v("policy_off_reason", r.policy_off_reason);
}

template <class V>
void Fields(V& v, machine::EpochRecord& r) {
  v.Key("job", r.job), v.Key("epoch", r.epoch);
  v("state", r.state), v("reason", r.reason), v("members", r.members);
  v("from_checkpoint", r.from_checkpoint), v("undo_leap", r.undo_leap), v("step", r.step);
  v("leaps_applied", r.leaps_applied), v("weights_digest", r.weights_digest);
  v("create_time", r.create_time), v("formed_time", r.formed_time);
}

template <class V>
void Fields(V& v, machine::SnapshotRecord& r) {
  v.Key("job", r.job), v.Key("epoch", r.epoch), v.Key("step", r.step);
  v("data_position", r.data_position), v("adam_step", r.adam_step);
  v("weights_digest", r.weights_digest), v("state_digests", r.state_digests);
  v("has_moments", r.has_moments), v("applied_leap", r.applied_leap), v("shards", r.shards);
  v("scored", r.scored), v("gate_loss", r.gate_loss), v("report_loss", r.report_loss);
  v("similarity", r.similarity), v("regime", r.regime);
  v("regime_confirmed", r.regime_confirmed), v("discarded", r.discarded);
  v("create_time", r.create_time);
}

template <class V>
void Fields(V& v, machine::CandidateRecord& r) {
  v.Key("job", r.job), v.Key("epoch", r.epoch), v.Key("base_step", r.base_step);
  v.Key("predictor_index", r.predictor_index), v.Key("horizon_steps", r.horizon_steps);
  v("predictor", r.predictor), v("regime", r.regime), v("loss", r.loss);
  v("baseline_loss", r.baseline_loss), v("difference", r.difference);
  v("standard_error", r.standard_error), v("accepted", r.accepted), v("reason", r.reason);
  v("sentence", r.sentence), v("digest", r.digest);
  v("verdict_age_steps", r.verdict_age_steps);
  v("verification_seconds", r.verification_seconds), v("verifier", r.verifier);
  v("create_time", r.create_time);
}

template <class V>
void Fields(V& v, machine::LeapRecord& r) {
  v.Key("job", r.job), v.Key("leap", r.leap);
  v("epoch", r.epoch), v("base_step", r.base_step), v("base_digest", r.base_digest);
  v("predictor_index", r.predictor_index), v("predictor", r.predictor);
  v("horizon_steps", r.horizon_steps), v("scales", r.scales), v("state", r.state);
  v("reason", r.reason), v("boundary_step", r.boundary_step), v("step_after", r.step_after);
  v("candidate_digest", r.candidate_digest), v("weights_digest", r.weights_digest);
  v("pause_seconds", r.pause_seconds), v("booked_steps", r.booked_steps);
  v("net_steps", r.net_steps), v("equivalent_steps", r.equivalent_steps);
  v("equivalent_known", r.equivalent_known), v("promised_difference", r.promised_difference);
  v("retained_gain", r.retained_gain), v("retained_known", r.retained_known);
  v("commit_rule", r.commit_rule), v("verifier", r.verifier), v("create_time", r.create_time);
}

template <class V>
void Fields(V& v, machine::EventRecord& r) {
  v.Key("job", r.job), v.Key("sequence", r.sequence);
  v("create_time", r.create_time), v("kind", r.kind), v("sentence", r.sentence);
  v("epoch", r.epoch), v("step", r.step);
}

template <class V>
void Fields(V& v, machine::BudgetRecord& r) {
  v.Key("job", r.job), v.Key("role", r.role), v.Key("cause", r.cause);
  v("used", r.used);
}

template <class V>
void Fields(V& v, machine::AgentRecord& r) {
  v.Key("agent", r.agent);
  v("incarnation", r.incarnation), v("quarantine_reason", r.quarantine_reason);
  v("create_time", r.create_time);
}

// The table of each kind of row.
template <class R>
constexpr const char* TableOf();
template <>
constexpr const char* TableOf<machine::JobRecord>() {
  return "jobs";
}
template <>
constexpr const char* TableOf<machine::EpochRecord>() {
  return "epochs";
}
template <>
constexpr const char* TableOf<machine::SnapshotRecord>() {
  return "snapshots";
}
template <>
constexpr const char* TableOf<machine::CandidateRecord>() {
  return "candidates";
}
template <>
constexpr const char* TableOf<machine::LeapRecord>() {
  return "leaps";
}
template <>
constexpr const char* TableOf<machine::EventRecord>() {
  return "events";
}
template <>
constexpr const char* TableOf<machine::BudgetRecord>() {
  return "budgets";
}
template <>
constexpr const char* TableOf<machine::AgentRecord>() {
  return "agents";
}

}  // namespace leap
