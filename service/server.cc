#include "service/server.h"

#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/server_builder.h"
#include "service/address.h"
#include "service/grpc_log.h"
#include "service/request_counter.h"

namespace leap {
namespace {

// Plug-ins are process-wide and must be named before the first builder is made.
void EnablePluginsOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    RouteGrpcLog();
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

absl::Status CheckSecurity(const RpcServerOptions& options) {
  if (!options.tls.empty() || options.insecure_anywhere || IsLoopback(options.listen)) {
    return absl::OkStatus();
  }
  return MakeError(
      absl::StatusCode::kFailedPrecondition, ErrorReason::kTlsInvalid,
      absl::StrCat("'", options.listen,
                   "' is beyond this machine, and there is no TLS: give --tls-cert, --tls-key and "
                   "--tls-ca, or --insecure-listen-anywhere if the network is closed to others"));
}

void SetLimits(const RpcServerOptions& options, grpc::ServerBuilder* builder) {
  const int keepalive_ms = static_cast<int>(absl::ToInt64Milliseconds(options.keepalive));
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_streams_per_connection);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_ms);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, keepalive_ms);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000);
  builder->SetMaxReceiveMessageSize(options.max_receive_bytes);
  grpc::ResourceQuota quota("leap-server");
  quota.Resize(static_cast<size_t>(options.max_memory_bytes));
  builder->SetResourceQuota(quota);
}

absl::Status CannotListen(const HostPort& where) {
  absl::Status why = WhyNoListen(where);
  if (!why.ok()) return why;
  return MakeError(absl::StatusCode::kInternal, ErrorReason::kAddressInvalid,
                   absl::StrCat("gRPC refused to listen at '", JoinHostPort(where),
                                "' for a cause it does not tell; GRPC_VERBOSITY=info shows more"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(
    const RpcServerOptions& options, const std::vector<grpc::Service*>& services) {
  EnablePluginsOnce();
  LEAP_ASSIGN_OR_RETURN(HostPort where, ParseHostPort(options.listen));
  LEAP_RETURN_IF_ERROR(CheckSecurity(options));
  LEAP_ASSIGN_OR_RETURN(auto credentials,
                        MakeServerCredentials(options.tls, options.optional_client_certificate));
  // gRPC writes its own error lines when a port is taken; asked first, we can answer in our words.
  if (where.port != 0) LEAP_RETURN_IF_ERROR(WhyNoListen(where));
  if (where.host.empty()) where.host = "0.0.0.0";
  grpc::ServerBuilder builder;
  SetLimits(options, &builder);
  if (options.metrics != nullptr) {
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> creators;
    creators.push_back(MakeRequestCounter(options.metrics));
    builder.experimental().SetInterceptorCreators(std::move(creators));
  }
  int port = 0;
  builder.AddListeningPort(JoinHostPort(where), credentials, &port);
  for (grpc::Service* service : services) builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) return CannotListen(where);
  where.port = port;
  std::unique_ptr<RpcServer> result(new RpcServer(std::move(server), JoinHostPort(where), port));
  result->SetServing(true);
  if (!options.port_file.empty()) {
    LEAP_RETURN_IF_ERROR(WriteFileAtomically(options.port_file, absl::StrCat(port, "\n")));
  }
  return result;
}

RpcServer::RpcServer(std::unique_ptr<grpc::Server> server, std::string address, int port)
    : server_(std::move(server)), address_(std::move(address)), port_(port) {}

RpcServer::~RpcServer() { Shutdown(absl::ZeroDuration()); }

std::string RpcServer::AdvertisedAddress(const std::string& advertise) const {
  if (!advertise.empty()) {
    const auto given = ParseHostPort(advertise);
    if (given.ok() && given->port != 0) return advertise;
    return JoinHostPort({.host = given.ok() ? given->host : advertise, .port = port_});
  }
  const auto bound = ParseHostPort(address_);
  const bool all = bound.ok() && (bound->host == "0.0.0.0" || bound->host == "::");
  return all ? JoinHostPort({.host = MachineName(), .port = port_}) : address_;
}

void RpcServer::SetServing(bool serving) {
  if (auto* health = server_->GetHealthCheckService()) health->SetServingStatus(serving);
}

void RpcServer::Shutdown(absl::Duration grace) {
  if (shut_down_.exchange(true)) return;
  SetServing(false);
  server_->Shutdown(absl::ToChronoTime(RealClock().Now() + grace));
  server_->Wait();
}

}  // namespace leap
