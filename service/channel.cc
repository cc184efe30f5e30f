#include "service/channel.h"

#include <sys/stat.h>

#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "grpcpp/create_channel.h"
#include "service/address.h"
#include "service/grpc_log.h"

namespace leap {
namespace {

absl::Status CheckSecurity(const std::string& address, const ChannelOptions& options) {
  if (!options.tls.empty() || options.insecure_anywhere || IsLoopback(address)) {
    return absl::OkStatus();
  }
  return MakeError(
      absl::StatusCode::kFailedPrecondition, ErrorReason::kTlsInvalid,
      absl::StrCat(
          "'", address,
          "' is beyond this machine, and there is no TLS: give --tls-ca (and --tls-cert, "
          "--tls-key), or --insecure-connect-anywhere if the network is closed to others"));
}

grpc::ChannelArguments MakeArguments(const ChannelOptions& options) {
  const int keepalive_ms = static_cast<int>(absl::ToInt64Milliseconds(options.keepalive));
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_ms);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, keepalive_ms);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Callers have their own backoff; gRPC's would add up to two minutes to it.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // A cluster's own traffic does not go through the proxy of the environment.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Room for a job file's findings in a status message.
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, 64 << 10);
  arguments.SetMaxReceiveMessageSize(options.max_receive_bytes);
  if (!options.server_name.empty()) {
    arguments.SetSslTargetNameOverride(options.server_name);
  }
  return arguments;
}

absl::Status TokenError(const std::string& path, absl::string_view what) {
  return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kConfigInvalid,
                   absl::StrCat("token file '", path, "': ", what));
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& address,
                                                           const ChannelOptions& options) {
  RouteGrpcLog();
  LEAP_ASSIGN_OR_RETURN(HostPort where, ParseHostPort(address));
  if (where.host.empty() || where.port == 0) {
    return MakeError(
        absl::StatusCode::kInvalidArgument, ErrorReason::kAddressInvalid,
        absl::StrCat("cannot dial '", address, "': expected a host and a port above 0"));
  }
  LEAP_RETURN_IF_ERROR(CheckSecurity(address, options));
  LEAP_ASSIGN_OR_RETURN(auto credentials, MakeChannelCredentials(options.tls));
  return grpc::CreateCustomChannel(JoinHostPort(where), credentials, MakeArguments(options));
}

void PrepareCall(const ChannelOptions& options, absl::Duration timeout,
                 grpc::ClientContext* context) {
  if (timeout != absl::InfiniteDuration()) {
    context->set_deadline(absl::ToChronoTime(RealClock().Now() + timeout));
  }
  if (!options.token.empty()) {
    context->AddMetadata("authorization", absl::StrCat("Bearer ", options.token));
  }
}

absl::StatusOr<std::string> ReadToken(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return TokenError(path, "cannot be read");
  if ((info.st_mode & S_IROTH) != 0) {
    return TokenError(path, "can be read by everybody on this machine; chmod o-r it");
  }
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return TokenError(path, "is empty or cannot be read");
  absl::StripAsciiWhitespace(&line);
  if (line.empty()) return TokenError(path, "has an empty first line");
  for (const char c : line) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) {
      return TokenError(path, "has a space or a control character in the token");
    }
  }
  return line;
}

}  // namespace leap
