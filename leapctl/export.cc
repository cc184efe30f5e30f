// leapctl checkpoint export, leapctl snapshot export.
#include "leapctl/export.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error_reason.h"
#include "base/ids.h"
#include "base/status_macros.h"
#include "core/digest.h"
#include "core/model_config.h"
#include "leapctl/commands.h"
#include "leapctl/safetensors_writer.h"
#include "leapctl/text.h"
#include "service/snapshot_client.h"

namespace leap {
namespace {

namespace fs = std::filesystem;

std::string TextOf(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  if (file) text << file.rdbuf();
  return text.str();
}

// The row of the ledger and who still holds its weights.
absl::StatusOr<v1::Snapshot> FindSnapshot(Client& client, const v1::Job& job, int64_t step) {
  LEAP_ASSIGN_OR_RETURN(v1::ListSnapshotsResponse rows, client.ListSnapshots(job.job()));
  ForgetDroppedSources(job, &rows);
  std::vector<std::string> held;
  for (const v1::Snapshot& row : rows.snapshots()) {
    if (row.step() == step && !row.sources().empty()) return row;
    if (!row.sources().empty()) held.push_back(absl::StrCat(row.step()));
  }
  return MakeError(
      absl::StatusCode::kNotFound, ErrorReason::kSnapshotNotFound,
      absl::StrCat("nobody holds a snapshot of ", job.job(), " at step ", step, "; ",
                   held.empty() ? "none is held now (ranks drop their rings when an epoch ends)"
                                : absl::StrCat("held are steps ", absl::StrJoin(held, ", "))));
}

int64_t SizeOf(const v1::Snapshot& snapshot) {
  int64_t size = 0;
  for (const v1::ShardSource& source : snapshot.sources()) size = std::max(size, source.end());
  return size;
}

// One vector of the snapshot; the weights are checked against the ledger, the others by their
// chunks' checksums alone (the ledger has no digest of them).
absl::StatusOr<std::vector<float>> FetchBuffer(Client& client, const v1::Snapshot& snapshot,
                                               v1::Buffer buffer) {
  std::vector<float> values(static_cast<size_t>(SizeOf(snapshot)));
  SnapshotClient fetcher({.channel = client.channel_options()});
  const std::vector<v1::ShardSource> sources(snapshot.sources().begin(), snapshot.sources().end());
  const absl::Status fetched = fetcher.FetchBuffer({.job = snapshot.job(),
                                                    .epoch = snapshot.epoch(),
                                                    .step = snapshot.step(),
                                                    .buffer = buffer,
                                                    .size = SizeOf(snapshot)},
                                                   sources, values);
  if (absl::IsNotFound(fetched)) {
    return MakeError(absl::StatusCode::kNotFound, ErrorReason::kSnapshotNotFound,
                     absl::StrCat(fetched.message(),
                                  "; rings move on while a job trains: take a newer step, or "
                                  "leapctl pause the job first"));
  }
  LEAP_RETURN_IF_ERROR(fetched);
  const uint64_t digest = DigestOf(values, {0, SizeOf(snapshot)});
  if (buffer != v1::BUFFER_WEIGHTS || digest == snapshot.weights_digest()) return values;
  return MakeError(
      absl::StatusCode::kDataLoss, ErrorReason::kWeightsCorrupt,
      absl::StrCat("the weights fetched have digest ", Hex64(digest), ", the ledger says ",
                   Hex64(snapshot.weights_digest()), "; nothing was written"));
}

}  // namespace

std::optional<WeightLayout> LayoutOfModel(const ModelSpec& model, absl::string_view config_json,
                                          int64_t parameters) {
  const absl::StatusOr<ModelConfig> config = model.preset.empty()
                                                 ? ParseModelConfig(config_json, model.config)
                                                 : PresetModelConfig(model.preset);
  if (!config.ok()) return std::nullopt;
  WeightLayout layout = LayoutOf(*config);
  if (layout.size != parameters) return std::nullopt;
  return layout;
}

WeightLayout FlatLayout(int64_t parameters) {
  return {.tensors = {{.name = "weights", .shape = {parameters}, .offset = 0, .size = parameters}},
          .size = parameters};
}

void ForgetDroppedSources(const v1::Job& job, v1::ListSnapshotsResponse* rows) {
  const absl::StatusOr<JobSpec> spec = ParseJobSpec(job.spec_yaml());
  const bool trains = job.state() == v1::Job::RUNNING || job.state() == v1::Job::PAUSED;
  int64_t held = !trains ? 0 : spec.ok() ? spec->leap.ring_depth : rows->snapshots_size();
  for (int i = rows->snapshots_size(); i-- > 0;) {
    v1::Snapshot* row = rows->mutable_snapshots(i);
    if (row->epoch() == job.epoch() && held > 0) {
      --held;
    } else {
      row->clear_sources();
    }
  }
}

CommandResult SnapshotExport(const Options& options, Terminal& terminal) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  LEAP_ASSIGN_OR_RETURN(const v1::Job job, client->GetJob(options.job));
  LEAP_ASSIGN_OR_RETURN(const v1::Snapshot snapshot, FindSnapshot(*client, job, options.step));
  v1::Buffer buffer = v1::BUFFER_WEIGHTS;  // --buffer is one of its names, in lower case
  (void)v1::Buffer_Parse(absl::StrCat("BUFFER_", absl::AsciiStrToUpper(options.buffer)), &buffer);
  LEAP_ASSIGN_OR_RETURN(const std::vector<float> values, FetchBuffer(*client, snapshot, buffer));
  const int64_t size = static_cast<int64_t>(values.size());
  const absl::StatusOr<JobSpec> spec = ParseJobSpec(job.spec_yaml());
  const std::optional<WeightLayout> named =
      spec.ok() ? LayoutOfModel(spec->model, TextOf(spec->model.config), size) : std::nullopt;
  const std::map<std::string, std::string> metadata = {
      {"format", "pt"},
      {"job", job.job()},
      {"buffer", options.buffer},
      {"step", absl::StrCat(snapshot.step())},
      {"epoch", absl::StrCat(snapshot.epoch())},
      {"data_position", absl::StrCat(snapshot.data_position())},
      {"weights_digest", Hex64(snapshot.weights_digest())},
  };
  LEAP_RETURN_IF_ERROR(WriteSafetensorsFile(options.out, options.force,
                                            named.value_or(FlatLayout(size)), values, metadata));
  Print(options, terminal, snapshot,
        absl::StrCat(options.out, ": ", options.buffer, " of step ", snapshot.step(), ", ",
                     CountText(static_cast<double>(size)), " parameters, digest ",
                     Hex64(DigestOf(values, {0, size})), "\n"));
  if (!named) {
    terminal.err << "the model's config.json is not readable here, so " << options.buffer
                 << " is one tensor in the order of a checkpoint's\n";
  }
  return ExitCode::kOk;
}

CommandResult CheckpointExport(const Options& options, Terminal& terminal) {
  LEAP_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(options));
  LEAP_ASSIGN_OR_RETURN(const v1::Job job, client->GetJob(options.job));
  const std::string& from = job.checkpoint_path();
  std::error_code error;
  if (from.empty()) {
    return MakeError(
        absl::StatusCode::kNotFound, ErrorReason::kCheckpointNotFound,
        absl::StrCat(job.job(),
                     " has no checkpoint yet; spec.checkpoint.every_steps says how often one is "
                     "written, and one is at the end"));
  }
  if (!fs::is_directory(from, error)) {
    return MakeError(
        absl::StatusCode::kNotFound, ErrorReason::kCheckpointNotFound,
        absl::StrCat("the checkpoint of step ", job.checkpoint_step(), " is at ", from,
                     " where the workers are; it cannot be read here, copy it from there"),
        {{"path", from}});
  }
  if (!options.force && fs::exists(options.out, error)) {
    return MakeError(absl::StatusCode::kAlreadyExists, ErrorReason::kConfigInvalid,
                     absl::StrCat(options.out, " is there already; --force writes into it"));
  }
  fs::create_directories(options.out, error);
  if (!error) {
    fs::copy(from, options.out, fs::copy_options::recursive | fs::copy_options::overwrite_existing,
             error);
  }
  if (error) {
    return MakeError(
        absl::StatusCode::kFailedPrecondition, ErrorReason::kDiskFull,
        absl::StrCat("cannot copy ", from, " to ", options.out, ": ", error.message()));
  }
  Print(options, terminal, job,
        absl::StrCat(options.out, ": the checkpoint of step ", job.checkpoint_step(), " of ",
                     job.job(), "\n"));
  return ExitCode::kOk;
}

}  // namespace leap
