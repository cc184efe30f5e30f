#include "service/flags.h"

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "service/address.h"

namespace leap {
namespace {

// What CLI11 prints behind the flag's name; empty: an address.
std::string CheckAddress(const std::string& text) {
  return std::string(ParseHostPort(text).status().message());
}

// host or host:port.
std::string CheckHost(const std::string& text) {
  const bool host = ParseHostPort(JoinHostPort({.host = text, .port = 1})).ok();
  const bool number = text.find(':') != text.rfind(':');  // an IPv6 address without its brackets
  if (ParseHostPort(text).ok() || (host && (number || text.find(':') == std::string::npos))) {
    return "";
  }
  return absl::StrCat("expected host or host:port, saw '", text, "'");
}

}  // namespace

std::optional<int> ParseFlags(CLI::App* app, int argc, char** argv) {
  try {
    app->parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    return app->exit(error) == 0 ? 0 : 2;
  }
}

void AddTlsFlags(CLI::App* app, TlsFiles* tls) {
  app->add_option("--tls-cert", tls->certificate,
                  "Own certificate chain, PEM; read again when it changes")
      ->group("Security");
  app->add_option("--tls-key", tls->key, "Key of --tls-cert, PEM without a password")
      ->group("Security");
  app->add_option("--tls-ca", tls->ca, "Certificates of whom to believe, PEM")->group("Security");
}

void AddServerFlags(CLI::App* app, ServerFlags* flags) {
  app->add_option("--listen", flags->listen, "host:port to listen at; port 0 takes a free one")
      ->check(CheckAddress)
      ->capture_default_str();
  app->add_option("--advertise", flags->advertise,
                  "host or host:port that others dial, if not the one above")
      ->check(CheckHost);
  app->add_option("--port-file", flags->port_file, "Write the bound port here");
  app->add_option("--metrics-listen", flags->metrics_listen,
                  "host:port for Prometheus (GET /metrics); none by default")
      ->check(CheckAddress);
  app->add_option("--metrics-port-file", flags->metrics_port_file,
                  "Write the bound metrics port here");
  app->add_option("--token-file", flags->token_file,
                  "Who may call: lines 'TOKEN ROLE NAME'; read again when it changes")
      ->group("Security");
  app->add_flag("--insecure-listen-anywhere", flags->insecure_anywhere,
                "Listen beyond this machine without TLS; only on a network closed to others")
      ->group("Security");
  app->add_flag("--insecure-plaintext-anywhere", flags->insecure_plaintext_anywhere,
                "Let what knows no TLS (metrics, the ranks' connections) be beyond this machine; "
                "only on a network closed to others; --insecure-listen-anywhere implies it")
      ->group("Security");
}

RpcServerOptions ServerFlags::ToServerOptions(const TlsFiles& tls) const {
  return {.listen = listen,
          .port_file = port_file,
          .tls = tls,
          .optional_client_certificate = !token_file.empty(),
          .insecure_anywhere = insecure_anywhere};
}

AuthOptions ServerFlags::ToAuthOptions(const TlsFiles& tls) const {
  return {.required = !tls.ca.empty() || !token_file.empty(), .token_file = token_file};
}

MetricsOptions ServerFlags::ToMetricsOptions(MetricRoom room, const std::string& version) const {
  return {.room = room,
          .listen = metrics_listen,
          .port_file = metrics_port_file,
          .insecure_anywhere = insecure_anywhere || insecure_plaintext_anywhere,
          .version = version};
}

absl::Status ServerFlags::CheckBindHost(const std::string& bind_host) const {
  if (insecure_anywhere || insecure_plaintext_anywhere ||
      IsLoopback(JoinHostPort({.host = bind_host, .port = 1}))) {
    return absl::OkStatus();
  }
  return MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kTlsInvalid,
                   absl::StrCat("--bind-host '", bind_host,
                                "' is beyond this machine, and the ranks' connections know neither "
                                "TLS nor authentication: give --insecure-plaintext-anywhere if the "
                                "network is closed to others (docs/security.md)"));
}

void AddChannelFlags(CLI::App* app, ChannelFlags* flags) {
  app->add_option("--coordinator", flags->coordinator, "host:port of leap-coordinator")
      ->check(CheckAddress)
      ->envname("LEAP_COORDINATOR")
      ->capture_default_str();
  app->add_option("--token-path", flags->token_path,
                  "File with the own token; or the variable LEAP_TOKEN")
      ->group("Security");
  app->add_flag("--insecure-connect-anywhere", flags->insecure_anywhere,
                "Connect beyond this machine without TLS; only on a network closed to others")
      ->group("Security");
}

absl::StatusOr<ChannelOptions> ChannelFlags::ToChannelOptions(const TlsFiles& tls) const {
  ChannelOptions options{.tls = tls, .insecure_anywhere = insecure_anywhere};
  if (!token_path.empty()) {
    LEAP_ASSIGN_OR_RETURN(options.token, ReadToken(token_path));
  } else if (const char* token = std::getenv("LEAP_TOKEN")) {
    options.token = token;
  }
  return options;
}

}  // namespace leap
