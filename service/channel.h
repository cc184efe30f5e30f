// The client's side of a connection: a channel with keepalive and TLS, and a context for each call
// with a deadline and the token. There is no call without a deadline but WatchJob and the agents'
// session, which keepalive bounds.
//
//   LEAP_ASSIGN_OR_RETURN(auto channel, MakeChannel("127.0.0.1:7070", options));
//   auto stub = v1::JobService::NewStub(channel);
//   grpc::ClientContext context;
//   PrepareCall(options, absl::Seconds(10), &context);
//   absl::Status status = FromGrpcStatus(stub->GetJob(&context, request, &job));
//
// Any thread.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "service/tls.h"

namespace leap {

struct ChannelOptions {
  TlsFiles tls;  // empty: without TLS, to loopback only. ca: which servers to believe (empty with a
                 // certificate: the system's); certificate + key: mutual TLS
  std::string
      token;  // sent as "authorization: Bearer ..."; never logged; with TLS or to loopback only
  bool insecure_anywhere =
      false;  // --insecure-connect-anywhere: without TLS beyond loopback, asked for by hand
  std::string server_name;  // expected in the server's certificate, if not the host dialled
  absl::Duration keepalive = absl::Seconds(10);
  int max_receive_bytes = 16 << 20;
};

// Opens lazily: an unreachable peer shows in the first call. FailedPrecondition, TLS_INVALID as in
// server.h; InvalidArgument for an address or TLS file that cannot be used.
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& address,
                                                           const ChannelOptions& options);

// Sets deadline and token. `timeout` absl::InfiniteDuration(): none (streams).
void PrepareCall(const ChannelOptions& options, absl::Duration timeout,
                 grpc::ClientContext* context);

// The first line of `path`, for --token-file of clients. InvalidArgument if unreadable, empty, or
// readable by others than its owner and group.
absl::StatusOr<std::string> ReadToken(const std::string& path);

}  // namespace leap
