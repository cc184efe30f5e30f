// The commands: each does one thing with options and a terminal, and answers with an exit code or
// with a Status, which main prints and maps to one (leapctl/exit_code.h). They hold no decisions
// about text: see render.h, describe.h, watch_view.h, summary.h.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "leapctl/client.h"
#include "leapctl/exit_code.h"
#include "leapctl/options.h"
#include "leapctl/summary.h"

namespace leap {

using CommandResult = absl::StatusOr<ExitCode>;

CommandResult Submit(const Options& options, Terminal& terminal);
CommandResult List(const Options& options, Terminal& terminal);
CommandResult Get(const Options& options, Terminal& terminal);
CommandResult Describe(const Options& options, Terminal& terminal);
CommandResult WatchCommand(const Options& options, Terminal& terminal);
CommandResult Cancel(const Options& options, Terminal& terminal);
CommandResult Pause(const Options& options, Terminal& terminal);
CommandResult Resume(const Options& options, Terminal& terminal);
CommandResult Snapshots(const Options& options, Terminal& terminal);
CommandResult Candidates(const Options& options, Terminal& terminal);
CommandResult Leaps(const Options& options, Terminal& terminal);
CommandResult Events(const Options& options, Terminal& terminal);
CommandResult Workers(const Options& options, Terminal& terminal);
CommandResult Summary(const Options& options, Terminal& terminal);
CommandResult CheckpointExport(const Options& options, Terminal& terminal);
CommandResult SnapshotExport(const Options& options, Terminal& terminal);
CommandResult RunLocally(const Options& options, Terminal& terminal);  // leapctl run
CommandResult Version(const Options& options, Terminal& terminal);
CommandResult Completion(const Options& options, Terminal& terminal);
CommandResult Docs(const Options& options, Terminal& terminal);

// ---- shared by them ----

absl::StatusOr<std::unique_ptr<Client>> Connect(const Options& options);

// The text of a job file ("-": standard input). NotFound, or InvalidArgument beyond 256 KiB.
absl::StatusOr<std::string> ReadJobFile(const std::string& file, Terminal& terminal);

// Writes a message: `table` for people, else by `options.output`.
void Print(const Options& options, Terminal& terminal, const google::protobuf::Message& message,
           const std::string& table);

// Job, snapshots, candidates and leaps of `job`, for the summary.
absl::StatusOr<RunRecord> FetchRun(Client& client, const std::string& job);

}  // namespace leap
