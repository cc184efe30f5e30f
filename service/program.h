// What the long-running binaries do alike around what each is for: the flags of the process, how it
// begins, what its exit code says.
//
//   CLI::App app("Trains as one rank.", "leap-worker");
//   AddProgramFlags(&app, LEAP_VERSION, "the token cache", &flags.program);
//   return RunProgram(&app, argc, argv, flags.program,
//                     [&](StopSignal& stop) { return Run(flags, stop); });
//
// Call on the main thread before anything starts.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/signals.h"
#include "service/agent_session.h"

namespace leap {

struct ProgramFlags {
  std::string state_dir;  // default: $XDG_STATE_HOME/leap, ~/.local/state/leap, /tmp/leap
  std::string log_level = "info";
};
// --version --state-dir --log-level. `kept`: what lies in the folder.
void AddProgramFlags(CLI::App* app, absl::string_view version, absl::string_view kept,
                     ProgramFlags* flags);

// Parses, starts the log, makes the folder, and runs `run`, which returns when it is told to stop
// or cannot go on. Exit code: 0 stopped as asked; 1 an error while starting or running; 2 flags
// that cannot work (InvalidArgument, TLS_INVALID).
int RunProgram(CLI::App* app, int argc, char** argv, const ProgramFlags& flags,
               const std::function<absl::Status(StopSignal&)>& run);

// Of workers and verifiers.
struct AgentFlags {
  std::string name;       // default: HOST-xPID, x the role's first letter
  std::string bind_host;  // set its default before AddAgentFlags
  std::vector<std::string> path_roots;
};
// --name --bind-host --path-root. `role`: "worker" or "verifier"; `why_bind`: help of --bind-host.
void AddAgentFlags(CLI::App* app, absl::string_view role, const std::string& why_bind,
                   AgentFlags* flags);
// InvalidArgument: not a name as agent.proto wants it.
absl::Status CheckAgentName(const std::string& name);

// Until a stop is asked for (OK), or the session gave up (why it did).
absl::Status WaitForStop(const AgentSession& session, StopSignal& stop);

}  // namespace leap
