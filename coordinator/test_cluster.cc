#include "coordinator/test_cluster.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/ids.h"
#include "service/rpc_status.h"

namespace leap {
namespace {

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "test cluster: %s\n", value.status().ToString().c_str());
    std::abort();
  }
  return *std::move(value);
}

template <typename Response, typename Call>
absl::StatusOr<Response> Answer(const TestClient& client, Call call) {
  grpc::ClientContext context;
  client.Prepare(&context);
  Response response;
  const absl::Status status = FromGrpcStatus(call(&context, &response));
  if (!status.ok()) return status;
  return response;
}

}  // namespace

// ---- the coordinator ----

TestCoordinator::TestCoordinator(const TestCoordinatorOptions& options) : options_(options) {
  Start();
}
TestCoordinator::~TestCoordinator() { Stop(); }

void TestCoordinator::Start() {
  store_ = OrDie(Store::Open(options_.state_dir + "/ledger.db", options_.store));
  metrics_ = OrDie(Metrics::Start({.room = kInCoordinator}));
  auth_ = OrDie(Authenticator::Create(options_.auth));
  feed_ = std::make_unique<MetricsFeed>(metrics_.get());
  board_ = std::make_unique<Board>();
  options_.runner.cluster.incarnation = NewIncarnation();
  runner_ = std::make_unique<Runner>(options_.runner, store_.get(), board_.get(), feed_.get(),
                                     RealClock());
  const absl::Status started = runner_->Start();
  if (!started.ok()) OrDie(absl::StatusOr<int>(started));
  agents_ = MakeAgentService(runner_.get(), auth_.get(), feed_.get(), options_.agents);
  jobs_ = MakeJobService(runner_.get(), board_.get(), store_.get(), auth_.get(), options_.jobs);
  server_ = OrDie(RpcServer::Start({.listen = options_.listen, .metrics = metrics_.get()},
                                   {agents_.get(), jobs_.get()}));
}

void TestCoordinator::Stop() {
  runner_->Stop();
  board_->Close();
  server_->Shutdown(absl::Seconds(2));
  server_.reset();
  jobs_.reset();
  agents_.reset();
  runner_.reset();
  store_.reset();
}

void TestCoordinator::Restart() {
  options_.listen = server_->address();
  Stop();
  Start();
}

// ---- the client ----

TestClient::TestClient(const std::string& address, const std::string& token)
    : options_{.token = token},
      stub_(v1::JobService::NewStub(OrDie(MakeChannel(address, options_)))) {}

void TestClient::Prepare(grpc::ClientContext* context, absl::Duration timeout) const {
  PrepareCall(options_, timeout, context);
  context->set_wait_for_ready(true);
}

absl::StatusOr<v1::Job> TestClient::Create(const std::string& yaml, const std::string& request_id) {
  v1::CreateJobRequest request;
  request.set_spec_yaml(yaml);
  request.set_request_id(request_id);
  return Answer<v1::Job>(*this, [&](auto* c, auto* r) { return stub_->CreateJob(c, request, r); });
}

absl::StatusOr<v1::Job> TestClient::Get(const std::string& job) {
  v1::GetJobRequest request;
  request.set_job(job);
  return Answer<v1::Job>(*this, [&](auto* c, auto* r) { return stub_->GetJob(c, request, r); });
}

absl::StatusOr<v1::Job> TestClient::Cancel(const std::string& job) {
  v1::CancelJobRequest request;
  request.set_job(job);
  request.set_reason("the test says so");
  return Answer<v1::Job>(*this, [&](auto* c, auto* r) { return stub_->CancelJob(c, request, r); });
}

absl::StatusOr<v1::Job> TestClient::Pause(const std::string& job) {
  v1::PauseJobRequest request;
  request.set_job(job);
  return Answer<v1::Job>(*this, [&](auto* c, auto* r) { return stub_->PauseJob(c, request, r); });
}

absl::StatusOr<v1::Job> TestClient::Resume(const std::string& job) {
  v1::ResumeJobRequest request;
  request.set_job(job);
  return Answer<v1::Job>(*this, [&](auto* c, auto* r) { return stub_->ResumeJob(c, request, r); });
}

absl::StatusOr<v1::ListJobsResponse> TestClient::List(int page_size,
                                                      const std::string& page_token) {
  v1::ListJobsRequest request;
  request.set_page_size(page_size);
  request.set_page_token(page_token);
  return Answer<v1::ListJobsResponse>(
      *this, [&](auto* c, auto* r) { return stub_->ListJobs(c, request, r); });
}

absl::StatusOr<v1::Job> TestClient::WaitFor(const std::string& job, v1::Job::State state,
                                            absl::Duration timeout) {
  return WaitUntil(job, [state](const v1::Job& seen) { return seen.state() == state; }, timeout);
}

absl::StatusOr<v1::Job> TestClient::WaitUntil(const std::string& job,
                                              const std::function<bool(const v1::Job&)>& done,
                                              absl::Duration timeout) {
  grpc::ClientContext context;
  Prepare(&context, timeout);
  v1::WatchJobRequest request;
  request.set_job(job);
  const auto reader = stub_->WatchJob(&context, request);
  v1::WatchJobResponse response;
  while (reader->Read(&response)) {
    if (!done(response.job())) continue;
    context.TryCancel();
    return response.job();
  }
  const absl::Status end = FromGrpcStatus(reader->Finish());
  return end.ok() ? absl::FailedPreconditionError(
                        absl::StrCat("ended as ", response.job().state_reason()))
                  : end;
}

// ---- the agents ----

uint64_t PaperDigest(int64_t base_step, int predictor, int64_t horizon_steps) {
  return static_cast<uint64_t>(base_step) * 1'000'003 + static_cast<uint64_t>(predictor) * 1009 +
         static_cast<uint64_t>(horizon_steps) + 1;
}

std::string PaperJob(absl::string_view name, absl::string_view more) {
  return absl::StrCat(
      "apiVersion: leap/v1\nkind: Job\nmetadata: {name: ", name,
      "}\nspec:\n  data: {paths: [/tmp], gate_sequences: 4}\n  train: {steps: 1000}\n", more);
}

PaperAgent::PaperAgent(const std::string& coordinator, const std::string& name, v1::Role role,
                       const std::string& token)
    : name_(name), role_(role) {
  {
    MutexLock lock(&mutex_);
    hello_.set_agent(name);
    hello_.set_incarnation(NewIncarnation());
    hello_.set_role(role);
    hello_.set_data_address("127.0.0.1:1");
    hello_.set_store_address("127.0.0.1:2");
    hello_.set_version("paper");
  }
  AgentSessionCallbacks callbacks;
  callbacks.hello = [this] {
    MutexLock lock(&mutex_);
    hello_.set_step(step_);
    return hello_;
  };
  callbacks.heartbeat = [this]() -> std::optional<v1::Heartbeat> {
    MutexLock lock(&mutex_);
    v1::Heartbeat beat;
    beat.set_job(hello_.job());
    beat.set_epoch(hello_.epoch());
    if (!hello_.job().empty() && role_ == v1::ROLE_WORKER) ++step_;
    beat.set_step(step_);
    beat.set_trained_steps(step_);
    beat.set_train_loss(3.0);
    beat.set_busy_seconds(0.1 * static_cast<double>(step_));
    return beat;
  };
  callbacks.on_message = [this](const v1::CoordinatorMessage& message) { On(message); };
  session_ = OrDie(AgentSession::Start(
      {.coordinator = coordinator,
       .channel = {.token = token},
       .backoff = {.initial = absl::Milliseconds(5), .max = absl::Milliseconds(50)}},
      std::move(callbacks)));
}

PaperAgent::~PaperAgent() { session_->Stop("the test is over", absl::Seconds(1)); }

void PaperAgent::On(const v1::CoordinatorMessage& message) {
  std::vector<v1::AgentMessage> replies;
  {
    MutexLock lock(&mutex_);
    heard_.push_back(message);
    if (message.has_assign_worker()) Join(message.assign_worker());
    if (message.has_assign_verifier()) {
      hello_.set_job(message.assign_verifier().job());
      hello_.set_epoch(message.assign_verifier().epoch());
    }
    if (message.has_release()) {
      hello_.clear_job();
      hello_.clear_epoch();
      replies_.emplace_back().mutable_heartbeat();
    }
    if (message.has_task()) replies_.push_back(Score(message.task()));
    if (message.has_prepare()) {
      const v1::Prepare& prepare = message.prepare();
      v1::PrepareVote* vote = replies_.emplace_back().mutable_prepare_vote();
      vote->set_job(prepare.job());
      vote->set_epoch(prepare.epoch());
      vote->set_leap(prepare.leap());
      vote->set_ok(true);
      vote->set_shard_digest(
          PaperDigest(prepare.base_step(), prepare.predictor(), prepare.horizon_steps()));
    }
    if (message.has_decide()) replies_.push_back(Outcome(message.decide()));
    replies.swap(replies_);
  }
  for (v1::AgentMessage& reply : replies) session_->Send(std::move(reply));
}

void PaperAgent::Join(const v1::AssignWorker& assign) {
  hello_.set_job(assign.job());
  hello_.set_epoch(assign.epoch());
  v1::EpochReady* ready = replies_.emplace_back().mutable_epoch_ready();
  ready->set_job(assign.job());
  ready->set_epoch(assign.epoch());
  ready->set_rank(assign.rank());
  ready->set_step(step_);
  ready->set_weights_digest(7);
  if (assign.rank() != 0) return;
  v1::TrainingStarted* started = replies_.emplace_back().mutable_training_started();
  started->set_job(assign.job());
  started->set_epoch(assign.epoch());
  started->mutable_data()->set_tokens(1000);
}

v1::AgentMessage PaperAgent::Score(const v1::Task& task) {
  v1::AgentMessage message;
  v1::TaskResult* result = message.mutable_task_result();
  result->set_job(task.job());
  result->set_epoch(task.epoch());
  result->set_task(task.task());
  result->set_base_step(task.base_step());
  result->set_ok(true);
  const bool baseline = task.kind() == v1::Task::BASELINE;
  // A candidate is better by half a nat, and differs from sequence to sequence.
  for (int i = 0; i < 4; ++i)
    result->add_gate_losses((baseline ? 3.0f : 2.5f) + 0.01f * static_cast<float>(i));
  result->set_report_loss(3.1);
  result->set_similarity(task.snapshots_size() > 1 ? 0.9999
                                                   : std::numeric_limits<double>::quiet_NaN());
  result->set_digest(baseline
                         ? task.snapshots(0).weights_digest()
                         : PaperDigest(task.base_step(), task.predictor(), task.horizon_steps()));
  result->set_seconds(0.01);
  return message;
}

v1::AgentMessage PaperAgent::Outcome(const v1::Decide& decide) {
  v1::AgentMessage message;
  v1::LeapOutcome* outcome = message.mutable_leap_outcome();
  outcome->set_job(decide.job());
  outcome->set_epoch(decide.epoch());
  outcome->set_leap(decide.leap());
  outcome->set_applied(decide.commit());
  outcome->set_boundary_step(step_);
  outcome->set_step(step_);
  outcome->set_pause_seconds(0.001);
  outcome->set_shard_digest(9);
  outcome->set_weights_digest(9);
  if (decide.commit()) hello_.set_last_leap(decide.leap());
  return message;
}

void PaperAgent::Snapshot(int64_t step) {
  v1::AgentMessage message;
  {
    MutexLock lock(&mutex_);
    step_ = std::max(step_, step);
    v1::SnapshotTaken* taken = message.mutable_snapshot_taken();
    taken->set_job(hello_.job());
    taken->set_epoch(hello_.epoch());
    taken->set_step(step);
    taken->set_data_position(step);
    taken->set_adam_step(step);
    taken->set_end(1000);
    taken->set_weights_digest(static_cast<uint64_t>(step) + 100);
    taken->set_has_moments(true);
    taken->set_snapshot_seconds(0.001);
  }
  session_->Send(std::move(message));
}

void PaperAgent::EndJob(int64_t step) {
  v1::AgentMessage message;
  {
    MutexLock lock(&mutex_);
    step_ = step;
    v1::JobEnded* ended = message.mutable_job_ended();
    ended->set_job(hello_.job());
    ended->set_epoch(hello_.epoch());
    ended->set_ok(true);
    ended->mutable_result()->set_step(step);
    ended->mutable_result()->set_train_loss(2.5);
  }
  session_->Send(std::move(message));
}

std::vector<v1::CoordinatorMessage> PaperAgent::WaitFor(v1::CoordinatorMessage::KindCase kind,
                                                        size_t count) {
  std::vector<v1::CoordinatorMessage> found;
  const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    found.clear();
    for (const auto& message : heard_) {
      if (message.kind_case() == kind) found.push_back(message);
    }
    return found.size() >= count;
  };
  MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(Condition(&enough), absl::Seconds(10));
  return found;
}

bool PaperAgent::WaitConnected(int64_t connects) {
  for (const absl::Time end = RealClock().Now() + absl::Seconds(10); RealClock().Now() < end;) {
    const AgentSessionInfo info = session_->info();
    if (info.connected && info.connects >= connects) return true;
    RealClock().SleepFor(absl::Milliseconds(1));
  }
  return false;
}

std::string PaperAgent::job() const {
  MutexLock lock(&mutex_);
  return hello_.job();
}

uint64_t PaperAgent::epoch() const {
  MutexLock lock(&mutex_);
  return hello_.epoch();
}

}  // namespace leap
