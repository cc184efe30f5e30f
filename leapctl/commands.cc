// The commands that ask the coordinator something and print the answer.
#include "leapctl/commands.h"

#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/signals.h"
#include "base/status_macros.h"
#include "core/job_spec.h"
#include "leapctl/describe.h"
#include "leapctl/export.h"
#include "leapctl/text.h"
#include "leapctl/watch.h"

namespace leap {
namespace {

constexpr size_t kMaxJobFileBytes = 256 << 10;
constexpr int kRecentEvents = 12;

// "demo-7f3a2c: running; why".
std::string StateLine(const v1::Job& job) {
  return absl::StrCat(Clean(job.job()), ": ", StateWord(job.state()),
                      job.state_reason().empty() ? "" : "; ", Clean(job.state_reason()), "\n");
}

// Watches until the end, and says what is to be said about a Ctrl-C.
CommandResult WatchToTheEnd(const Options& options, Client& client, const std::string& job,
                            Terminal& terminal, StopSignal& stop) {
  const absl::StatusOr<v1::Job> last =
      WatchJob(client, job, {.output = options.output}, terminal, stop);
  if (absl::IsCancelled(last.status())) {
    terminal.err << "detached; " << job << " goes on without you. leapctl watch " << job
                 << " looks again, leapctl cancel " << job << " ends it.\n";
    return ExitCode::kInterrupted;
  }
  LEAP_RETURN_IF_ERROR(last.status());
  if (options.output == OutputFormat::kTable) {
    terminal.out << StateLine(*last) << "\n" << NextCommands(*last);
  }
  return ExitCodeFor(last->state());
}

CommandResult Steer(const Options& options, Terminal& terminal,
                    absl::StatusOr<v1::Job> (*call)(Client&, const Options&)) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  LEAP_ASSIGN_OR_RETURN(const v1::Job job, call(*client, options));
  Print(options, terminal, job, StateLine(job));
  return ExitCode::kOk;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Connect(const Options& options) {
  LEAP_RETURN_IF_ERROR(options.channel.status());
  return Client::Create(options.coordinator, *options.channel);
}

absl::StatusOr<std::string> ReadJobFile(const std::string& file, Terminal& terminal) {
  std::ifstream disk;
  if (file != "-") {
    disk.open(file);
    disk.peek();  // a folder opens, and cannot be read
    if (disk.bad() || !disk.is_open()) {
      return MakeError(absl::StatusCode::kNotFound, ErrorReason::kConfigInvalid,
                       absl::StrCat("cannot read the job file '", file,
                                    "'; docs/job.md tells what stands in one"));
    }
    disk.clear();  // an empty file is for ParseJobSpec to refuse
  }
  std::istream& in = file == "-" ? terminal.in : disk;
  std::string text(kMaxJobFileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return text;  // one byte beyond the limit is enough for ParseJobSpec to refuse it
}

void Print(const Options& options, Terminal& terminal, const google::protobuf::Message& message,
           const std::string& table) {
  terminal.out << (options.output == OutputFormat::kTable ? table
                                                          : RenderMessage(message, options.output));
}

CommandResult Submit(const Options& options, Terminal& terminal) {
  LEAP_ASSIGN_OR_RETURN(const std::string yaml, ReadJobFile(options.file, terminal));
  LEAP_ASSIGN_OR_RETURN(const JobSpec spec,
                        ParseJobSpec(yaml, options.file == "-" ? "" : options.file));
  if (options.dry_run) {
    v1::Job job;  // as submit answers it, before the coordinator has named it
    job.set_name(spec.name);
    job.set_spec_yaml(JobSpecToYaml(spec));
    Print(options, terminal, job, job.spec_yaml());
    return ExitCode::kOk;
  }
  StopSignal stop;
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  LEAP_ASSIGN_OR_RETURN(const v1::Job job, client->CreateJob(yaml));
  if (!options.wait || options.output == OutputFormat::kTable) {
    Print(options, terminal, job, absl::StrCat("submitted ", StateLine(job)));
    terminal.out.flush();
  }
  if (options.wait) return WatchToTheEnd(options, *client, job.job(), terminal, stop);
  if (options.output == OutputFormat::kTable) terminal.out << "\n" << NextCommands(job);
  return ExitCode::kOk;
}

CommandResult List(const Options& options, Terminal& terminal) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  LEAP_ASSIGN_OR_RETURN(const v1::ListJobsResponse jobs, client->ListJobs(options.last));
  Print(options, terminal, jobs, JobsTable(jobs, RealClock().Now()));
  return ExitCode::kOk;
}

CommandResult Get(const Options& options, Terminal& terminal) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  LEAP_ASSIGN_OR_RETURN(const v1::Job job, client->GetJob(options.job));
  v1::ListJobsResponse row;
  *row.add_jobs() = job;
  Print(options, terminal, job, JobsTable(row, RealClock().Now()));
  return ExitCode::kOk;
}

CommandResult Describe(const Options& options, Terminal& terminal) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  LEAP_ASSIGN_OR_RETURN(const v1::Job job, client->GetJob(options.job));
  LEAP_ASSIGN_OR_RETURN(const v1::ListEventsResponse events,
                        client->ListEvents(options.job, kRecentEvents));
  Print(options, terminal, job,
        DescribeJob(job, {events.events().begin(), events.events().end()}, RealClock().Now()));
  return ExitCode::kOk;
}

CommandResult WatchCommand(const Options& options, Terminal& terminal) {
  StopSignal stop;
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  return WatchToTheEnd(options, *client, options.job, terminal, stop);
}

CommandResult Cancel(const Options& options, Terminal& terminal) {
  return Steer(options, terminal, [](Client& client, const Options& what) {
    return client.CancelJob(what.job, what.reason);
  });
}

CommandResult Pause(const Options& options, Terminal& terminal) {
  return Steer(options, terminal,
               [](Client& client, const Options& what) { return client.PauseJob(what.job); });
}

CommandResult Resume(const Options& options, Terminal& terminal) {
  return Steer(options, terminal,
               [](Client& client, const Options& what) { return client.ResumeJob(what.job); });
}

CommandResult Snapshots(const Options& options, Terminal& terminal) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  LEAP_ASSIGN_OR_RETURN(const v1::Job job, client->GetJob(options.job));
  LEAP_ASSIGN_OR_RETURN(v1::ListSnapshotsResponse rows,
                        client->ListSnapshots(options.job, options.last));
  ForgetDroppedSources(job, &rows);
  Print(options, terminal, rows, SnapshotsTable(rows));
  return ExitCode::kOk;
}

CommandResult Candidates(const Options& options, Terminal& terminal) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  LEAP_ASSIGN_OR_RETURN(const v1::ListCandidatesResponse rows,
                        client->ListCandidates(options.job, options.last));
  Print(options, terminal, rows, CandidatesTable(rows));
  return ExitCode::kOk;
}

CommandResult Leaps(const Options& options, Terminal& terminal) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  LEAP_ASSIGN_OR_RETURN(const v1::ListLeapsResponse rows,
                        client->ListLeaps(options.job, options.last));
  Print(options, terminal, rows, LeapsTable(rows));
  return ExitCode::kOk;
}

CommandResult Events(const Options& options, Terminal& terminal) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  LEAP_ASSIGN_OR_RETURN(const v1::ListEventsResponse rows,
                        client->ListEvents(options.job, options.last));
  Print(options, terminal, rows, EventsTable(rows));
  return ExitCode::kOk;
}

CommandResult Workers(const Options& options, Terminal& terminal) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  LEAP_ASSIGN_OR_RETURN(const v1::ListAgentsResponse rows, client->ListAgents());
  Print(options, terminal, rows, AgentsTable(rows, RealClock().Now()));
  return ExitCode::kOk;
}

absl::StatusOr<RunRecord> FetchRun(Client& client, const std::string& job) {
  RunRecord run;
  LEAP_ASSIGN_OR_RETURN(run.job, client.GetJob(job));
  LEAP_ASSIGN_OR_RETURN(const v1::ListSnapshotsResponse snapshots, client.ListSnapshots(job));
  LEAP_ASSIGN_OR_RETURN(const v1::ListCandidatesResponse candidates, client.ListCandidates(job));
  LEAP_ASSIGN_OR_RETURN(const v1::ListLeapsResponse leaps, client.ListLeaps(job));
  run.snapshots.assign(snapshots.snapshots().begin(), snapshots.snapshots().end());
  run.candidates.assign(candidates.candidates().begin(), candidates.candidates().end());
  run.leaps.assign(leaps.leaps().begin(), leaps.leaps().end());
  return run;
}

CommandResult Summary(const Options& options, Terminal& terminal) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  SummaryInputs inputs;
  LEAP_ASSIGN_OR_RETURN(inputs.run, FetchRun(*client, options.job));
  if (!options.baseline.empty()) {
    LEAP_ASSIGN_OR_RETURN(inputs.baseline, FetchRun(*client, options.baseline));
  }
  Print(options, terminal, inputs.run.job, RenderSummary(inputs));
  return ExitCode::kOk;
}

}  // namespace leap
