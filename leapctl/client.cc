#include "leapctl/client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/ids.h"
#include "base/status_macros.h"
#include "leapctl/text.h"
#include "service/rpc_status.h"

namespace leap {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(10);
constexpr int kCreateTries = 4;
constexpr int kPageSize = 500;
constexpr int kMaxPages = 2000;

// "connection refused" out of gRPC's long sentence.
absl::string_view Cause(absl::string_view message, const TlsFiles& tls) {
  if (absl::StrContains(message, "Connection refused")) return "connection refused";
  if (absl::StrContains(message, "timed out")) return "it does not answer";
  if (absl::StrContains(message, "DNS") || absl::StrContains(message, "resol"))
    return "no such host";
  const absl::string_view hint = TlsHint(message, tls);
  return hint.empty() ? message : hint;
}

template <class List>
void KeepLast(List* list, int last) {
  if (last > 0 && list->size() > last) list->DeleteSubrange(0, list->size() - last);
}

}  // namespace

absl::Status ExplainUnreachable(const absl::Status& status, const std::string& coordinator,
                                const TlsFiles& tls) {
  if (ReasonOf(status).has_value()) return status;  // the coordinator itself said so
  if (absl::IsUnavailable(status)) {
    return MakeError(
        absl::StatusCode::kUnavailable, ErrorReason::kCoordinatorUnreachable,
        absl::StrCat(
            "cannot reach the coordinator at ", coordinator, " (",
            Clean(Cause(status.message(), tls)),
            "); is leap-coordinator running there? --coordinator or LEAP_COORDINATOR name another"),
        {{"coordinator", coordinator}});
  }
  if (absl::IsDeadlineExceeded(status)) {
    return MakeError(
        absl::StatusCode::kDeadlineExceeded, ErrorReason::kCoordinatorUnreachable,
        absl::StrCat("the coordinator at ", coordinator, " did not answer within ",
                     absl::FormatDuration(kCallTimeout), "; try again, or look at its log"),
        {{"coordinator", coordinator}});
  }
  return status;
}

Client::Client(std::string coordinator, const ChannelOptions& options,
               std::unique_ptr<v1::JobService::Stub> stub)
    : coordinator_(std::move(coordinator)), options_(options), stub_(std::move(stub)) {}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(const std::string& coordinator,
                                                       const ChannelOptions& options) {
  LEAP_ASSIGN_OR_RETURN(const auto channel, MakeChannel(coordinator, options));
  return std::unique_ptr<Client>(
      new Client(coordinator, options, v1::JobService::NewStub(channel)));
}

template <class Request, class Response>
absl::StatusOr<Response> Client::Call(
    grpc::Status (v1::JobService::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
    const Request& request) {
  grpc::ClientContext context;
  PrepareCall(options_, kCallTimeout, &context);
  Response response;
  const absl::Status status = FromGrpcStatus((stub_.get()->*method)(&context, request, &response));
  if (!status.ok()) return ExplainUnreachable(status, coordinator_, options_.tls);
  return response;
}

// Follows next_page_token; `items` gives the repeated field of a response.
template <class Request, class Response, class Items>
absl::StatusOr<Response> Client::AllPages(
    grpc::Status (v1::JobService::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
    Request request, Items items) {
  Response all;
  request.set_page_size(kPageSize);
  for (int page = 0; page < kMaxPages; ++page) {
    LEAP_ASSIGN_OR_RETURN(Response response, Call(method, request));
    items(all)->MergeFrom(*items(response));
    if (response.next_page_token().empty()) return all;
    request.set_page_token(response.next_page_token());
  }
  return MakeError(
      absl::StatusCode::kResourceExhausted, ErrorReason::kQuotaExceeded,
      absl::StrCat("more than ", kMaxPages * kPageSize, " rows; use a ledger query instead"));
}

absl::StatusOr<v1::Job> Client::CreateJob(const std::string& spec_yaml) {
  v1::CreateJobRequest request;
  request.set_request_id(Hex64(NewIncarnation()));
  request.set_spec_yaml(spec_yaml);
  Backoff backoff({.initial = absl::Milliseconds(200), .max = absl::Seconds(2)}, NewIncarnation());
  for (int tries = 1;; ++tries) {
    absl::StatusOr<v1::Job> job = Call(&v1::JobService::Stub::CreateJob, request);
    if (job.ok() || !absl::IsUnavailable(job.status()) || tries == kCreateTries) return job;
    RealClock().SleepFor(backoff.Next());
  }
}

absl::StatusOr<v1::Job> Client::GetJob(const std::string& job) {
  v1::GetJobRequest request;
  request.set_job(job);
  return Call(&v1::JobService::Stub::GetJob, request);
}

absl::StatusOr<v1::Job> Client::CancelJob(const std::string& job, const std::string& reason) {
  v1::CancelJobRequest request;
  request.set_job(job);
  request.set_reason(reason);
  return Call(&v1::JobService::Stub::CancelJob, request);
}

absl::StatusOr<v1::Job> Client::PauseJob(const std::string& job) {
  v1::PauseJobRequest request;
  request.set_job(job);
  return Call(&v1::JobService::Stub::PauseJob, request);
}

absl::StatusOr<v1::Job> Client::ResumeJob(const std::string& job) {
  v1::ResumeJobRequest request;
  request.set_job(job);
  return Call(&v1::JobService::Stub::ResumeJob, request);
}

absl::StatusOr<v1::ListJobsResponse> Client::ListJobs(int last) {
  LEAP_ASSIGN_OR_RETURN(v1::ListJobsResponse all,
                        AllPages(&v1::JobService::Stub::ListJobs, v1::ListJobsRequest(),
                                 [](v1::ListJobsResponse& page) { return page.mutable_jobs(); }));
  if (last > 0 && all.jobs_size() > last)
    all.mutable_jobs()->DeleteSubrange(last, all.jobs_size() - last);
  return all;
}

absl::StatusOr<v1::ListSnapshotsResponse> Client::ListSnapshots(const std::string& job, int last) {
  v1::ListSnapshotsRequest request;
  request.set_job(job);
  LEAP_ASSIGN_OR_RETURN(
      v1::ListSnapshotsResponse all,
      AllPages(&v1::JobService::Stub::ListSnapshots, request,
               [](v1::ListSnapshotsResponse& page) { return page.mutable_snapshots(); }));
  KeepLast(all.mutable_snapshots(), last);
  return all;
}

absl::StatusOr<v1::ListCandidatesResponse> Client::ListCandidates(const std::string& job,
                                                                  int last) {
  v1::ListCandidatesRequest request;
  request.set_job(job);
  LEAP_ASSIGN_OR_RETURN(
      v1::ListCandidatesResponse all,
      AllPages(&v1::JobService::Stub::ListCandidates, request,
               [](v1::ListCandidatesResponse& page) { return page.mutable_candidates(); }));
  KeepLast(all.mutable_candidates(), last);
  return all;
}

absl::StatusOr<v1::ListLeapsResponse> Client::ListLeaps(const std::string& job, int last) {
  v1::ListLeapsRequest request;
  request.set_job(job);
  LEAP_ASSIGN_OR_RETURN(v1::ListLeapsResponse all,
                        AllPages(&v1::JobService::Stub::ListLeaps, request,
                                 [](v1::ListLeapsResponse& page) { return page.mutable_leaps(); }));
  KeepLast(all.mutable_leaps(), last);
  return all;
}

absl::StatusOr<v1::ListEventsResponse> Client::ListEvents(const std::string& job, int last) {
  v1::ListEventsRequest request;
  request.set_job(job);
  LEAP_ASSIGN_OR_RETURN(
      v1::ListEventsResponse all,
      AllPages(&v1::JobService::Stub::ListEvents, request,
               [](v1::ListEventsResponse& page) { return page.mutable_events(); }));
  KeepLast(all.mutable_events(), last);
  return all;
}

absl::StatusOr<v1::ListAgentsResponse> Client::ListAgents() {
  return AllPages(&v1::JobService::Stub::ListAgents, v1::ListAgentsRequest(),
                  [](v1::ListAgentsResponse& page) { return page.mutable_agents(); });
}

std::unique_ptr<WatchStream> Client::Watch(const std::string& job) {
  return std::unique_ptr<WatchStream>(new WatchStream(*this, job));
}

WatchStream::WatchStream(Client& client, const std::string& job) : client_(client) {
  PrepareCall(client.options_, absl::InfiniteDuration(), &context_);
  v1::WatchJobRequest request;
  request.set_job(job);
  reader_ = client.stub_->AsyncWatchJob(&context_, request, &queue_, nullptr);
}

WatchStream::~WatchStream() {
  context_.TryCancel();
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
  }
}

void WatchStream::Ask(Waiting what) {
  waiting_ = what;
  if (what == Waiting::kMessage) {
    reader_->Read(&message_, nullptr);
  } else {
    reader_->Finish(&finish_, nullptr);
  }
}

absl::StatusOr<std::optional<v1::WatchJobResponse>> WatchStream::Next(absl::Duration timeout) {
  const auto deadline = absl::ToChronoTime(RealClock().Now() + timeout);
  void* tag = nullptr;
  bool ok = false;
  while (queue_.AsyncNext(&tag, &ok, deadline) == grpc::CompletionQueue::GOT_EVENT) {
    if (waiting_ == Waiting::kFinish) {
      const absl::Status status = FromGrpcStatus(finish_);
      if (status.ok()) return absl::OutOfRangeError("the stream ended");
      return ExplainUnreachable(status, client_.coordinator_, client_.options_.tls);
    }
    const bool message = ok && waiting_ == Waiting::kMessage;
    std::optional<v1::WatchJobResponse> response;
    if (message) response = std::move(message_);
    message_.Clear();
    Ask(ok ? Waiting::kMessage : Waiting::kFinish);
    if (response) return response;
  }
  return std::optional<v1::WatchJobResponse>();
}

}  // namespace leap
