// Test-only: a coordinator's JobService out of a few maps, on loopback, for the commands to talk
// to.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/mutex.h"
#include "leap/v1/job.grpc.pb.h"
#include "service/rpc_status.h"
#include "service/server.h"

namespace leap {

class FakeJobService final : public v1::JobService::Service {
 public:
  // One stream of WatchJob: what it sends, what it does then, how it ends.
  struct WatchScript {
    std::vector<v1::WatchJobResponse> messages;
    std::function<void()> then = [] {};
    grpc::Status end;
    bool hang = false;  // stays open until the caller goes
  };

  FakeJobService() {
    auto server = RpcServer::Start({.listen = "127.0.0.1:0"}, {this});
    if (server.ok()) server_ = *std::move(server);
  }
  ~FakeJobService() override {
    if (server_ != nullptr) server_->Shutdown(absl::ZeroDuration());
  }

  std::string address() const { return server_->address(); }

  // Set up before calls are made.
  std::map<std::string, v1::Job> jobs;
  std::deque<WatchScript> watches;  // one a call, in order
  v1::ListLeapsResponse leaps;
  v1::ListCandidatesResponse candidates;
  v1::ListSnapshotsResponse snapshots;
  v1::ListEventsResponse events;
  v1::ListAgentsResponse agents;
  int page_rows = 2;
  int failures_before_create = 0;
  // What was asked for.
  std::vector<std::string> created;      // job files
  std::vector<std::string> request_ids;  // of CreateJob
  std::vector<std::string> calls;        // "cancel demo-1: why"

 private:
  using Context = grpc::ServerContext;

  grpc::Status NotFound(const std::string& job) {
    return ToGrpcStatus(
        MakeError(absl::StatusCode::kNotFound, ErrorReason::kJobNotFound,
                  absl::StrCat("there is no job '", job, "'; leapctl list shows them")));
  }
  grpc::Status Find(const std::string& id, v1::Job* job) {
    const auto found = jobs.find(id);
    if (found == jobs.end()) return NotFound(id);
    *job = found->second;
    return grpc::Status::OK;
  }
  // Rows [token, token + page_rows) of `all`.
  template <class Rows>
  std::string Page(const Rows& all, const std::string& token, Rows* out) {
    int begin = 0;
    if (!absl::SimpleAtoi(token, &begin)) begin = 0;
    const int end = std::min(begin + page_rows, all.size());
    for (int i = begin; i < end; ++i) *out->Add() = all.Get(i);
    return end < all.size() ? absl::StrCat(end) : "";
  }

  grpc::Status CreateJob(Context*, const v1::CreateJobRequest* request, v1::Job* job) override {
    MutexLock lock(&mutex_);
    request_ids.push_back(request->request_id());
    if (failures_before_create-- > 0) return {grpc::StatusCode::UNAVAILABLE, "restarting"};
    created.push_back(request->spec_yaml());
    job->set_job(absl::StrCat("demo-", created.size()));
    job->set_state(v1::Job::QUEUED);
    job->set_state_reason("waits for 2 main workers, 0 are free");
    jobs[job->job()] = *job;
    return grpc::Status::OK;
  }
  grpc::Status GetJob(Context*, const v1::GetJobRequest* request, v1::Job* job) override {
    return Find(request->job(), job);
  }
  grpc::Status ListJobs(Context*, const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override {
    v1::ListJobsResponse all;
    for (const auto& [id, job] : jobs) *all.add_jobs() = job;
    response->set_next_page_token(
        Page(all.jobs(), request->page_token(), response->mutable_jobs()));
    return grpc::Status::OK;
  }
  grpc::Status WatchJob(Context* context, const v1::WatchJobRequest* request,
                        grpc::ServerWriter<v1::WatchJobResponse>* writer) override {
    WatchScript script;
    {
      MutexLock lock(&mutex_);
      if (watches.empty()) return NotFound(request->job());
      script = std::move(watches.front());
      watches.pop_front();
    }
    for (const v1::WatchJobResponse& message : script.messages) writer->Write(message);
    script.then();
    // A write tells when the caller has gone.
    while (script.hang && !context->IsCancelled() && writer->Write(script.messages.back())) {
    }
    return script.end;
  }
  grpc::Status CancelJob(Context*, const v1::CancelJobRequest* request, v1::Job* job) override {
    calls.push_back(absl::StrCat("cancel ", request->job(), ": ", request->reason()));
    return Find(request->job(), job);
  }
  grpc::Status PauseJob(Context*, const v1::PauseJobRequest* request, v1::Job* job) override {
    calls.push_back(absl::StrCat("pause ", request->job()));
    return Find(request->job(), job);
  }
  grpc::Status ResumeJob(Context*, const v1::ResumeJobRequest* request, v1::Job*) override {
    calls.push_back(absl::StrCat("resume ", request->job()));
    return {grpc::StatusCode::FAILED_PRECONDITION, "demo-1 is not paused"};
  }
  grpc::Status ListSnapshots(Context*, const v1::ListSnapshotsRequest* request,
                             v1::ListSnapshotsResponse* response) override {
    response->set_next_page_token(
        Page(snapshots.snapshots(), request->page_token(), response->mutable_snapshots()));
    return grpc::Status::OK;
  }
  grpc::Status ListCandidates(Context*, const v1::ListCandidatesRequest* request,
                              v1::ListCandidatesResponse* response) override {
    response->set_next_page_token(
        Page(candidates.candidates(), request->page_token(), response->mutable_candidates()));
    return grpc::Status::OK;
  }
  grpc::Status ListLeaps(Context*, const v1::ListLeapsRequest* request,
                         v1::ListLeapsResponse* response) override {
    response->set_next_page_token(
        Page(leaps.leaps(), request->page_token(), response->mutable_leaps()));
    return grpc::Status::OK;
  }
  grpc::Status ListEvents(Context*, const v1::ListEventsRequest* request,
                          v1::ListEventsResponse* response) override {
    response->set_next_page_token(
        Page(events.events(), request->page_token(), response->mutable_events()));
    return grpc::Status::OK;
  }
  grpc::Status ListAgents(Context*, const v1::ListAgentsRequest* request,
                          v1::ListAgentsResponse* response) override {
    response->set_next_page_token(
        Page(agents.agents(), request->page_token(), response->mutable_agents()));
    return grpc::Status::OK;
  }

  Mutex mutex_;
  std::unique_ptr<RpcServer> server_;
};

}  // namespace leap
