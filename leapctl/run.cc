// leapctl run: one job with everything on this machine, from start to summary.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/ids.h"
#include "base/signals.h"
#include "base/status_macros.h"
#include "core/job_spec.h"
#include "leapctl/commands.h"
#include "leapctl/describe.h"
#include "leapctl/local_cluster.h"
#include "leapctl/watch.h"

namespace leap {
namespace {

// The job file with --workers and --verifiers in place of what it says, checked once more.
absl::StatusOr<JobSpec> JobFor(const Options& options, JobSpec spec) {
  if (options.workers > 0) {
    spec.workers.replicas = options.workers;
    spec.workers.min_replicas = std::min<int64_t>(spec.workers.min_replicas, options.workers);
  }
  if (options.verifiers >= 0) {
    spec.verifiers.min_replicas = std::min<int64_t>(spec.verifiers.min_replicas, options.verifiers);
    spec.verifiers.max_replicas = std::max<int64_t>(spec.verifiers.max_replicas, options.verifiers);
  }
  return ParseJobSpec(JobSpecToYaml(spec));
}

// The same training as if Leap were not there; its report-set loss is measured at the end.
JobSpec BaselineOf(JobSpec spec) {
  spec.name = absl::StrCat(spec.name.substr(0, 54), "-baseline");
  spec.leap.enabled = false;
  if (!spec.checkpoint.dir.empty()) absl::StrAppend(&spec.checkpoint.dir, "/baseline");
  return spec;
}

absl::StatusOr<std::string> MakeStateDir(const std::string& wanted) {
  std::error_code error;
  std::filesystem::path path = wanted;
  if (wanted.empty()) {
    path = std::filesystem::temp_directory_path(error) /
           absl::StrCat("leap-run-", Hex64(NewIncarnation()));
  }
  if (!error) std::filesystem::create_directories(path, error);
  if (!error) path = std::filesystem::absolute(path, error);
  if (!error) return path.string();
  return MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kConfigInvalid,
                   absl::StrCat("--state-dir ", path.string(), ": ", error.message()));
}

// Submits `spec` and watches it to its end, telling meanwhile of processes that ended.
absl::StatusOr<v1::Job> RunJob(const JobSpec& spec, const Options& options, Client& client,
                               LocalCluster& cluster, Terminal& terminal, StopSignal& stop) {
  LEAP_ASSIGN_OR_RETURN(const v1::Job job, client.CreateJob(JobSpecToYaml(spec)));
  const auto check = [&] {
    for (const std::string& news : cluster.News()) terminal.err << "leapctl: " << news << std::endl;
    return cluster.Check();
  };
  return WatchJob(client, job.job(), {.output = options.output, .check = check}, terminal, stop);
}

std::string Several(int64_t count, absl::string_view what) {
  return absl::StrCat(count, " ", what, count == 1 ? "" : "s");
}

std::string WhereThingsAre(const std::string& state_dir) {
  return absl::StrCat("\nKept in ", state_dir,
                      "\n  coordinator/   the ledger"
                      "\n  agents/        checkpoints and token cache"
                      "\n  *.metrics.txt  the metrics of each process at the end"
                      "\n  *.log          what each process said\n");
}

CommandResult RunInCluster(const JobSpec& spec, const Options& options, LocalCluster& cluster,
                           Terminal& terminal, StopSignal& stop) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client,
                        Client::Create(cluster.coordinator(), {}));
  SummaryInputs inputs;
  if (options.with_baseline) {
    LEAP_ASSIGN_OR_RETURN(const v1::Job baseline,
                          RunJob(BaselineOf(spec), options, *client, cluster, terminal, stop));
    LEAP_ASSIGN_OR_RETURN(inputs.baseline, FetchRun(*client, baseline.job()));
  }
  LEAP_ASSIGN_OR_RETURN(const v1::Job job, RunJob(spec, options, *client, cluster, terminal, stop));
  LEAP_ASSIGN_OR_RETURN(inputs.run, FetchRun(*client, job.job()));
  if (options.output == OutputFormat::kTable)
    terminal.out << "\n" << RenderSummary(inputs) << std::flush;
  return ExitCodeFor(job.state());
}

}  // namespace

CommandResult RunLocally(const Options& options, Terminal& terminal) {
  LEAP_ASSIGN_OR_RETURN(const std::string yaml, ReadJobFile(options.file, terminal));
  LEAP_ASSIGN_OR_RETURN(const JobSpec written,
                        ParseJobSpec(yaml, options.file == "-" ? "" : options.file));
  LEAP_ASSIGN_OR_RETURN(const JobSpec spec, JobFor(options, written));
  const int64_t verifiers = options.verifiers >= 0
                                ? options.verifiers
                                : std::max<int64_t>(spec.verifiers.min_replicas, 1);
  StopSignal stop;
  LEAP_ASSIGN_OR_RETURN(const std::string state_dir, MakeStateDir(options.state_dir));
  terminal.err << "starting a coordinator, " << Several(spec.workers.replicas, "worker") << " and "
               << Several(verifiers, "verifier") << " on this machine; state and logs in "
               << state_dir << std::endl;
  absl::StatusOr<std::unique_ptr<LocalCluster>> cluster =
      LocalCluster::Start({.state_dir = state_dir,
                           .workers = static_cast<int>(spec.workers.replicas),
                           .verifiers = static_cast<int>(verifiers),
                           .nice = options.nice},
                          stop);
  CommandResult result =
      cluster.ok() ? RunInCluster(spec, options, **cluster, terminal, stop) : cluster.status();
  const bool interrupted = absl::IsCancelled(result.status());
  if (interrupted) terminal.err << "interrupted; stopping every process" << std::endl;
  if (cluster.ok()) {
    (*cluster)->SaveMetrics();
    (*cluster)->Stop();
  }
  if (cluster.ok() && options.output == OutputFormat::kTable) {
    terminal.out << WhereThingsAre(state_dir);
  }
  return interrupted ? CommandResult(ExitCode::kInterrupted) : result;
}

}  // namespace leap
