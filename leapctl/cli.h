// The command line: commands, flags, help, suggestions for what was misspelled, and what a shell
// needs to complete it. Built from one table of commands (leapctl/cli.cc), which help, completion
// and the reference page walk.
#pragma once

#include <string>
#include <vector>

#include "leapctl/commands.h"
#include "leapctl/exit_code.h"
#include "leapctl/options.h"

namespace leap {

// What a command line asks for.
struct Invocation {
  CommandResult (*run)(const Options&,
                       Terminal&) = nullptr;  // nullptr: print `text` and leave with `code`
  Options options;
  std::string text;  // help, version, or what is wrong
  ExitCode code = ExitCode::kOk;
};

// `arguments` without the program's name. Reads LEAP_COORDINATOR and LEAP_TOKEN.
Invocation ParseCommandLine(const std::vector<std::string>& arguments);

// Parses, runs, prints errors; the exit status.
int RunLeapctl(const std::vector<std::string>& arguments, Terminal& terminal);

// A script for "bash", "zsh" or "fish"; empty for another shell.
std::string CompletionScript(const std::string& shell);

// docs/leapctl.md: every command with its flags, and the table of exit codes.
std::string CommandReferenceMarkdown();

}  // namespace leap
