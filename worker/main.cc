// leap-worker: a main worker, one rank of a data-parallel group that trains. See --help.
//
// Exit codes: service/program.h.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "engine/device.h"
#include "engine/group.h"
#include "engine/path_roots.h"
#include "rank/agent.h"
#include "rank/holdings.h"
#include "service/agent_session.h"
#include "service/auth.h"
#include "service/flags.h"
#include "service/metrics.h"
#include "service/program.h"
#include "service/server.h"
#include "service/snapshot_server.h"

#ifndef LEAP_VERSION
#define LEAP_VERSION "unknown"
#endif

namespace leap {
namespace {

constexpr absl::Duration kGoodbye = absl::Seconds(2);

struct Flags {
  ProgramFlags program;
  AgentFlags agent{.bind_host = "127.0.0.1"};
  TlsFiles tls;
  ServerFlags server;
  ChannelFlags channel;
};

void AddFlags(CLI::App* app, Flags* flags) {
  AddProgramFlags(app, LEAP_VERSION, "the token cache and checkpoints", &flags->program);
  AddAgentFlags(app, "worker",
                "Name or address of this machine that the other ranks can reach: the group's "
                "connections and the rendezvous store listen there (never authenticated: keep it "
                "inside a network of its own)",
                &flags->agent);
  AddChannelFlags(app, &flags->channel);
  AddServerFlags(app, &flags->server);
  AddTlsFlags(app, &flags->tls);
}

// Everything that lives as long as the process; made in order, stopped in reverse.
absl::Status Run(const Flags& flags, StopSignal& stop) {
  LEAP_RETURN_IF_ERROR(CheckAgentName(flags.agent.name));
  LEAP_RETURN_IF_ERROR(CheckTlsFiles(flags.tls));
  LEAP_RETURN_IF_ERROR(CheckRootsExist(flags.agent.path_roots));
  LEAP_RETURN_IF_ERROR(flags.server.CheckBindHost(flags.agent.bind_host));
  const absl::Status gpu = Device::PrepareGpu();
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
                        StoreServer::Start(flags.agent.bind_host));
  const RankOptions options{
      .name = flags.agent.name,
      .incarnation = NewIncarnation(),
      .version = LEAP_VERSION,
      .data_address = server->AdvertisedAddress(flags.server.advertise),
      .store_address = absl::StrCat(flags.agent.bind_host, ":", store->port()),
      .bind_host = flags.agent.bind_host,
      .state_dir = flags.program.state_dir,
      .path_roots = flags.agent.path_roots};
  RankAgent agent(options, &holdings, metrics.get(), &RealClock());
  AgentSessionOptions session_options{.coordinator = flags.channel.coordinator, .channel = channel};
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<AgentSession> session,
                        AgentSession::Start(session_options, agent.Callbacks()));
  agent.Attach(session.get());
  LogInfo("started", {{"name", flags.agent.name},
                      {"coordinator", flags.channel.coordinator},
                      {"data_address", options.data_address},
                      {"gpu", gpu.ok() ? "ready" : "none"},
                      {"incarnation", Hex64(options.incarnation)}});
  const absl::Status ended = WaitForStop(*session, stop);
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
  CLI::App app("Trains as one rank of a data-parallel group, under a coordinator.", "leap-worker");
  AddFlags(&app, &flags);
  return RunProgram(&app, argc, argv, flags.program,
                    [&flags](StopSignal& stop) { return Run(flags, stop); });
}

}  // namespace
}  // namespace leap

int main(int argc, char** argv) { return leap::Main(argc, argv); }
