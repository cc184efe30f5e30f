// The coordinator's JobService as leapctl uses it: one call a method, deadlines set, pages put
// together, and errors in words for the person at the keyboard ("cannot reach the coordinator at
// ...").
//
// Not thread-safe; one per command.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/completion_queue.h"
#include "leap/v1/job.grpc.pb.h"
#include "service/channel.h"

namespace leap {

class WatchStream;

class Client {
 public:
  // Opens lazily: an unreachable coordinator shows in the first call.
  static absl::StatusOr<std::unique_ptr<Client>> Create(const std::string& coordinator,
                                                        const ChannelOptions& options);

  // Retried on its own while the coordinator is restarting: the request id makes that safe.
  absl::StatusOr<v1::Job> CreateJob(const std::string& spec_yaml);
  absl::StatusOr<v1::Job> GetJob(const std::string& job);
  absl::StatusOr<v1::Job> CancelJob(const std::string& job, const std::string& reason);
  absl::StatusOr<v1::Job> PauseJob(const std::string& job);
  absl::StatusOr<v1::Job> ResumeJob(const std::string& job);

  // All pages; `last` above 0 keeps only so many of the end (of the front for jobs, which come
  // newest first).
  absl::StatusOr<v1::ListJobsResponse> ListJobs(int last = 0);
  absl::StatusOr<v1::ListSnapshotsResponse> ListSnapshots(const std::string& job, int last = 0);
  absl::StatusOr<v1::ListCandidatesResponse> ListCandidates(const std::string& job, int last = 0);
  absl::StatusOr<v1::ListLeapsResponse> ListLeaps(const std::string& job, int last = 0);
  absl::StatusOr<v1::ListEventsResponse> ListEvents(const std::string& job, int last = 0);
  absl::StatusOr<v1::ListAgentsResponse> ListAgents();

  // Must not outlive the client.
  std::unique_ptr<WatchStream> Watch(const std::string& job);

  const std::string& coordinator() const { return coordinator_; }
  const ChannelOptions& channel_options() const { return options_; }

 private:
  friend class WatchStream;
  Client(std::string coordinator, const ChannelOptions& options,
         std::unique_ptr<v1::JobService::Stub> stub);

  template <class Request, class Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::JobService::Stub::*method)(grpc::ClientContext*,
                                                                             const Request&,
                                                                             Response*),
                                const Request& request);
  template <class Request, class Response, class Items>
  absl::StatusOr<Response> AllPages(
      grpc::Status (v1::JobService::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
      Request request, Items items);

  const std::string coordinator_;
  const ChannelOptions options_;
  const std::unique_ptr<v1::JobService::Stub> stub_;
};

// One open WatchJob. Waiting has a bound, so that its owner can look at other things meanwhile.
class WatchStream {
 public:
  ~WatchStream();
  WatchStream(const WatchStream&) = delete;
  WatchStream& operator=(const WatchStream&) = delete;

  // The next message, nothing if none came in time. OutOfRange: the stream ended well (the job has
  // ended). Another status: it broke. After a status, do not call again.
  absl::StatusOr<std::optional<v1::WatchJobResponse>> Next(absl::Duration timeout);

 private:
  friend class Client;
  WatchStream(Client& client, const std::string& job);

  enum class Waiting { kStart, kMessage, kFinish };
  void Ask(Waiting what);

  Client& client_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::WatchJobResponse>> reader_;
  v1::WatchJobResponse message_;
  grpc::Status finish_;
  Waiting waiting_ = Waiting::kStart;
};

// UNAVAILABLE and a missed deadline as one sentence that names the address and what to try; others
// unchanged.
absl::Status ExplainUnreachable(const absl::Status& status, const std::string& coordinator,
                                const TlsFiles& tls = {});

}  // namespace leap
