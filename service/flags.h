// The flags that more than one binary has, so that they are spelled, explained and checked once.
//
//   CLI::App app; ServerFlags server; AddServerFlags(&app, &server);
//   RpcServerOptions options = server.ToServerOptions();
//
// Call on the main thread before anything starts.
#pragma once

#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "service/auth.h"
#include "service/channel.h"
#include "service/metrics.h"
#include "service/server.h"

namespace leap {

// Parses argv into what was added to `app`. Nothing: go on. Else the exit code, after help, version
// or the error has been printed: 0 or 2, whatever CLI11 would say.
std::optional<int> ParseFlags(CLI::App* app, int argc, char** argv);

// --tls-cert --tls-key --tls-ca
void AddTlsFlags(CLI::App* app, TlsFiles* tls);

struct ServerFlags {
  std::string listen = "127.0.0.1:0";
  std::string advertise;  // --advertise host[:port]: what others dial, if not what is bound
  std::string port_file;
  std::string metrics_listen;  // empty: no metrics port
  std::string metrics_port_file;
  std::string token_file;  // for servers: the table of tokens
  bool insecure_anywhere = false;
  bool insecure_plaintext_anywhere =
      false;  // of what knows no TLS: metrics, the ranks' connections

  RpcServerOptions ToServerOptions(const TlsFiles& tls) const;
  // Callers must show who they are as soon as there is a CA or a token file.
  AuthOptions ToAuthOptions(const TlsFiles& tls) const;
  MetricsOptions ToMetricsOptions(MetricRoom room, const std::string& version) const;
  // May the ranks' connections (c10d: no TLS, no authentication) be at this host of --bind-host?
  // FailedPrecondition, TLS_INVALID: beyond loopback, and not asked for.
  absl::Status CheckBindHost(const std::string& bind_host) const;
};
// --listen --advertise --port-file --metrics-listen --metrics-port-file --token-file
// --insecure-listen-anywhere --insecure-plaintext-anywhere
void AddServerFlags(CLI::App* app, ServerFlags* flags);

struct ChannelFlags {
  std::string coordinator = "127.0.0.1:7070";
  std::string token_path;  // --token-path, or the environment's LEAP_TOKEN: own token, one line
  bool insecure_anywhere = false;

  absl::StatusOr<ChannelOptions> ToChannelOptions(const TlsFiles& tls) const;
};
// --coordinator --token-path --insecure-connect-anywhere
void AddChannelFlags(CLI::App* app, ChannelFlags* flags);

}  // namespace leap
