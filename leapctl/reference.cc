// What the table of commands says about itself: shell completion and the reference page; and the
// commands that print.
#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "core/job_spec.h"
#include "leapctl/cli.h"
#include "leapctl/command_line.h"
#include "nlohmann/json.hpp"

#ifndef LEAP_VERSION
#define LEAP_VERSION "unknown"
#endif

namespace leap {
namespace {

// A command with its path from the root, "" for the root itself.
struct Place {
  std::string path;
  const CLI::App* app;
};

void Collect(const CLI::App& app, const std::string& path, std::vector<Place>& places) {
  places.push_back({path, &app});
  for (const CLI::App* sub : SubcommandsOf(app)) {
    Collect(*sub, path.empty() ? sub->get_name() : absl::StrCat(path, " ", sub->get_name()),
            places);
  }
}

std::vector<std::string> FlagNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> SubcommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : SubcommandsOf(app)) names.push_back(sub->get_name());
  return names;
}

// The positional of this command: "JOB", "FILE", "SHELL", "PAGE" or nothing.
std::string Positional(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) return option->get_name(true);
  }
  return "";
}

// The words that are the only ones to stand in a positional, or to be the value of a flag, if any.
std::string ChoicesOf(const std::string& name) {
  if (name == "SHELL") return "bash zsh fish";
  if (name == "PAGE") return "job schema cli";
  if (name == "output") return "table json yaml jsonl";
  if (name == "buffer") return absl::StrJoin(BufferNames(), " ");
  return "";
}

// What bash and zsh offer in the place of a positional.
std::string OfferOf(const std::string& positional) {
  if (positional == "JOB") return " jobs=1";
  if (positional == "FILE") return " files=1";
  if (positional.empty()) return "";
  return absl::StrCat(" words='", ChoicesOf(positional), "'");
}

// Ids of jobs, of the coordinator that the line names, or of the usual one.
constexpr absl::string_view kJobsFunction =
    "_leapctl_jobs() {\n"
    "  local word before='' connection=()\n"
    "  for word in $COMP_LINE; do\n"
    "    case \"$before\" in --coordinator|--token-path|--tls-*) "
    "connection+=(\"$before\" \"$word\") ;; esac\n"
    "    case \"$word\" in --insecure-*) connection+=(\"$word\") ;; esac\n"
    "    before=\"$word\"\n"
    "  done\n"
    "  leapctl list \"${connection[@]}\" -o jsonl 2>/dev/null | "
    "sed -n 's/^{\"job\":\"\\([^\"]*\\)\".*/\\1/p'\n"
    "}\n";

// One case for each command: what may follow it.
std::string BashCases(const CommandLine& line) {
  std::vector<Place> places;
  Collect(line.app, "", places);
  std::string cases;
  for (const Place& place : places) {
    const bool root = place.app == &line.app;
    absl::StrAppend(&cases, "    '", place.path, "')");
    if (const auto commands = SubcommandNames(*place.app); !commands.empty())
      absl::StrAppend(&cases, " words='", absl::StrJoin(commands, " "), "'");
    if (!root)  // the root's may stand after every command
      absl::StrAppend(&cases, " flags='", absl::StrJoin(FlagNames(*place.app), " "), "'");
    absl::StrAppend(&cases, OfferOf(Positional(*place.app)), " ;;\n");
  }
  return cases;
}

// `path` would be PATH in zsh.
constexpr absl::string_view kBashFunction =
    "_leapctl() {\n"
    "  local current=\"${COMP_WORDS[COMP_CWORD]}\" before=\"${COMP_WORDS[COMP_CWORD-1]}\" i\n"
    "  local chain='' words='' flags='' jobs='' files=''\n"
    "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "    case \" @COMMANDS@ \" in *\" ${chain:+$chain/}${COMP_WORDS[i]} \"*) "
    "chain=\"${chain:+$chain/}${COMP_WORDS[i]}\" ;; esac\n"
    "  done\n"
    "  case \"${chain//\\// }\" in\n"
    "@CASES@"
    "  esac\n"
    "  case \"$current\" in -*) words=\"$flags @GLOBAL@\" jobs='' files='' ;; esac\n"
    "  case \"$before\" in\n"
    "    -o|--output) words='@OUTPUTS@' jobs='' files='' ;;\n"
    "    --buffer) words='@BUFFERS@' jobs='' ;;\n"
    "    --baseline) words='' jobs=1 ;;\n"
    "    --out|--state-dir|--tls-*|--token-path) words='' jobs='' files=1 ;;\n"
    "  esac\n"
    "  if [[ -n $jobs ]]; then words=\"$(_leapctl_jobs)\"; fi\n"
    "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
    "  if [[ -n $files ]]; then COMPREPLY+=($(compgen -f -- \"$current\")); fi\n"
    "}\n";

// "submit list checkpoint checkpoint/export".
std::string CommandWords(const CommandLine& line) {
  std::vector<Place> places;
  Collect(line.app, "", places);
  std::vector<std::string> words;
  for (size_t i = 1; i < places.size(); ++i)
    words.push_back(absl::StrReplaceAll(places[i].path, {{" ", "/"}}));
  return absl::StrJoin(words, " ");
}

std::string BashFunction(const CommandLine& line) {
  return absl::StrReplaceAll(kBashFunction, {{"@COMMANDS@", CommandWords(line)},
                                             {"@BUFFERS@", ChoicesOf("buffer")},
                                             {"@OUTPUTS@", ChoicesOf("output")},
                                             {"@GLOBAL@", absl::StrJoin(FlagNames(line.app), " ")},
                                             {"@CASES@", BashCases(line)}});
}

std::string BashScript(const CommandLine& line) {
  return absl::StrCat("# bash completion of leapctl: source <(leapctl completion bash)\n",
                      kJobsFunction, BashFunction(line),
                      "complete -o filenames -F _leapctl leapctl\n");
}

std::string ZshScript(const CommandLine& line) {
  return absl::StrCat(
      "#compdef leapctl\n# zsh completion of leapctl: source <(leapctl completion zsh)\n",
      "autoload -U +X bashcompinit && bashcompinit\n", kJobsFunction, BashFunction(line),
      "complete -o filenames -F _leapctl leapctl\n");
}

std::string FishQuoted(absl::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "\\'"}}), "'");
}

std::string FishScript(const CommandLine& line) {
  std::vector<Place> places;
  Collect(line.app, "", places);
  std::string out =
      absl::StrCat("# fish completion of leapctl: leapctl completion fish | source\n",
                   "function _leapctl_jobs\n"
                   "  leapctl list -o jsonl 2>/dev/null | string match -r --groups-only "
                   "'^\\{\"job\":\"([^\"]*)\"'\n"
                   "end\n",
                   "complete -c leapctl -f\n");
  for (const Place& place : places) {
    const std::string when =
        place.path.empty()
            ? "__fish_use_subcommand"
            : absl::StrCat(
                  "__fish_seen_subcommand_from ",
                  absl::StrReplaceAll(place.path, {{" ", "; and __fish_seen_subcommand_from "}}));
    for (const CLI::App* sub : SubcommandsOf(*place.app)) {
      absl::StrAppend(&out, "complete -c leapctl -n '", when, "' -a ", sub->get_name(), " -d ",
                      FishQuoted(sub->get_description()), "\n");
    }
    for (const CLI::Option* option : place.app->get_options()) {
      if (option->get_lnames().empty()) continue;
      const std::string& name = option->get_lnames().front();
      absl::StrAppend(&out, "complete -c leapctl",
                      place.path.empty() ? "" : absl::StrCat(" -n '", when, "'"), " -l ", name);
      for (const std::string& letter : option->get_snames()) absl::StrAppend(&out, " -s ", letter);
      if (option->get_items_expected_max() > 0) absl::StrAppend(&out, " -r");
      if (const std::string choices = ChoicesOf(name); !choices.empty())
        absl::StrAppend(&out, " -f -a '", choices, "'");
      absl::StrAppend(&out, " -d ", FishQuoted(option->get_description()), "\n");
    }
    const std::string positional = Positional(*place.app);
    if (positional == "JOB")
      absl::StrAppend(&out, "complete -c leapctl -n '", when, "' -a '(_leapctl_jobs)'\n");
    if (positional == "FILE") absl::StrAppend(&out, "complete -c leapctl -n '", when, "' -F\n");
    if (const std::string choices = ChoicesOf(positional); !choices.empty())
      absl::StrAppend(&out, "complete -c leapctl -n '", when, "' -a '", choices, "'\n");
  }
  return out;
}

// ---- docs/leapctl.md ----

std::string FlagLine(const CLI::Option& option) {
  std::string name = option.get_positional()
                         ? option.get_name(true)
                         : absl::StrReplaceAll(option.get_name(false, true), {{",", ", "}});
  if (!option.get_positional() && option.get_items_expected_max() > 0)
    absl::StrAppend(&name, " ", "VALUE");
  std::string text = absl::StrCat("| `", name, "` | ",
                                  absl::StrReplaceAll(option.get_description(), {{"|", "\\|"}}));
  if (!option.get_default_str().empty())
    absl::StrAppend(&text, " (default: `", option.get_default_str(), "`)");
  if (!option.get_envname().empty())
    absl::StrAppend(&text, " Also the variable `", option.get_envname(), "`.");
  return absl::StrCat(text, " |\n");
}

std::string FlagTable(const CLI::App& app) {
  std::string rows;
  for (const CLI::Option* option : app.get_options()) {
    if (option->check_name("--help")) continue;
    absl::StrAppend(&rows, FlagLine(*option));
  }
  return rows.empty() ? "" : absl::StrCat("\n| | |\n| --- | --- |\n", rows);
}

}  // namespace

std::string CompletionScript(const std::string& shell) {
  const CommandLine line;
  if (shell == "bash") return BashScript(line);
  if (shell == "zsh") return ZshScript(line);
  if (shell == "fish") return FishScript(line);
  return "";
}

std::string CommandReferenceMarkdown() {
  const CommandLine line;
  std::vector<Place> places;
  Collect(line.app, "", places);
  std::string page = absl::StrCat(
      "# leapctl\n<!-- Made by `leapctl docs cli` from the table of commands; a test compares. Do "
      "not edit. -->\n\n",
      line.app.get_description(), " `leapctl COMMAND --help` says the same in the terminal.\n\n",
      "## For every command\n", FlagTable(line.app),
      "\n`-o json` and `-o yaml` print one document with the field names of "
      "`proto/leap/v1/job.proto`, every field "
      "present, 64-bit numbers as text; `-o jsonl` one line for each item of a list. `watch` gives "
      "a line for each message, as yaml a document. "
      "Answers go to standard output, everything else to standard error.\n",
      "\n## Exit status\n\n| status | meaning |\n| --- | --- |\n");
  for (const ExitCodeInfo& info : ExitCodes()) {
    absl::StrAppend(&page, "| ", static_cast<int>(info.code), " | ", info.meaning, " |\n");
  }
  absl::StrAppend(&page, "\n## Commands\n");
  for (const Place& place : places) {
    if (place.path.empty() || !SubcommandsOf(*place.app).empty()) continue;
    const std::string positional = Positional(*place.app);
    absl::StrAppend(&page, "\n### leapctl ", place.path, positional.empty() ? "" : " ", positional,
                    "\n", place.app->get_description(), "\n", FlagTable(*place.app));
  }
  return page;
}

CommandResult Version(const Options& options, Terminal& terminal) {
  if (options.output == OutputFormat::kTable) {
    terminal.out << "leapctl " << LEAP_VERSION << "\n";
  } else if (options.output == OutputFormat::kYaml) {
    terminal.out << "version: \"" << LEAP_VERSION << "\"\n";
  } else {
    terminal.out << nlohmann::json{{"version", LEAP_VERSION}}.dump() << "\n";
  }
  return ExitCode::kOk;
}

CommandResult Completion(const Options& options, Terminal& terminal) {
  terminal.out << CompletionScript(options.topic);
  return ExitCode::kOk;
}

CommandResult Docs(const Options& options, Terminal& terminal) {
  terminal.out << (options.topic == "schema" ? JobSpecJsonSchema()
                   : options.topic == "cli"  ? CommandReferenceMarkdown()
                                             : JobSpecReferenceMarkdown());
  return ExitCode::kOk;
}

}  // namespace leap
