#include "verifier/agent.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace leap {
namespace {

constexpr absl::Duration kIdleWait = absl::Milliseconds(500);

absl::string_view KindName(const v1::Task& task) {
  switch (task.kind()) {
    case v1::Task::BASELINE:
      return "baseline";
    case v1::Task::CANDIDATE:
      return "candidate";
    case v1::Task::AUDIT:
      return "audit";
    default:
      return "other";
  }
}

// Linux: niceness belongs to a thread; those that LibTorch starts from this one inherit it.
void BeNice(int nice) {
  if (nice == 0) return;
  const auto thread = static_cast<id_t>(syscall(SYS_gettid));
  if (setpriority(PRIO_PROCESS, thread, nice) != 0) LogWarning("nice_refused", {{"nice", nice}});
}

}  // namespace

VerifierAgent::VerifierAgent(const VerifierOptions& options, VerifierParts parts)
    : options_(options), parts_(std::move(parts)), desk_(*parts_.clock, options.desk_size) {
  scoring_thread_ = std::thread([this] { Score(); });
}

VerifierAgent::~VerifierAgent() { Stop("shutting down"); }

void VerifierAgent::Stop(const std::string& reason) {
  desk_.Close(reason);
  if (scoring_thread_.joinable()) scoring_thread_.join();
}

void VerifierAgent::StepAside(const std::string& reason) {
  v1::Release release;
  release.set_reason(reason);
  {
    MutexLock lock(&mutex_);
    release.set_job(job_);
    job_.clear();
  }
  if (!release.job().empty() && !desk_.Release(release)) LogWarning("release_refused");
}

void VerifierAgent::Attach(AgentSession* session) {
  {
    MutexLock lock(&mutex_);
    session_ = session;
  }
  if (session->info().connected) OnConnected();
}

void VerifierAgent::Detach() {
  MutexLock lock(&mutex_);
  session_ = nullptr;
}

AgentSessionCallbacks VerifierAgent::Callbacks() {
  return {.hello = [this] { return MakeHello(); },
          .heartbeat = [this] { return std::optional<v1::Heartbeat>(MakeHeartbeat()); },
          .on_message = [this](const v1::CoordinatorMessage& message) { OnMessage(message); },
          .on_connected = [this](const v1::Welcome&) { OnConnected(); },
          .on_disconnected = [this](const absl::Status& status) { OnDisconnected(status); }};
}

// ---- the session's threads ----

v1::Hello VerifierAgent::MakeHello() const {
  v1::Hello hello;
  hello.set_agent(options_.name);
  hello.set_incarnation(options_.incarnation);
  hello.set_role(v1::ROLE_VERIFIER);
  hello.set_data_address(options_.data_address);
  hello.set_store_address(options_.store_address);
  hello.set_version(options_.version);
  MutexLock lock(&mutex_);
  hello.set_job(job_);
  hello.set_epoch(epoch_);
  hello.set_step(step_);
  return hello;
}

v1::Heartbeat VerifierAgent::MakeHeartbeat() const {
  v1::Heartbeat beat;
  MutexLock lock(&mutex_);
  beat.set_job(job_);
  beat.set_epoch(epoch_);
  beat.set_step(step_);
  double busy = busy_seconds_;
  if (task_since_.has_value()) busy += absl::ToDoubleSeconds(parts_.clock->Now() - *task_since_);
  beat.set_busy_seconds(busy);
  return beat;
}

void VerifierAgent::OnConnected() {
  LogInfo("coordinator_connected");
  was_connected_ = true;
  parts_.metrics->Set(Metric::kCoordinatorConnected, {}, 1);
  std::string job;
  {
    MutexLock lock(&mutex_);
    job = job_;
  }
  for (const v1::TaskResult& result : desk_.Finished()) {
    if (result.job() == job) Send(result);
  }
}

void VerifierAgent::OnDisconnected(const absl::Status& status) {
  LogWarning(was_connected_ ? "coordinator_lost" : "coordinator_unreachable", {{"status", status}});
  was_connected_ = false;
  parts_.metrics->Set(Metric::kCoordinatorConnected, {}, 0);
  parts_.metrics->Count(Metric::kReconnectsTotal);
}

void VerifierAgent::OnMessage(const v1::CoordinatorMessage& message) {
  switch (message.kind_case()) {
    case v1::CoordinatorMessage::kAssignVerifier:
      OnAssign(message.assign_verifier());
      break;
    case v1::CoordinatorMessage::kTask:
      OnTask(message.task());
      break;
    case v1::CoordinatorMessage::kCancelTask:
      desk_.Cancel(message.cancel_task());
      break;
    case v1::CoordinatorMessage::kRelease:
      if (!desk_.Release(message.release())) LogWarning("release_refused");
      break;
    case v1::CoordinatorMessage::kStale:
      LogWarning("stale", {{"job", message.stale().job()},
                           {"epoch", message.stale().epoch()},
                           {"what", message.stale().what()}});
      break;
    default:
      break;  // meant for main workers
  }
  parts_.metrics->Set(Metric::kVerifierQueueLength, {}, static_cast<double>(desk_.open_tasks()));
}

// Held from now on, so that no heartbeat says idle while the scoring thread gets there.
void VerifierAgent::OnAssign(const v1::AssignVerifier& assign) {
  if (!desk_.Assign(assign)) {
    LogWarning("assignment_refused", {{"job", assign.job()}});
    return;
  }
  MutexLock lock(&mutex_);
  if (job_ != assign.job()) {
    busy_seconds_ = 0;
    step_ = 0;
  }
  job_ = assign.job();
  epoch_ = assign.epoch();
}

void VerifierAgent::OnTask(const v1::Task& task) {
  const std::optional<v1::TaskResult> answer = desk_.Admit(task);
  if (answer.has_value()) Send(*answer);
}

bool VerifierAgent::Send(const v1::TaskResult& result) {
  v1::AgentMessage message;
  *message.mutable_task_result() = result;
  MutexLock lock(&mutex_);
  return session_ != nullptr && session_->Send(std::move(message));
}

// ---- the scoring thread ----

void VerifierAgent::Score() {
  BeNice(options_.nice);
  while (true) {
    std::optional<Work> work = desk_.Next(kIdleWait);
    if (!work.has_value()) {
      if (desk_.closed()) return;
      continue;
    }
    if (const auto* assign = std::get_if<v1::AssignVerifier>(&*work)) TakeJob(*assign);
    if (const auto* queued = std::get_if<QueuedTask>(&*work)) RunTask(*queued);
    if (const auto* release = std::get_if<v1::Release>(&*work)) DropJob(*release);
  }
}

void VerifierAgent::TakeJob(const v1::AssignVerifier& assign) {
  if (runner_ != nullptr && runner_job_ == assign.job()) return;
  const absl::Time start = parts_.clock->Now();
  runner_.reset();  // frees the old model before the new one is made
  runner_job_ = assign.job();
  absl::StatusOr<JobSpec> spec = ParseJobSpec(assign.spec_yaml());
  job_error_ = spec.status();
  if (spec.ok()) {
    absl::StatusOr<std::unique_ptr<Scorer>> scorer = parts_.make_scorer(*spec, options_.state_dir);
    job_error_ = scorer.status();
    if (scorer.ok()) {
      absl::StatusOr<std::unique_ptr<TaskRunner>> runner =
          TaskRunner::Create(assign.job(), *spec, *std::move(scorer), parts_.store, parts_.fetch,
                             options_.incarnation);
      job_error_ = runner.status();
      if (runner.ok()) runner_ = *std::move(runner);
    }
  }
  if (!job_error_.ok()) {
    LogError("job_unusable", {{"job", assign.job()}, {"status", job_error_}});
    return;
  }
  LogInfo("job_taken", {{"job", assign.job()},
                        {"epoch", assign.epoch()},
                        {"seconds", absl::ToDoubleSeconds(parts_.clock->Now() - start)}});
}

void VerifierAgent::DropJob(const v1::Release& release) {
  LogInfo("job_released", {{"job", release.job()}, {"reason", release.reason()}});
  runner_.reset();
  runner_job_.clear();
  parts_.store->Reset("", 1);
  MutexLock lock(&mutex_);
  if (job_ != release.job()) return;  // assigned anew meanwhile
  job_.clear();
  epoch_ = 0;
  step_ = 0;
}

void VerifierAgent::RunTask(const QueuedTask& queued) {
  const v1::Task& task = queued.task;
  {
    MutexLock lock(&mutex_);
    task_since_ = parts_.clock->Now();
  }
  v1::TaskResult result;
  if (runner_ != nullptr && runner_job_ == task.job()) {
    result = runner_->Run(task, *queued.control);
  } else {
    result = Refusal(
        task, job_error_.ok() ? absl::FailedPreconditionError("this job is not held") : job_error_);
  }
  {
    MutexLock lock(&mutex_);
    busy_seconds_ += absl::ToDoubleSeconds(parts_.clock->Now() - *task_since_);
    task_since_.reset();
    epoch_ = std::max(epoch_, task.epoch());
    if (result.ok()) step_ = std::max(step_, task.base_step());
  }
  desk_.Finish(result);
  Send(result);
  Record(task, result);
}

void VerifierAgent::Record(const v1::Task& task, const v1::TaskResult& result) {
  parts_.metrics->Count(Metric::kVerifierTasksTotal,
                        {KindName(task), result.ok() ? "ok" : "failed"});
  parts_.metrics->Observe(Metric::kVerifierTaskSeconds, {KindName(task)}, result.seconds());
  parts_.metrics->Observe(Metric::kVerifierFetchSeconds, {}, result.fetch_seconds());
  parts_.metrics->Set(Metric::kVerifierQueueLength, {}, static_cast<double>(desk_.open_tasks()));
  if (!result.ok()) {
    LogWarning("task_failed", {{"job", task.job()},
                               {"task", task.task()},
                               {"kind", KindName(task)},
                               {"base_step", task.base_step()},
                               {"error", result.error()}});
    return;
  }
  LogDebug("task_done", {{"job", task.job()},
                         {"task", task.task()},
                         {"kind", KindName(task)},
                         {"base_step", task.base_step()},
                         {"seconds", result.seconds()},
                         {"fetch_seconds", result.fetch_seconds()}});
}

}  // namespace leap
