// The table of commands as CLI11 knows it. Internal to leapctl/cli.cc and leapctl/reference.cc.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "leapctl/cli.h"
#include "service/flags.h"
#include "service/tls.h"

namespace leap {

struct Command {
  const char* path;     // "checkpoint export"
  const char* summary;  // a sentence
  void (*flags)(CLI::App& app, Options& options);
  CommandResult (*run)(const Options&, Terminal&);
};

// One parse. Not copyable: CLI11 holds pointers into it.
struct CommandLine {
  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  CLI::App app;
  Options options;
  std::string output = "table";
  ChannelFlags channel;
  TlsFiles tls;
  const Command* chosen = nullptr;
};

// What --buffer may name, as in snapshot.proto.
std::vector<std::string> BufferNames();

// Subcommands in the order of help.
std::vector<const CLI::App*> SubcommandsOf(const CLI::App& app);

}  // namespace leap
