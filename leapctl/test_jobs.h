// Test-only: jobs to render.
#pragma once

#include <string>

#include "core/job_spec.h"
#include "leap/v1/job.pb.h"

namespace leap {

inline constexpr int64_t kTestTime = 1800000000;  // 2027-01-15 08:00:00 UTC

// A job half way through, with leaps that saved something.
inline v1::Job RunningJob() {
  v1::Job job;
  job.set_job("demo-7f3a2c");
  job.set_name("demo");
  job.set_state(v1::Job::RUNNING);
  job.set_state_reason("2 of 2 main workers train in epoch 1");
  job.mutable_state_time()->set_seconds(kTestTime - 90);
  job.mutable_create_time()->set_seconds(kTestTime - 100);
  job.mutable_start_time()->set_seconds(kTestTime - 89);
  job.set_epoch(1);
  v1::Wait* wait = job.add_waits();
  wait->set_what("votes");
  wait->set_reason("leap 5 from step 300 waits for the votes of rank 1 (worker-1)");
  wait->set_resolution("they vote");
  wait->mutable_since()->set_seconds(kTestTime - 3);
  wait->mutable_until()->set_seconds(kTestTime + 27);
  const auto spec = ParseJobSpec(
      "apiVersion: leap/v1\nkind: Job\nmetadata: {name: demo}\n"
      "spec: {data: {paths: [text]}, train: {steps: 600}, workers: {replicas: 2}}\n");
  job.set_spec_yaml(spec.ok() ? JobSpecToYaml(*spec) : "");
  for (int rank = 0; rank < 2; ++rank) {
    v1::Member* member = job.add_members();
    member->set_agent("worker-" + std::to_string(rank));
    member->set_role(v1::ROLE_WORKER);
    member->set_rank(rank);
    member->set_state("training");
    member->set_step(300);
    member->set_data_address("127.0.0.1:400" + std::to_string(rank));
  }
  v1::Progress* progress = job.mutable_progress();
  progress->set_step(300);
  progress->set_steps(600);
  progress->set_trained_steps(300);
  progress->set_train_loss(2.41352);
  progress->set_gate_loss(2.5);
  progress->set_report_loss(2.51);
  progress->set_tokens_per_second(13400);
  progress->set_step_seconds(0.15);
  progress->set_lr(0.001);
  progress->set_regime("stable");
  progress->set_regime_confirmed(true);
  progress->set_similarity(0.99951);
  v1::LeapSummary* leaps = job.mutable_leaps();
  leaps->set_candidates(6);
  leaps->set_accepted(5);
  leaps->set_rejected(1);
  leaps->set_committed(4);
  leaps->set_equivalent_known(true);
  leaps->set_equivalent_steps(31.2);
  leaps->set_verifiers(2);
  leaps->set_verifiers_busy(1);
  leaps->set_verdict_age_steps(9);
  leaps->set_worker_device_seconds(178);
  leaps->set_verifier_device_seconds(65);
  v1::Data* data = job.mutable_data();
  data->set_tokens(1000000);
  data->set_train_end(970000);
  data->set_gate_begin(970000);
  data->set_gate_end(980000);
  data->set_report_begin(980000);
  data->set_report_end(1000000);
  data->set_parameters(1040000);
  data->set_content_digest("00ff");
  return job;
}

inline v1::Job EndedJob(v1::Job::State state) {
  v1::Job job = RunningJob();
  job.set_state(state);
  job.set_state_reason("trained to the last step");
  job.clear_waits();
  job.mutable_progress()->set_step(600);
  job.mutable_progress()->set_trained_steps(600);
  job.mutable_end_time()->set_seconds(kTestTime);
  job.set_checkpoint_path("/state/checkpoints/step-600");
  job.set_checkpoint_step(600);
  return job;
}

}  // namespace leap
