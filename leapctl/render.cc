#include "leapctl/render.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/error_reason.h"
#include "base/nearest.h"
#include "google/protobuf/util/json_util.h"
#include "leapctl/text.h"

namespace leap {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kStateWidth = 60;  // a reason may be long; json has all of it
constexpr absl::string_view kFormats[] = {"table", "json", "yaml", "jsonl"};

std::string ToJson(const google::protobuf::Message& message, bool spacious) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = spacious;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
  if (!status.ok()) return absl::StrCat("{\"error\": \"", status.ToString(), "\"}\n");
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text + "\n";
}

// The list that a List...Response holds; nullptr if the message is none.
const google::protobuf::FieldDescriptor* ListField(const google::protobuf::Message& message) {
  const google::protobuf::Descriptor& type = *message.GetDescriptor();
  if (!absl::StartsWith(type.name(), "List") || !absl::EndsWith(type.name(), "Response")) {
    return nullptr;
  }
  for (int i = 0; i < type.field_count(); ++i) {
    const auto* field = type.field(i);
    if (field->is_repeated() && field->message_type() != nullptr) return field;
  }
  return nullptr;
}

std::string ToJsonLines(const google::protobuf::Message& message) {
  const auto* field = ListField(message);
  if (field == nullptr) return ToJson(message, false);
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::string lines;
  for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
    absl::StrAppend(&lines, ToJson(reflection.GetRepeatedMessage(message, field, i), false));
  }
  return lines;
}

// JSON scalars are YAML scalars; long texts with line breaks become blocks.
void AppendYaml(const Json& value, int indent, std::string& out);

void AppendYamlText(const std::string& text, int indent, std::string& out) {
  const bool block = text.find('\n') != std::string::npos && text.back() == '\n' &&
                     text.front() != ' ' && text.front() != '\n' &&
                     Clean(text).find('?') == text.npos;
  if (!block) {
    absl::StrAppend(&out, " ", Json(text).dump(), "\n");
    return;
  }
  absl::StrAppend(&out, " |\n");
  for (absl::string_view line :
       absl::StrSplit(absl::string_view(text).substr(0, text.size() - 1), '\n')) {
    absl::StrAppend(&out, line.empty() ? "" : std::string(indent, ' '), line, "\n");
  }
  while (absl::EndsWith(out, "\n\n")) out.pop_back();
}

void AppendYamlValue(const Json& value, int indent, std::string& out) {
  if ((value.is_object() || value.is_array()) && !value.empty()) {
    out += '\n';
    AppendYaml(value, indent, out);
  } else if (value.is_string()) {
    AppendYamlText(value.get<std::string>(), indent, out);
  } else {
    absl::StrAppend(&out, " ", value.dump(), "\n");
  }
}

void AppendYaml(const Json& value, int indent, std::string& out) {
  const std::string space(indent, ' ');
  if (value.is_array()) {
    for (const Json& item : value) {
      std::string inner;
      AppendYamlValue(item, indent + 2, inner);
      // The first key of an item stands beside its dash.
      if (!inner.empty() && inner.front() == '\n')
        inner = absl::StrCat(" ", inner.substr(indent + 3));
      absl::StrAppend(&out, space, "-", inner);
    }
    return;
  }
  for (const auto& [key, item] : value.items()) {
    absl::StrAppend(&out, space, key, ":");
    AppendYamlValue(item, indent + 2, out);
  }
}

std::string Words(absl::string_view name) {
  return absl::StrReplaceAll(absl::AsciiStrToLower(name), {{"_", " "}});
}

std::string RegimeText(absl::string_view regime, bool confirmed) {
  return regime.empty() ? "" : absl::StrCat(regime, confirmed ? "*" : "");
}

std::string SignedLoss(double difference) {
  return std::isfinite(difference) ? absl::StrFormat("%+.4f", difference) : "-";
}

std::string PauseText(double seconds) {
  return seconds > 0 ? absl::StrFormat("%.1f ms", 1e3 * seconds) : "-";
}

}  // namespace

absl::StatusOr<OutputFormat> ParseOutputFormat(absl::string_view text) {
  for (size_t i = 0; i < std::size(kFormats); ++i) {
    if (text == kFormats[i]) return static_cast<OutputFormat>(i);
  }
  return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kConfigInvalid,
                   absl::StrCat("--output: expected one of table, json, yaml, jsonl, saw '", text,
                                "'", DidYouMean(text, kFormats)));
}

std::string RenderMessage(const google::protobuf::Message& message, OutputFormat format) {
  if (format == OutputFormat::kJsonl) return ToJsonLines(message);
  if (format == OutputFormat::kJson) return ToJson(message, true);
  std::string yaml;
  AppendYaml(Json::parse(ToJson(message, false), nullptr, /*allow_exceptions=*/false), 0, yaml);
  return yaml.empty() ? "{}\n" : yaml;
}

std::string JobsTable(const v1::ListJobsResponse& jobs, absl::Time now) {
  if (jobs.jobs().empty()) return "no jobs; leapctl submit JOB.yaml queues one\n";
  Table table({"JOB", "STATE", ">STEP", ">OF", ">LOSS", "REGIME", ">LEAPS", "AGE"});
  for (const v1::Job& job : jobs.jobs()) {
    table.Add({job.job(), StateWord(job.state()), absl::StrCat(job.progress().step()),
               absl::StrCat(job.progress().steps()), LossText(job.progress().train_loss()),
               RegimeText(job.progress().regime(), job.progress().regime_confirmed()),
               absl::StrCat(job.leaps().committed()), AgeText(job.create_time(), now)});
  }
  return table.ToString();
}

std::string SnapshotsTable(const v1::ListSnapshotsResponse& snapshots) {
  if (snapshots.snapshots().empty()) return "no snapshot was taken yet\n";
  Table table({">STEP", ">EPOCH", "REGIME", ">SIMILARITY", ">GATE LOSS", ">REPORT LOSS", "DIGEST",
               "HELD BY"});
  for (const v1::Snapshot& snapshot : snapshots.snapshots()) {
    const std::string holders = snapshot.sources().empty()
                                    ? "no longer held"
                                    : absl::StrCat(snapshot.sources_size(), " shards");
    table.Add({absl::StrCat(snapshot.step()), absl::StrCat(snapshot.epoch()),
               RegimeText(snapshot.regime(), snapshot.regime_confirmed()),
               SimilarityText(snapshot.similarity()), LossText(snapshot.gate_loss()),
               LossText(snapshot.report_loss()),
               absl::StrFormat("%016x", snapshot.weights_digest()), holders});
  }
  return table.ToString();
}

std::string CandidatesTable(const v1::ListCandidatesResponse& candidates) {
  if (candidates.candidates().empty()) return "no candidate was tried yet\n";
  Table table({">STEP", "PREDICTOR", ">K", "REGIME", ">LOSS", ">BASELINE", ">DIFFERENCE", "VERDICT",
               "VERIFIER", "WHY"});
  for (const v1::Candidate& candidate : candidates.candidates()) {
    table.Add({absl::StrCat(candidate.base_step()), candidate.predictor(),
               absl::StrCat(candidate.horizon_steps()), candidate.regime(),
               LossText(candidate.loss()), LossText(candidate.baseline_loss()),
               SignedLoss(candidate.difference()),
               candidate.accepted() ? "accepted" : candidate.reason(), candidate.verifier(),
               candidate.sentence()});
  }
  return table.ToString();
}

std::string LeapsTable(const v1::ListLeapsResponse& leaps) {
  if (leaps.leaps().empty()) return "no leap was decided yet\n";
  Table table({">LEAP", ">FROM", ">AT", "PREDICTOR", ">K", "RULE", "STATE", ">PAUSE", ">BOOKED",
               ">NET", ">EQUIVALENT", ">PROMISED", ">RETAINED"});
  for (const v1::Leap& leap : leaps.leaps()) {
    const bool applied = leap.state() == v1::Leap::APPLIED || leap.state() == v1::Leap::ROLLED_BACK;
    const auto when = [&](std::string text) { return applied ? text : std::string("-"); };
    table.Add({absl::StrCat(leap.leap()), absl::StrCat(leap.base_step()),
               when(absl::StrCat(leap.boundary_step())), leap.predictor(),
               absl::StrCat(leap.horizon_steps()), leap.commit_rule(), StateWord(leap.state()),
               when(PauseText(leap.pause_seconds())), when(StepsText(leap.booked_steps())),
               when(StepsText(leap.net_steps())),
               when(leap.equivalent_known() ? StepsText(leap.equivalent_steps()) : "unknown"),
               SignedLoss(leap.promised_difference()),
               when(leap.retained_known() ? SignedLoss(leap.retained_gain()) : "not audited")});
  }
  return table.ToString();
}

std::string EventsTable(const v1::ListEventsResponse& events) {
  if (events.events().empty()) return "no events yet\n";
  Table table({">#", "TIME", ">EPOCH", ">STEP", "KIND", "WHAT HAPPENED"});
  for (const v1::Event& event : events.events()) {
    table.Add({absl::StrCat(event.sequence()), ClockText(event.create_time()),
               absl::StrCat(event.epoch()), absl::StrCat(event.step()), event.kind(),
               event.sentence()});
  }
  return table.ToString();
}

std::string AgentsTable(const v1::ListAgentsResponse& agents, absl::Time now) {
  if (agents.agents().empty()) {
    return "no worker or verifier is known; start leap-worker and leap-verifier with "
           "--coordinator\n";
  }
  Table table({"AGENT", "ROLE", "STATE", "JOB", "ADDRESS", "VERSION", "HEARD OF"});
  for (const v1::Agent& agent : agents.agents()) {
    table.Add({agent.agent(), RoleWord(agent.role()), Cut(agent.state(), kStateWidth), agent.job(),
               agent.data_address(), agent.version(), AgeText(agent.heartbeat_time(), now)});
  }
  return table.ToString();
}

std::string StateWord(v1::Job::State state) {
  return state == v1::Job::STATE_UNSPECIFIED ? "unknown" : Words(v1::Job::State_Name(state));
}

std::string StateWord(v1::Leap::State state) {
  return state == v1::Leap::STATE_UNSPECIFIED ? "unknown" : Words(v1::Leap::State_Name(state));
}

std::string RoleWord(v1::Role role) {
  return role == v1::ROLE_WORKER ? "worker" : role == v1::ROLE_VERIFIER ? "verifier" : "unknown";
}

}  // namespace leap
