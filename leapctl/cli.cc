#include "leapctl/cli.h"

#include <array>
#include <span>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/nearest.h"
#include "leapctl/command_line.h"

#ifndef LEAP_VERSION
#define LEAP_VERSION "unknown"
#endif

namespace leap {
namespace {

void NoFlags(CLI::App&, Options&) {}

void JobFlag(CLI::App& app, Options& options) {
  app.add_option("JOB", options.job, "Id of the job, as submit and list show it")->required();
}

void LedgerFlags(CLI::App& app, Options& options) {
  JobFlag(app, options);
  app.add_option("--last", options.last, "Only the newest so many rows")
      ->check(CLI::Range(1, 1000000));
}

void ListFlags(CLI::App& app, Options& options) {
  app.add_option("--last", options.last, "Only the newest so many jobs")
      ->check(CLI::Range(1, 1000000));
}

void SubmitFlags(CLI::App& app, Options& options) {
  app.add_option("FILE", options.file, "Job file; - reads standard input")->required();
  app.add_flag("--dry-run", options.dry_run,
               "Check the file and print the job with every default filled in; submit nothing");
  app.add_flag("--wait", options.wait, "Watch until the job ends, and exit as it ended");
}

void CancelFlags(CLI::App& app, Options& options) {
  JobFlag(app, options);
  app.add_option("--reason", options.reason, "Why, for the job's events");
}

void SummaryFlags(CLI::App& app, Options& options) {
  JobFlag(app, options);
  app.add_option("--baseline", options.baseline,
                 "The same training without leaps, to compare with");
}

void CheckpointFlags(CLI::App& app, Options& options) {
  JobFlag(app, options);
  app.add_option("--out", options.out, "New folder to copy it into")->required();
  app.add_flag("--force", options.force, "Write into the folder even if it is there already");
}

void SnapshotFlags(CLI::App& app, Options& options) {
  JobFlag(app, options);
  app.add_option("--step", options.step, "Step of the snapshot; see leapctl snapshots")
      ->required()
      ->check(CLI::Range(int64_t{0}, int64_t{1000000000}));
  app.add_option("--out", options.out, "New .safetensors file")->required();
  app.add_option(
         "--buffer", options.buffer,
         "weights; Adam's moments exp_avg, exp_avg_sq; a predictor's state_0, state_1 (of a "
         "job whose predictors need them)")
      ->check(CLI::IsMember(BufferNames()));
  app.add_flag("--force", options.force, "Overwrite the file if it is there already");
}

void RunFlags(CLI::App& app, Options& options) {
  app.add_option("FILE", options.file, "Job file; - reads standard input")->required();
  app.add_option("--workers", options.workers, "Main workers (default: spec.workers.replicas)")
      ->check(CLI::Range(1, 64));
  app.add_option("--verifiers", options.verifiers,
                 "Verifiers (default: spec.verifiers.min_replicas, at least 1)")
      ->check(CLI::Range(0, 64));
  app.add_option("--state-dir", options.state_dir,
                 "Folder for ledger, checkpoints and logs (default: a new one under the temporary "
                 "folder; it is kept)");
  app.add_flag("--with-baseline", options.with_baseline,
               "First the same training without leaps; the summary compares the two");
  app.add_option("--nice", options.nice, "Niceness of the verifiers, so that training goes first")
      ->check(CLI::Range(0, 19))
      ->capture_default_str();
}

void CompletionFlags(CLI::App& app, Options& options) {
  app.add_option("SHELL", options.topic, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
}

void DocsFlags(CLI::App& app, Options& options) {
  app.add_option("PAGE", options.topic,
                 "job (the job file), schema (its JSON Schema) or cli (this command)")
      ->required()
      ->check(CLI::IsMember({"job", "schema", "cli"}));
}

constexpr std::array<Command, 20> kCommands = {{
    {"submit", "Queue a job.", SubmitFlags, Submit},
    {"run", "Run a job with everything on this machine; Ctrl-C ends it all, a second one at once.",
     RunFlags, RunLocally},
    {"list", "List jobs, newest first.", ListFlags, List},
    {"get", "Show one job.", JobFlag, Get},
    {"describe",
     "Tell everything about a job: what it waits for, savings, data, policy, members, time-outs.",
     JobFlag, Describe},
    {"watch", "Follow a job live; Ctrl-C detaches, the job goes on.", JobFlag, WatchCommand},
    {"cancel", "End a job; its checkpoint stays.", CancelFlags, Cancel},
    {"pause", "Hold training at the next step boundary.", JobFlag, Pause},
    {"resume", "Let a paused job go on.", JobFlag, Resume},
    {"leaps", "List a job's leaps with what each saved.", LedgerFlags, Leaps},
    {"candidates", "List what was tried, with each verdict and its reason.", LedgerFlags,
     Candidates},
    {"snapshots", "List a job's snapshots: losses, similarity, regime, digest.", LedgerFlags,
     Snapshots},
    {"events", "List what happened to a job.", LedgerFlags, Events},
    {"summary", "Say what a job's leaps came to.", SummaryFlags, Summary},
    {"workers", "List the workers and verifiers that the coordinator knows.", NoFlags, Workers},
    {"checkpoint export", "Copy a job's newest checkpoint.", CheckpointFlags, CheckpointExport},
    {"snapshot export", "Fetch a snapshot that is still held, as safetensors.", SnapshotFlags,
     SnapshotExport},
    {"version", "Print the version.", NoFlags, Version},
    {"completion", "Print a completion script for a shell.", CompletionFlags, Completion},
    {"docs", "Print a page of the reference.", DocsFlags, Docs},
}};

CLI::App* AppAt(CLI::App& root, absl::string_view path) {
  CLI::App* app = &root;
  for (absl::string_view word : absl::StrSplit(path, ' ')) {
    const std::vector<CLI::App*> found =
        app->get_subcommands([word](CLI::App* sub) { return sub->get_name() == word; });
    CLI::App* next = found.empty() ? nullptr : found.front();
    if (next == nullptr) {
      next = app->add_subcommand(
          std::string(word), word == "checkpoint" ? "Checkpoints of jobs." : "Snapshots of jobs.");
      next->require_subcommand(1);
      next->fallthrough();
    }
    app = next;
  }
  return app;
}

constexpr absl::string_view kExamples =
    "Examples:\n"
    "  leapctl run examples/demo.yaml --workers 2 --verifiers 2   everything on this machine\n"
    "  leapctl submit --dry-run job.yaml                          check a job file\n"
    "  leapctl submit --wait job.yaml                             queue it and watch\n"
    "  leapctl list -o json                                       for programs\n";

// ---- what is wrong with a command line, in words ----

bool TakesValue(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

// The option that `flag` ("--wait", "-o") names here or in a parent; nullptr: none.
const CLI::Option* FindFlag(const CLI::App* app, const std::string& flag) {
  for (; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      if (option->check_name(flag)) return option;
    }
  }
  return nullptr;
}

std::string UnknownFlag(const CLI::App* app, const std::string& flag) {
  std::vector<std::string> names;
  for (const CLI::App* at = app; at != nullptr; at = at->get_parent()) {
    for (const CLI::Option* option : at->get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
      for (const std::string& name : option->get_snames()) names.push_back("-" + name);
    }
  }
  const std::vector<absl::string_view> views(names.begin(), names.end());
  return absl::StrCat("unknown flag '", flag, "'", DidYouMean(flag, views));
}

std::string UnknownCommand(const CLI::App* app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* sub : SubcommandsOf(*app)) names.push_back(sub->get_name());
  const std::vector<absl::string_view> views(names.begin(), names.end());
  return absl::StrCat("unknown command '", word, "'", DidYouMean(word, views));
}

// Walks the arguments to the first that names nothing; CLI11's own words for other mistakes.
std::string Explain(const CLI::App& root, const std::vector<std::string>& arguments,
                    const CLI::ParseError& error) {
  const CLI::App* app = &root;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "--") break;
    if (word.size() > 1 && word[0] == '-') {
      const std::string flag = word.substr(0, word.find('='));
      const CLI::Option* option = FindFlag(app, flag);
      const bool bundled =
          option == nullptr && flag[1] != '-' && FindFlag(app, flag.substr(0, 2)) != nullptr;
      if (option == nullptr && !bundled) return UnknownFlag(app, flag);
      if (option != nullptr && TakesValue(*option) && flag == word) ++i;
    } else if (!SubcommandsOf(*app).empty()) {
      const CLI::App* next = nullptr;
      for (const CLI::App* sub : SubcommandsOf(*app)) {
        if (sub->get_name() == word) next = sub;
      }
      if (next == nullptr) return UnknownCommand(app, word);
      app = next;
    }
  }
  if (!SubcommandsOf(*app).empty()) {
    std::vector<std::string> names;
    for (const CLI::App* sub : SubcommandsOf(*app)) names.push_back(sub->get_name());
    return absl::StrCat("expected a command: ", absl::StrJoin(names, ", "));
  }
  return error.what();
}

// The innermost command that the arguments name, for its help.
const CLI::App* Innermost(const CLI::App& root) {
  const CLI::App* app = &root;
  while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
  return app;
}

std::string PathOf(const CLI::App* app) {
  return app->get_parent() == nullptr
             ? app->get_name()
             : absl::StrCat(PathOf(app->get_parent()), " ", app->get_name());
}

}  // namespace

CommandLine::CommandLine()
    : app("The person's tool of Leap: submit, watch and steer jobs.", "leapctl") {
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("leapctl ") + LEAP_VERSION);
  app.add_option("-o,--output", output, "table, json, yaml or jsonl")->capture_default_str();
  AddChannelFlags(&app, &channel);
  AddTlsFlags(&app, &tls);
  app.footer([] { return absl::StrCat(kExamples, "\nExit status:\n", ExitCodeHelp()); });
  for (const Command& command : kCommands) {
    CLI::App* sub = AppAt(app, command.path);
    sub->description(command.summary);
    sub->require_subcommand(0);
    sub->fallthrough();
    sub->footer("-o, --coordinator and the flags of security: leapctl --help");
    command.flags(*sub, options);
    sub->callback([this, &command] { chosen = &command; });
  }
}

std::vector<std::string> BufferNames() {
  return {"weights", "exp_avg", "exp_avg_sq", "state_0", "state_1"};
}

std::vector<const CLI::App*> SubcommandsOf(const CLI::App& app) {
  std::vector<const CLI::App*> subcommands;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    subcommands.push_back(sub);
  return subcommands;
}

Invocation ParseCommandLine(const std::vector<std::string>& arguments) {
  CommandLine line;
  Invocation invocation;
  const auto refuse = [&](std::string text) {
    invocation.text =
        absl::StrCat("leapctl: ", text, "\nleapctl --help lists commands and flags\n");
    invocation.code = ExitCode::kUsage;
    return invocation;
  };
  try {
    line.app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForVersion& version) {
    invocation.text = absl::StrCat(version.what(), "\n");
    return invocation;
  } catch (const CLI::CallForHelp&) {
    const CLI::App* app = Innermost(line.app);
    invocation.text = app->help(app->get_parent() == nullptr ? "" : PathOf(app->get_parent()));
    return invocation;
  } catch (const CLI::ParseError& error) {
    return refuse(Explain(line.app, arguments, error));
  }
  if (line.chosen == nullptr) return refuse("expected a command");
  const absl::StatusOr<OutputFormat> output = ParseOutputFormat(line.output);
  if (!output.ok()) return refuse(std::string(output.status().message()));
  invocation.run = line.chosen->run;
  invocation.options = line.options;
  invocation.options.output = *output;
  invocation.options.coordinator = line.channel.coordinator;
  invocation.options.channel = line.channel.ToChannelOptions(line.tls);
  return invocation;
}

int RunLeapctl(const std::vector<std::string>& arguments, Terminal& terminal) {
  const Invocation invocation = ParseCommandLine(arguments);
  if (invocation.run == nullptr) {
    (invocation.code == ExitCode::kOk ? terminal.out : terminal.err)
        << invocation.text << std::flush;
    return static_cast<int>(invocation.code);
  }
  const CommandResult result = invocation.run(invocation.options, terminal);
  terminal.out.flush();
  if (result.ok()) return static_cast<int>(*result);
  // Findings of a job file carry their own place; other errors say who speaks.
  const bool findings = ExitCodeFor(result.status()) == ExitCode::kJobSpecInvalid;
  terminal.err << (findings ? "" : "leapctl: ") << result.status().message() << std::endl;
  return static_cast<int>(ExitCodeFor(result.status()));
}

}  // namespace leap
