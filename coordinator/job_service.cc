#include "coordinator/job_service.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/ids.h"
#include "base/nearest.h"
#include "base/status_macros.h"
#include "coordinator/wire.h"
#include "core/job_paths.h"
#include "core/job_spec.h"
#include "leap/v1/job.grpc.pb.h"
#include "service/rpc_status.h"

namespace leap {
namespace {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

constexpr int kDefaultPage = 100;
constexpr int kMaxPage = 1000;
constexpr size_t kMaxRequestId = 64;

ServerUnaryReactor* Answer(CallbackServerContext* context, const absl::Status& status) {
  ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

absl::StatusOr<int64_t> ParsePageToken(const std::string& token) {
  int64_t position = 0;
  if (token.empty() || (absl::SimpleAtoi(token, &position) && position > 0)) return position;
  return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kProtocolViolation,
                   absl::StrCat("page_token '", token.substr(0, 40),
                                "' is not from this server; begin with an empty one"));
}

int PageSize(int wanted) { return wanted <= 0 ? kDefaultPage : std::min(wanted, kMaxPage); }

absl::Status NotFound(const std::string& job, const Board& board) {
  const std::vector<std::string> jobs = board.JobNames();
  const std::vector<absl::string_view> names(jobs.begin(), jobs.end());
  return MakeError(absl::StatusCode::kNotFound, ErrorReason::kJobNotFound,
                   absl::StrCat("there is no job '", job.substr(0, 100), "'",
                                DidYouMean(job, names), "; leapctl list shows them"),
                   {{"job", job.substr(0, 100)}});
}

// Streams one job: its state now, then each change; ends after a terminal state. gRPC owns it.
class WatchReactor final : public grpc::ServerWriteReactor<v1::WatchJobResponse> {
 public:
  WatchReactor(Board* board, std::string job, std::atomic<int>* watches)
      : board_(board), job_(std::move(job)), watches_(watches) {
    subscription_ = board_->Subscribe(job_, [this] { Changed(); });
    Changed();
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) return End(absl::OkStatus());
    WriteIfDirty();
  }

  void OnCancel() override {
    MutexLock lock(&mutex_);
    End(absl::OkStatus());
  }

  void OnDone() override {
    board_->Unsubscribe(subscription_);
    watches_->fetch_sub(1);
    delete this;
  }

 private:
  void Changed() {
    MutexLock lock(&mutex_);
    dirty_ = true;
    WriteIfDirty();
  }

  void WriteIfDirty() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ended_ || writing_) return;
    if (last_) return End(absl::OkStatus());
    if (board_->closed()) {
      return End(MakeError(absl::StatusCode::kUnavailable, ErrorReason::kShuttingDown,
                           "the coordinator is shutting down; watch again in a moment"));
    }
    if (!dirty_) return;
    dirty_ = false;
    const std::optional<v1::Job> job = board_->FindJob(job_);
    if (!job) return End(NotFound(job_, *board_));
    response_.Clear();
    *response_.mutable_job() = *job;
    for (v1::Event& event : board_->EventsAfter(job_, sequence_)) {
      sequence_ = event.sequence();
      *response_.add_events() = std::move(event);
    }
    dirty_ = response_.events_size() >= Board::kEventsAtOnce;  // there may be more
    last_ = !dirty_ && HasEnded(*job);
    writing_ = true;
    StartWrite(&response_);
  }

  void End(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ended_) return;
    ended_ = true;
    Finish(ToGrpcStatus(status));
  }

  Board* const board_;
  const std::string job_;
  std::atomic<int>* const watches_;
  uint64_t subscription_ = 0;

  Mutex mutex_;
  v1::WatchJobResponse response_ ABSL_GUARDED_BY(mutex_);
  int64_t sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  bool dirty_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool last_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

// A watch that ends at once with an error.
class RefusedWatch final : public grpc::ServerWriteReactor<v1::WatchJobResponse> {
 public:
  explicit RefusedWatch(const absl::Status& status) { Finish(ToGrpcStatus(status)); }
  void OnDone() override { delete this; }
};

class JobServiceImpl final : public v1::JobService::CallbackService {
 public:
  JobServiceImpl(Runner* runner, Board* board, Store* store, const Authenticator* auth,
                 const JobServiceLimits& limits)
      : runner_(runner), board_(board), store_(store), auth_(auth), limits_(limits) {}

  ServerUnaryReactor* CreateJob(CallbackServerContext* context, const v1::CreateJobRequest* request,
                                v1::Job* response) override {
    const absl::StatusOr<Caller> caller = Check(*context, "CreateJob");
    if (!caller.ok()) return Answer(context, caller.status());
    absl::StatusOr<machine::CreateJob> event = Validate(*request, *caller);
    if (!event.ok()) return Answer(context, event.status());
    if (request->validate_only()) {
      response->set_name(event->spec.name);
      response->set_spec_yaml(event->spec_yaml);
      return Answer(context, absl::OkStatus());
    }
    return Call(context, *std::move(event), response);
  }

  ServerUnaryReactor* GetJob(CallbackServerContext* context, const v1::GetJobRequest* request,
                             v1::Job* response) override {
    const absl::Status access = Check(*context, "GetJob").status();
    if (!access.ok()) return Answer(context, access);
    std::optional<v1::Job> job = board_->FindJob(request->job());
    if (!job) return Answer(context, NotFound(request->job(), *board_));
    *response = *std::move(job);
    return Answer(context, absl::OkStatus());
  }

  ServerUnaryReactor* ListJobs(CallbackServerContext* context, const v1::ListJobsRequest* request,
                               v1::ListJobsResponse* response) override {
    const absl::Status access = Check(*context, "ListJobs").status();
    if (!access.ok()) return Answer(context, access);
    const absl::StatusOr<int64_t> before = ParsePageToken(request->page_token());
    if (!before.ok()) return Answer(context, before.status());
    int64_t next = 0;
    for (v1::Job& job : board_->ListJobs(*before, PageSize(request->page_size()), &next)) {
      *response->add_jobs() = std::move(job);
    }
    if (next > 0) response->set_next_page_token(absl::StrCat(next));
    return Answer(context, absl::OkStatus());
  }

  grpc::ServerWriteReactor<v1::WatchJobResponse>* WatchJob(
      CallbackServerContext* context, const v1::WatchJobRequest* request) override {
    const absl::Status access = Check(*context, "WatchJob").status();
    if (!access.ok()) return new RefusedWatch(access);  // gRPC's; deletes itself, as those below
    if (!board_->FindJob(request->job())) {
      return new RefusedWatch(NotFound(request->job(), *board_));
    }
    if (watches_.fetch_add(1) >= limits_.max_watches) {
      watches_.fetch_sub(1);
      return new RefusedWatch(MakeError(
          absl::StatusCode::kResourceExhausted, ErrorReason::kQuotaExceeded,
          absl::StrCat(limits_.max_watches, " watches are open; end some, or poll GetJob")));
    }
    return new WatchReactor(board_, request->job(), &watches_);
  }

  ServerUnaryReactor* CancelJob(CallbackServerContext* context, const v1::CancelJobRequest* request,
                                v1::Job* response) override {
    const absl::Status access = CheckSteer(*context, "CancelJob", request->job());
    if (!access.ok()) return Answer(context, access);
    return Call(
        context,
        machine::CancelJob{.job = request->job(), .reason = request->reason().substr(0, 500)},
        response);
  }

  ServerUnaryReactor* PauseJob(CallbackServerContext* context, const v1::PauseJobRequest* request,
                               v1::Job* response) override {
    const absl::Status access = CheckSteer(*context, "PauseJob", request->job());
    if (!access.ok()) return Answer(context, access);
    return Call(context, machine::PauseJob{.job = request->job()}, response);
  }

  ServerUnaryReactor* ResumeJob(CallbackServerContext* context, const v1::ResumeJobRequest* request,
                                v1::Job* response) override {
    const absl::Status access = CheckSteer(*context, "ResumeJob", request->job());
    if (!access.ok()) return Answer(context, access);
    return Call(context, machine::ResumeJob{.job = request->job()}, response);
  }

  ServerUnaryReactor* ListSnapshots(CallbackServerContext* context,
                                    const v1::ListSnapshotsRequest* request,
                                    v1::ListSnapshotsResponse* response) override {
    return ListRows(context, "ListSnapshots", *request, &Store::Snapshots, response,
                    [response] { return response->add_snapshots(); });
  }

  ServerUnaryReactor* ListCandidates(CallbackServerContext* context,
                                     const v1::ListCandidatesRequest* request,
                                     v1::ListCandidatesResponse* response) override {
    return ListRows(context, "ListCandidates", *request, &Store::Candidates, response,
                    [response] { return response->add_candidates(); });
  }

  ServerUnaryReactor* ListLeaps(CallbackServerContext* context, const v1::ListLeapsRequest* request,
                                v1::ListLeapsResponse* response) override {
    return ListRows(context, "ListLeaps", *request, &Store::Leaps, response,
                    [response] { return response->add_leaps(); });
  }

  ServerUnaryReactor* ListEvents(CallbackServerContext* context,
                                 const v1::ListEventsRequest* request,
                                 v1::ListEventsResponse* response) override {
    return ListRows(context, "ListEvents", *request, &Store::Events, response,
                    [response] { return response->add_events(); });
  }

  ServerUnaryReactor* ListAgents(CallbackServerContext* context,
                                 const v1::ListAgentsRequest* request,
                                 v1::ListAgentsResponse* response) override {
    const absl::Status access = Check(*context, "ListAgents").status();
    if (!access.ok()) return Answer(context, access);
    const absl::StatusOr<int64_t> after = ParsePageToken(request->page_token());
    if (!after.ok()) return Answer(context, after.status());
    const std::vector<v1::Agent> agents = board_->ListAgents();
    const int64_t end = std::min<int64_t>(agents.size(), *after + PageSize(request->page_size()));
    for (int64_t i = *after; i < end; ++i) *response->add_agents() = agents[i];
    if (end < static_cast<int64_t>(agents.size())) {
      response->set_next_page_token(absl::StrCat(end));
    }
    return Answer(context, absl::OkStatus());
  }

 private:
  absl::StatusOr<Caller> Check(const CallbackServerContext& context, absl::string_view method) {
    return auth_->Check(context, absl::StrCat("/leap.v1.JobService/", method));
  }

  absl::Status CheckSteer(const CallbackServerContext& context, absl::string_view method,
                          const std::string& job) {
    LEAP_ASSIGN_OR_RETURN(const Caller caller, Check(context, method));
    const std::optional<v1::Job> found = board_->FindJob(job);
    if (!found) return NotFound(job, *board_);
    if (caller.MaySteer(found->submitter())) return absl::OkStatus();
    return MakeError(absl::StatusCode::kPermissionDenied, ErrorReason::kPermissionDenied,
                     absl::StrCat("job ", job, " was submitted by '", found->submitter(),
                                  "'; ask them, or an operator"));
  }

  absl::StatusOr<machine::CreateJob> Validate(const v1::CreateJobRequest& request,
                                              const Caller& caller) {
    if (request.request_id().size() > kMaxRequestId) {
      return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kProtocolViolation,
                       absl::StrCat("request_id: expected at most 64 characters, saw ",
                                    request.request_id().size()));
    }
    machine::CreateJob event;
    LEAP_ASSIGN_OR_RETURN(event.spec, ParseJobSpec(request.spec_yaml()));
    LEAP_RETURN_IF_ERROR(CheckPathNames(event.spec, limits_.path_roots));
    // A repeated request is answered with the job that it made, whatever the quota says now.
    LEAP_ASSIGN_OR_RETURN(const bool repeated, store_->HasRequest(request.request_id()));
    if (!repeated && !request.validate_only()) LEAP_RETURN_IF_ERROR(CheckQuota(caller.name));
    event.spec_yaml = JobSpecToYaml(event.spec);
    event.job = NewJobId(event.spec.name);
    event.request_id = request.request_id();
    event.submitter = caller.name;
    return event;
  }

  absl::Status CheckQuota(const std::string& submitter) {
    const int open = board_->OpenJobsOf(submitter);
    if (open < limits_.max_open_jobs_per_submitter) return absl::OkStatus();
    return MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kQuotaExceeded,
                     absl::StrCat("'", submitter, "' has ", open, " jobs that have not ended, ",
                                  limits_.max_open_jobs_per_submitter,
                                  " are allowed; wait for one to end or cancel it"));
  }

  // Posts what a person asked for; the answer is the job as it stands once that is durable.
  ServerUnaryReactor* Call(CallbackServerContext* context, machine::Event event,
                           v1::Job* response) {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    runner_->Call(std::move(event),
                  [this, reactor, response](const absl::Status& status, const std::string& job) {
                    if (status.ok()) {
                      if (std::optional<v1::Job> found = board_->FindJob(job)) {
                        *response = *std::move(found);
                      }
                    }
                    reactor->Finish(ToGrpcStatus(status));
                  });
    return reactor;
  }

  template <class Request, class Rows, class Response, class Add>
  ServerUnaryReactor* ListRows(CallbackServerContext* context, absl::string_view method,
                               const Request& request, Rows rows, Response* response, Add add) {
    const absl::Status access = Check(*context, method).status();
    if (!access.ok()) return Answer(context, access);
    const absl::StatusOr<int64_t> after = ParsePageToken(request.page_token());
    if (!after.ok()) return Answer(context, after.status());
    if (!board_->FindJob(request.job())) {
      return Answer(context, NotFound(request.job(), *board_));
    }
    const auto page = (store_->*rows)(request.job(), *after, PageSize(request.page_size()));
    if (!page.ok()) return Answer(context, page.status());
    for (const auto& row : page->rows) *add() = ToWire(row);
    if (page->next > 0) response->set_next_page_token(absl::StrCat(page->next));
    return Answer(context, absl::OkStatus());
  }

  Runner* const runner_;
  Board* const board_;
  Store* const store_;
  const Authenticator* const auth_;
  const JobServiceLimits limits_;
  std::atomic<int> watches_{0};
};

}  // namespace

std::unique_ptr<grpc::Service> MakeJobService(Runner* runner, Board* board, Store* store,
                                              const Authenticator* auth,
                                              const JobServiceLimits& limits) {
  return std::make_unique<JobServiceImpl>(runner, board, store, auth, limits);
}

}  // namespace leap
