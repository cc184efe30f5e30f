// leap-coordinator: one per cluster, many jobs. See --help.
//
// Exit codes: service/program.h.

#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "coordinator/agent_service.h"
#include "coordinator/board.h"
#include "coordinator/job_service.h"
#include "coordinator/metrics_feed.h"
#include "coordinator/runner.h"
#include "coordinator/store.h"
#include "service/auth.h"
#include "service/flags.h"
#include "service/metrics.h"
#include "service/program.h"
#include "service/server.h"

#ifndef LEAP_VERSION
#define LEAP_VERSION "unknown"
#endif

namespace leap {
namespace {

constexpr absl::Duration kGrace = absl::Seconds(2);

struct Flags {
  ProgramFlags program;
  std::vector<std::string> path_roots;
  int max_jobs_per_submitter = 100;
  TlsFiles tls;
  ServerFlags server;
};

void AddFlags(CLI::App* app, Flags* flags) {
  AddProgramFlags(app, LEAP_VERSION, "the ledger", &flags->program);
  app->add_option("--path-root", flags->path_roots,
                  "Job files may name paths below this folder only; may be repeated")
      ->check([](const std::string& root) {
        return root.starts_with('/') ? "" : "expected an absolute path, saw '" + root + "'";
      });
  app->add_option("--max-jobs-per-submitter", flags->max_jobs_per_submitter,
                  "Jobs of one submitter that have not ended")
      ->check(CLI::Range(1, 1000));
  AddServerFlags(app, &flags->server);
  app->remove_option(app->get_option("--advertise"));  // nobody is told of the coordinator
  AddTlsFlags(app, &flags->tls);
}

// Everything that lives as long as the process; made in order, stopped in reverse.
absl::Status Run(const Flags& flags, StopSignal& stop) {
  LEAP_RETURN_IF_ERROR(CheckTlsFiles(flags.tls));
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store,
                        Store::Open(absl::StrCat(flags.program.state_dir, "/ledger.db")));
  LEAP_ASSIGN_OR_RETURN(
      const std::unique_ptr<Metrics> metrics,
      Metrics::Start(flags.server.ToMetricsOptions(kInCoordinator, LEAP_VERSION)));
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Authenticator> auth,
                        Authenticator::Create(flags.server.ToAuthOptions(flags.tls)));
  MetricsFeed feed(metrics.get());
  Board board;
  RunnerOptions options;
  options.cluster.incarnation = NewIncarnation();
  Runner runner(options, store.get(), &board, &feed, RealClock());
  LEAP_RETURN_IF_ERROR(runner.Start());
  const auto agents = MakeAgentService(&runner, auth.get(), &feed);
  const auto jobs = MakeJobService(&runner, &board, store.get(), auth.get(),
                                   {.max_open_jobs_per_submitter = flags.max_jobs_per_submitter,
                                    .path_roots = flags.path_roots});
  RpcServerOptions server_options = flags.server.ToServerOptions(flags.tls);
  server_options.metrics = metrics.get();
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<RpcServer> server,
                        RpcServer::Start(server_options, {agents.get(), jobs.get()}));
  LogInfo("started", {{"listen", server->address()},
                      {"state_dir", flags.program.state_dir},
                      {"incarnation", Hex64(options.cluster.incarnation)}});
  stop.Wait();
  LogInfo("stopping");
  server->SetServing(false);
  runner.Stop();
  board.Close();
  server->Shutdown(kGrace);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Flags flags;
  flags.server.listen = "127.0.0.1:7070";
  CLI::App app("Forms groups, dispatches speculation, decides about leaps, keeps the ledger.",
               "leap-coordinator");
  AddFlags(&app, &flags);
  // Debian's Abseil looks for deadlocks at every lock, in gRPC's code too: a fifteenth of our CPU.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  return RunProgram(&app, argc, argv, flags.program,
                    [&flags](StopSignal& stop) { return Run(flags, stop); });
}

}  // namespace
}  // namespace leap

int main(int argc, char** argv) { return leap::Main(argc, argv); }
