// What the coordinator answered, as text for people (tables) or for programs (json, yaml, jsonl).
// Pure: proto in, text out; `now` is given, for ages. Programs read the proto's JSON with the field
// names of the .proto files, every field present; 64-bit numbers are strings there, as proto's JSON
// has it. json and yaml are one document, jsonl one line per item of a list.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/protobuf/message.h"
#include "leap/v1/job.pb.h"

namespace leap {

enum class OutputFormat { kTable, kJson, kYaml, kJsonl };

// "table", "json", "yaml" or "jsonl".
absl::StatusOr<OutputFormat> ParseOutputFormat(absl::string_view text);

// `message` for programs; `format` is not kTable. A message with one repeated message field is a
// list: jsonl gives its items.
std::string RenderMessage(const google::protobuf::Message& message, OutputFormat format);

// Tables; with no row, a sentence that says so.
std::string JobsTable(const v1::ListJobsResponse& jobs, absl::Time now);
std::string SnapshotsTable(const v1::ListSnapshotsResponse& snapshots);
std::string CandidatesTable(const v1::ListCandidatesResponse& candidates);
std::string LeapsTable(const v1::ListLeapsResponse& leaps);
std::string EventsTable(const v1::ListEventsResponse& events);
std::string AgentsTable(const v1::ListAgentsResponse& agents, absl::Time now);

// "queued", "rolled back": an enumeration's word as people read it.
std::string StateWord(v1::Job::State state);
std::string StateWord(v1::Leap::State state);
std::string RoleWord(v1::Role role);

}  // namespace leap
