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

TestClient::TestClient(const std::string& address, const std::string& token,
                       absl::Duration patience)
    : patience_(patience),
      options_{.token = token},
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

std::string PaperJob(absl::string_view name, absl::string_view more) {
  return absl::StrCat(
      "apiVersion: leap/v1\nkind: Job\nmetadata: {name: ", name,
      "}\nspec:\n  data: {paths: [/tmp], gate_sequences: 4}\n  train: {steps: 1000}\n", more);
}

PaperAgent::PaperAgent(const std::string& coordinator, const std::string& name, v1::Role role,
                       const std::string& token)
    : mind_(name, role, NewIncarnation()) {
  AgentSessionCallbacks callbacks;
  callbacks.hello = [this] {
    MutexLock lock(&mutex_);
    return mind_.Hello();
  };
  callbacks.heartbeat = [this]() -> std::optional<v1::Heartbeat> {
    MutexLock lock(&mutex_);
    return mind_.Beat();
  };
  callbacks.on_message = [this](const v1::CoordinatorMessage& message) { On(message); };
  callbacks.on_connected = [this](const v1::Welcome&) {
    std::vector<v1::AgentMessage> messages;
    {
      MutexLock lock(&mutex_);
      messages = mind_.Repeat();
    }
    Say(std::move(messages));
  };
  auto session = OrDie(AgentSession::Start(
      {.coordinator = coordinator,
       .channel = {.token = token},
       .backoff = {.initial = absl::Milliseconds(5), .max = absl::Milliseconds(50)}},
      std::move(callbacks)));
  MutexLock lock(&mutex_);
  session_ = std::move(session);
}

PaperAgent::~PaperAgent() { session_->Stop("the test is over", absl::Seconds(1)); }

void PaperAgent::On(const v1::CoordinatorMessage& message) {
  std::vector<v1::AgentMessage> replies;
  {
    MutexLock lock(&mutex_);
    heard_.push_back(message);
    replies = mind_.On(message);
  }
  Say(std::move(replies));
}

// The session's first callbacks may come before the constructor has stored it: they wait for that.
void PaperAgent::Say(std::vector<v1::AgentMessage> messages) {
  {
    MutexLock lock(&mutex_);
    const auto stored = [this]()
                            ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return session_ != nullptr; };
    mutex_.Await(Condition(&stored));
  }
  for (v1::AgentMessage& message : messages) session_->Send(std::move(message));
}

std::set<uint64_t> PaperAgent::applied() const {
  MutexLock lock(&mutex_);
  return mind_.applied();
}

void PaperAgent::Snapshot(int64_t step) {
  v1::AgentMessage message;
  {
    MutexLock lock(&mutex_);
    message = mind_.Snapshot(step);
  }
  session_->Send(std::move(message));
}

void PaperAgent::EndJob(int64_t step) {
  v1::AgentMessage message;
  {
    MutexLock lock(&mutex_);
    message = mind_.EndJob(step);
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

}  // namespace leap
