#include "service/program.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "service/address.h"
#include "service/flags.h"

namespace leap {
namespace {

std::string DefaultStateDir() {
  if (const char* home = std::getenv("XDG_STATE_HOME")) return absl::StrCat(home, "/leap");
  if (const char* home = std::getenv("HOME")) return absl::StrCat(home, "/.local/state/leap");
  return "/tmp/leap";
}

absl::Status MakeStateDir(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("--state-dir ", path, ": ", error.message()));
}

absl::Status Start(const std::string& name, const ProgramFlags& flags) {
  LEAP_ASSIGN_OR_RETURN(const LogLevel level, ParseLogLevel(flags.log_level));
  InitLogging(name, level);
  return MakeStateDir(flags.state_dir);
}

}  // namespace

void AddProgramFlags(CLI::App* app, absl::string_view version, absl::string_view kept,
                     ProgramFlags* flags) {
  flags->state_dir = DefaultStateDir();
  app->set_version_flag("--version", absl::StrCat(app->get_name(), " ", version));
  app->add_option("--state-dir", flags->state_dir,
                  absl::StrCat("Folder of ", kept, " (default: $XDG_STATE_HOME/leap)"));
  app->add_option("--log-level", flags->log_level, "debug, info, warning or error");
}

int RunProgram(CLI::App* app, int argc, char** argv, const ProgramFlags& flags,
               const std::function<absl::Status(StopSignal&)>& run) {
  if (const std::optional<int> code = ParseFlags(app, argc, argv)) return *code;
  StopSignal stop;
  absl::Status status = Start(app->get_name(), flags);
  if (status.ok()) status = run(stop);
  if (status.ok()) return 0;
  std::cerr << app->get_name() << ": " << status.message() << "\n";
  return absl::IsInvalidArgument(status) || ReasonOf(status) == ErrorReason::kTlsInvalid ? 2 : 1;
}

void AddAgentFlags(CLI::App* app, absl::string_view role, const std::string& why_bind,
                   AgentFlags* flags) {
  const std::string letter(role.substr(0, 1));
  flags->name = absl::StrCat(MachineName(), "-", letter, getpid());
  app->add_option("--name", flags->name,
                  absl::StrCat("Stable name of this agent (default: HOST-", letter, "PID)"));
  app->add_option("--bind-host", flags->bind_host, why_bind);
  app->add_option("--path-root", flags->path_roots,
                  "Job files may name paths below this folder only, links followed; may be "
                  "repeated")
      ->group("Security");
}

absl::Status CheckAgentName(const std::string& name) {
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  };
  if (!name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), allowed)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--name: expected 1 to 64 of a-z A-Z 0-9 . _ -, saw '", name, "'"));
}

absl::Status WaitForStop(const AgentSession& session, StopSignal& stop) {
  while (!stop.WaitFor(absl::Milliseconds(500)).has_value()) {
    const AgentSessionInfo info = session.info();
    if (info.ended) return info.last_error;
  }
  return absl::OkStatus();
}

}  // namespace leap
