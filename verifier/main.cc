// leap-verifier: spare capacity that scores leaps for a coordinator. See --help.
//
// Exit codes: service/program.h.

#include <functional>
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
#include "service/snapshot_client.h"
#include "service/snapshot_server.h"
#include "verifier/agent.h"
#include "verifier/holdings.h"
#include "verifier/scorer.h"
#include "verifier/snapshot_store.h"
#include "verifier/spare.h"

#ifndef LEAP_VERSION
#define LEAP_VERSION "unknown"
#endif

namespace leap {
namespace {

constexpr absl::Duration kGoodbye = absl::Seconds(2);

struct Flags {
  ProgramFlags program;
  AgentFlags agent;
  int nice = 0;
  TlsFiles tls;
  ServerFlags server;
  ChannelFlags channel;
};

void AddFlags(CLI::App* app, Flags* flags) {
  AddProgramFlags(app, LEAP_VERSION, "the token cache", &flags->program);
  AddAgentFlags(app, "verifier",
                "Stand in for a lost main worker; the name or address of this machine that the "
                "ranks can reach, as for leap-worker (default: only score)",
                &flags->agent);
  app->add_option("--nice", flags->nice,
                  "Niceness of the scoring thread; 10 lets training on the same machine go first")
      ->check(CLI::Range(0, 19));
  AddChannelFlags(app, &flags->channel);
  AddServerFlags(app, &flags->server);
  AddTlsFlags(app, &flags->tls);
}

// Where the ranks meet if this process gets rank 0; null: it only scores.
absl::StatusOr<std::unique_ptr<StoreServer>> Rendezvous(const Flags& flags) {
  if (flags.agent.bind_host.empty()) return nullptr;
  return StoreServer::Start(flags.agent.bind_host);
}

VerifierOptions OptionsFor(const Flags& flags, const RpcServer& server,
                           const StoreServer* rendezvous) {
  VerifierOptions options{.name = flags.agent.name,
                          .incarnation = NewIncarnation(),
                          .version = LEAP_VERSION,
                          .data_address = server.AdvertisedAddress(flags.server.advertise),
                          .state_dir = flags.program.state_dir,
                          .nice = flags.nice};
  if (rendezvous != nullptr) {
    options.store_address = absl::StrCat(flags.agent.bind_host, ":", rendezvous->port());
  }
  return options;
}

// The same process as a rank: one name, one incarnation.
RankOptions RankOptionsFor(const Flags& flags, const VerifierOptions& options) {
  return {.name = options.name,
          .incarnation = options.incarnation,
          .role = v1::ROLE_VERIFIER,
          .version = options.version,
          .data_address = options.data_address,
          .store_address = options.store_address,
          .bind_host = flags.agent.bind_host,
          .state_dir = options.state_dir,
          .path_roots = flags.agent.path_roots};
}

// Counts what the snapshot client did, and passes its status on.
BufferFetcher FetchWith(SnapshotClient* client, Metrics* metrics) {
  return [client, metrics](const BufferRequest& request, std::span<const v1::ShardSource> sources,
                           std::span<float> out) {
    FetchStats stats;
    const absl::Status status = client->FetchBuffer(request, sources, out, &stats);
    metrics->Count(Metric::kVerifierFetchedBytesTotal, {}, static_cast<double>(stats.bytes));
    metrics->Count(Metric::kVerifierCorruptChunksTotal, {}, stats.corrupt_chunks);
    return status;
  };
}

// MakeScorer for job files that name nothing outside `roots`.
std::function<absl::StatusOr<std::unique_ptr<Scorer>>(const JobSpec&, const std::string&)>
ScorerBelow(const std::vector<std::string>& roots) {
  return [roots](const JobSpec& spec,
                 const std::string& state_dir) -> absl::StatusOr<std::unique_ptr<Scorer>> {
    LEAP_RETURN_IF_ERROR(CheckPathsOnDisk(spec, roots));
    return MakeScorer(spec, state_dir);
  };
}

// Everything that lives as long as the process; made in order, stopped by Run in reverse.
absl::Status Run(const Flags& flags, StopSignal& stop) {
  LEAP_RETURN_IF_ERROR(CheckAgentName(flags.agent.name));
  LEAP_RETURN_IF_ERROR(CheckTlsFiles(flags.tls));
  LEAP_RETURN_IF_ERROR(CheckRootsExist(flags.agent.path_roots));
  if (!flags.agent.bind_host.empty()) {
    LEAP_RETURN_IF_ERROR(flags.server.CheckBindHost(flags.agent.bind_host));
  }
  const absl::Status gpu = Device::PrepareGpu();
  LEAP_ASSIGN_OR_RETURN(const ChannelOptions channel, flags.channel.ToChannelOptions(flags.tls));
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Metrics> metrics,
                        Metrics::Start(flags.server.ToMetricsOptions(kInVerifier, LEAP_VERSION)));
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Authenticator> auth,
                        Authenticator::Create(flags.server.ToAuthOptions(flags.tls)));
  SnapshotStore store;
  Holdings scored(&store);
  RankHoldings trained;
  SpareHoldings holdings(&scored, &trained);
  const std::unique_ptr<grpc::Service> snapshots = MakeSnapshotService(&holdings, auth.get());
  LEAP_ASSIGN_OR_RETURN(
      const std::unique_ptr<RpcServer> server,
      RpcServer::Start(flags.server.ToServerOptions(flags.tls), {snapshots.get()}));
  SnapshotClient client({.channel = channel});
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<StoreServer> rendezvous, Rendezvous(flags));
  const VerifierOptions options = OptionsFor(flags, *server, rendezvous.get());
  VerifierAgent agent(options, {.store = &store,
                                .metrics = metrics.get(),
                                .clock = &RealClock(),
                                .fetch = FetchWith(&client, metrics.get()),
                                .make_scorer = ScorerBelow(flags.agent.path_roots)});
  RankAgent rank(RankOptionsFor(flags, options), &trained, metrics.get(), &RealClock());
  SpareAgent spare(&agent, &rank);
  AgentSessionOptions session_options{.coordinator = flags.channel.coordinator, .channel = channel};
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<AgentSession> session,
                        AgentSession::Start(session_options, spare.Callbacks()));
  agent.Attach(session.get());
  rank.Attach(session.get());
  LogInfo("started", {{"name", flags.agent.name},
                      {"coordinator", flags.channel.coordinator},
                      {"data_address", options.data_address},
                      {"gpu", gpu.ok() ? "ready" : "none"},
                      {"incarnation", Hex64(options.incarnation)}});
  const absl::Status ended = WaitForStop(*session, stop);
  LogInfo("stopping");
  agent.Detach();
  rank.Detach();
  session->Stop("verifier stopped", kGoodbye);
  agent.Stop("verifier stopped");
  rank.Stop("verifier stopped");
  server->Shutdown(kGoodbye);
  (void)DrainGroups(kGoodbye);
  return ended;
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Scores leaps for a coordinator; comes and goes at will.", "leap-verifier");
  AddFlags(&app, &flags);
  return RunProgram(&app, argc, argv, flags.program,
                    [&flags](StopSignal& stop) { return Run(flags, stop); });
}

}  // namespace
}  // namespace leap

int main(int argc, char** argv) { return leap::Main(argc, argv); }
