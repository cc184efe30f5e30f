// leap-worker: a main worker, one rank of a data-parallel group that trains. See --help.
//
// Exit codes: 0 stopped as asked; 1 an error while running; 2 flags that cannot work.

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/signals.h"
#include "base/status_macros.h"
#include "engine/group.h"
#include "engine/path_roots.h"
#include "rank/agent.h"
#include "rank/holdings.h"
#include "service/agent_session.h"
#include "service/auth.h"
#include "service/flags.h"
#include "service/metrics.h"
#include "service/server.h"
#include "service/snapshot_server.h"

#ifndef LEAP_VERSION
#define LEAP_VERSION "unknown"
#endif

namespace leap {
namespace {

constexpr absl::Duration kGoodbye = absl::Seconds(2);

struct Flags {
  std::string name;
  std::string state_dir;
  std::string log_level = "info";
  std::vector<std::string> path_roots;
  std::string bind_host = "127.0.0.1";
  TlsFiles tls;
  ServerFlags server;
  ChannelFlags channel;
};

std::string DefaultName() {
  char host[256] = {};
  if (gethostname(host, sizeof(host) - 1) != 0) host[0] = '\0';
  return absl::StrCat(host[0] == '\0' ? "worker" : host, "-w", getpid());
}

std::string DefaultStateDir() {
  if (const char* home = std::getenv("XDG_STATE_HOME")) return absl::StrCat(home, "/leap");
  if (const char* home = std::getenv("HOME")) return absl::StrCat(home, "/.local/state/leap");
  return "/tmp/leap";
}

void AddFlags(CLI::App* app, Flags* flags) {
  app->description("Trains as one rank of a data-parallel group, under a coordinator.");
  app->set_version_flag("--version", std::string("leap-worker ") + LEAP_VERSION);
  app->add_option("--name", flags->name, "Stable name of this agent (default: HOST-wPID)");
  app->add_option("--state-dir", flags->state_dir,
                  "Folder for the token cache and checkpoints (default: $XDG_STATE_HOME/leap)");
  app->add_option("--bind-host", flags->bind_host,
                  "Name or address of this machine that the other ranks can reach: the group's "
                  "connections and the rendezvous store listen there (never authenticated: keep it "
                  "inside a network of its own)");
  app->add_option("--path-root", flags->path_roots,
                  "Job files may name paths below this folder only, links followed; may be "
                  "repeated")
      ->group("Security");
  app->add_option("--log-level", flags->log_level, "debug, info, warning or error");
  AddChannelFlags(app, &flags->channel);
  AddServerFlags(app, &flags->server);
  AddTlsFlags(app, &flags->tls);
}

// As in agent.proto.
absl::Status CheckName(const std::string& name) {
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  };
  if (!name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), allowed)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--name: expected 1 to 64 of a-z A-Z 0-9 . _ -, saw '", name, "'"));
}

absl::Status MakeStateDir(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("--state-dir ", path, ": ", error.message()));
}

// Everything that lives as long as the process; made in order, stopped in reverse.
absl::Status Run(const Flags& flags, StopSignal& stop) {
  LEAP_RETURN_IF_ERROR(CheckName(flags.name));
  LEAP_RETURN_IF_ERROR(CheckTlsFiles(flags.tls));
  LEAP_RETURN_IF_ERROR(CheckRootsExist(flags.path_roots));
  LEAP_RETURN_IF_ERROR(flags.server.CheckBindHost(flags.bind_host));
  LEAP_RETURN_IF_ERROR(MakeStateDir(flags.state_dir));
  LEAP_ASSIGN_OR_RETURN(const ChannelOptions channel, flags.channel.ToChannelOptions(flags.tls));
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Metrics> metrics,
                        Metrics::Start(flags.server.ToMetricsOptions(kInWorker, LEAP_VERSION)));
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Authenticator> auth,
                        Authenticator::Create(flags.server.ToAuthOptions(flags.tls)));
  RankHoldings holdings;
  const std::unique_ptr<grpc::Service> snapshots = MakeSnapshotService(&holdings, auth.get());
  LEAP_ASSIGN_OR_RETURN(
      const std::unique_ptr<RpcServer> server,
      RpcServer::Start(flags.server.ToServerOptions(flags.tls), {snapshots.get()}));
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<StoreServer> store,
                        StoreServer::Start(flags.bind_host));
  const RankOptions options{.name = flags.name,
                            .incarnation = NewIncarnation(),
                            .version = LEAP_VERSION,
                            .data_address = server->AdvertisedAddress(flags.server.advertise),
                            .store_address = absl::StrCat(flags.bind_host, ":", store->port()),
                            .bind_host = flags.bind_host,
                            .state_dir = flags.state_dir,
                            .path_roots = flags.path_roots};
  RankAgent agent(options, &holdings, metrics.get(), &RealClock());
  AgentSessionOptions session_options{.coordinator = flags.channel.coordinator, .channel = channel};
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<AgentSession> session,
                        AgentSession::Start(session_options, agent.Callbacks()));
  agent.Attach(session.get());
  LogInfo("started", {{"name", flags.name},
                      {"coordinator", flags.channel.coordinator},
                      {"data_address", options.data_address},
                      {"incarnation", Hex64(options.incarnation)}});
  absl::Status ended;
  while (!stop.WaitFor(absl::Milliseconds(500)).has_value()) {
    const AgentSessionInfo info = session->info();
    if (!info.ended) continue;
    ended = info.last_error;
    break;
  }
  LogInfo("stopping");
  agent.Detach();
  session->Stop("worker stopped", kGoodbye);
  agent.Stop("worker stopped");
  server->Shutdown(kGoodbye);
  (void)DrainGroups(kGoodbye);
  return ended;
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("leap-worker");
  AddFlags(&app, &flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;  // --help and --version are errors of status 0
  }
  if (flags.name.empty()) flags.name = DefaultName();
  if (flags.state_dir.empty()) flags.state_dir = DefaultStateDir();
  const absl::StatusOr<LogLevel> level = ParseLogLevel(flags.log_level);
  if (!level.ok()) {
    std::cerr << "leap-worker: " << level.status().message() << "\n";
    return 2;
  }
  StopSignal stop;
  InitLogging("leap-worker", *level);
  const absl::Status status = Run(flags, stop);
  if (status.ok()) return 0;
  std::cerr << "leap-worker: " << status.message() << "\n";
  return absl::IsInvalidArgument(status) ? 2 : 1;
}

}  // namespace
}  // namespace leap

int main(int argc, char** argv) { return leap::Main(argc, argv); }
