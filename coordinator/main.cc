// leap-coordinator: one per cluster, many jobs. See --help.
//
// Exit codes: 0 stopped as asked; 1 an error while starting or running; 2 flags that cannot work.

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/signals.h"
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
#include "service/server.h"

#ifndef LEAP_VERSION
#define LEAP_VERSION "unknown"
#endif

namespace leap {
namespace {

constexpr absl::Duration kGrace = absl::Seconds(2);

struct Flags {
  std::string state_dir;
  std::string log_level = "info";
  std::vector<std::string> path_roots;
  int max_jobs_per_submitter = 100;
  TlsFiles tls;
  ServerFlags server;
};

std::string DefaultStateDir() {
  if (const char* home = std::getenv("XDG_STATE_HOME")) return absl::StrCat(home, "/leap");
  if (const char* home = std::getenv("HOME")) return absl::StrCat(home, "/.local/state/leap");
  return "/tmp/leap";
}

void AddFlags(CLI::App* app, Flags* flags) {
  app->description("Forms groups, dispatches speculation, decides about leaps, keeps the ledger.");
  app->set_version_flag("--version", std::string("leap-coordinator ") + LEAP_VERSION);
  app->add_option("--state-dir", flags->state_dir,
                  "Folder of the ledger (default: $XDG_STATE_HOME/leap)");
  app->add_option("--path-root", flags->path_roots,
                  "Job files may name paths below this folder only; may be repeated")
      ->check([](const std::string& root) {
        return root.starts_with('/') ? "" : "expected an absolute path, saw '" + root + "'";
      });
  app->add_option("--max-jobs-per-submitter", flags->max_jobs_per_submitter,
                  "Jobs of one submitter that have not ended")
      ->check(CLI::Range(1, 1000));
  app->add_option("--log-level", flags->log_level, "debug, info, warning or error");
  AddServerFlags(app, &flags->server);
  app->remove_option(app->get_option("--advertise"));  // nobody is told of the coordinator
  AddTlsFlags(app, &flags->tls);
}

absl::StatusOr<std::unique_ptr<Store>> OpenLedger(const std::string& state_dir) {
  std::error_code error;
  std::filesystem::create_directories(state_dir, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("--state-dir ", state_dir, ": ", error.message()));
  }
  return Store::Open(absl::StrCat(state_dir, "/ledger.db"));
}

// Everything that lives as long as the process; made in order, stopped in reverse.
absl::Status Run(const Flags& flags, StopSignal& stop) {
  LEAP_RETURN_IF_ERROR(CheckTlsFiles(flags.tls));
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, OpenLedger(flags.state_dir));
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
                      {"state_dir", flags.state_dir},
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
  CLI::App app("leap-coordinator");
  AddFlags(&app, &flags);
  if (const std::optional<int> code = ParseFlags(&app, argc, argv)) return *code;
  if (flags.state_dir.empty()) flags.state_dir = DefaultStateDir();
  const absl::StatusOr<LogLevel> level = ParseLogLevel(flags.log_level);
  if (!level.ok()) {
    std::cerr << "leap-coordinator: " << level.status().message() << "\n";
    return 2;
  }
  // Debian's Abseil looks for deadlocks at every lock, in gRPC's code too: a fifteenth of our CPU.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  StopSignal stop;
  InitLogging("leap-coordinator", *level);
  const absl::Status status = Run(flags, stop);
  if (status.ok()) return 0;
  std::cerr << "leap-coordinator: " << status.message() << "\n";
  return absl::IsInvalidArgument(status) ? 2 : 1;
}

}  // namespace
}  // namespace leap

int main(int argc, char** argv) { return leap::Main(argc, argv); }
