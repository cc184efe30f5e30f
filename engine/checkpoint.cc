#include "engine/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "base/error_reason.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "core/digest.h"
#include "engine/internal/checkpoint_format.h"
#include "engine/internal/checkpoint_io.h"
#include "engine/internal/file_ops.h"
#include "engine/internal/safetensors_parts.h"
#include "engine/safetensors.h"

namespace leap {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kFolderPrefix = "step-";
constexpr int64_t kMaxJsonBytes = 1 << 20;

std::string StateName(size_t index) { return absl::StrCat("state.", index); }
constexpr char kAnchorName[] = "state_anchor";

// 400 for "step-400"; nothing for any other name.
std::optional<int64_t> StepOfFolder(absl::string_view name) {
  int64_t step = 0;
  if (!absl::ConsumePrefix(&name, kFolderPrefix)) return std::nullopt;
  if (!absl::SimpleAtoi(name, &step) || absl::StrCat(step) != name) return std::nullopt;
  return step;
}

bool IsLeftOver(absl::string_view name) {
  const size_t dot = name.find(".tmp-");
  return dot != absl::string_view::npos && StepOfFolder(name.substr(0, dot)).has_value();
}

std::vector<std::string> NamesIn(const std::string& dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  return names;
}

bool IsFile(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

// --- writing -------------------------------------------------------------------------------------

absl::Status CheckSizes(const CheckpointData& data, const WeightLayout& layout) {
  const auto size = static_cast<size_t>(layout.size);
  if (data.weights.size() == size && data.exp_avg.size() == size &&
      data.exp_avg_sq.size() == size) {
    return absl::OkStatus();
  }
  return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kCheckpointMismatch,
                   absl::StrCat("a checkpoint of this model needs ", size,
                                " floats of weights and of each moment, saw ", data.weights.size(),
                                ", ", data.exp_avg.size(), ", ", data.exp_avg_sq.size()));
}

NamedTensor Flat(std::string name, const std::vector<float>& values) {
  return {std::move(name), {static_cast<int64_t>(values.size())}, values};
}

uint64_t DigestOfAll(const std::vector<float>& values) {
  return DigestOf(values, {0, static_cast<int64_t>(values.size())});
}

// Everything that is not in the weights or the moments: predictor state and anchor.
std::vector<NamedTensor> LeapState(const CheckpointData& data) {
  std::vector<NamedTensor> tensors;
  for (size_t i = 0; i < data.state.size(); ++i)
    tensors.push_back(Flat(StateName(i), data.state[i]));
  if (!data.state_anchor.empty()) tensors.push_back(Flat(kAnchorName, data.state_anchor));
  return tensors;
}

CheckpointState StateOf(const CheckpointData& data) {
  CheckpointState state;
  state.position = data.position;
  state.job = data.job;
  state.epoch = data.epoch;
  state.seed = data.seed;
  state.digests["weights"] = DigestOfAll(data.weights);
  state.digests["exp_avg"] = DigestOfAll(data.exp_avg);
  state.digests["exp_avg_sq"] = DigestOfAll(data.exp_avg_sq);
  for (size_t i = 0; i < data.state.size(); ++i) {
    state.digests[StateName(i)] = DigestOfAll(data.state[i]);
    state.state_floats.push_back(static_cast<int64_t>(data.state[i].size()));
  }
  if (!data.state_anchor.empty()) state.digests[kAnchorName] = DigestOfAll(data.state_anchor);
  state.anchor_floats = static_cast<int64_t>(data.state_anchor.size());
  return state;
}

absl::Status WriteFiles(FileOps& ops, const std::string& folder, const CheckpointData& data,
                        const WeightLayout& layout) {
  const auto path = [&folder](const char* name) { return absl::StrCat(folder, "/", name); };
  CheckpointState state = StateOf(data);

  std::vector<NamedTensor> weights;
  for (const TensorSlot& slot : layout.tensors) {
    weights.push_back(
        {slot.name, slot.shape,
         std::span(data.weights)
             .subspan(static_cast<size_t>(slot.offset), static_cast<size_t>(slot.size))});
  }
  // Hugging Face's loader wants to be told which framework's conventions the shapes follow.
  LEAP_ASSIGN_OR_RETURN(state.files[kWeightsFile],
                        WriteTensors(ops, path(kWeightsFile), weights, {{"format", "pt"}}));
  LEAP_ASSIGN_OR_RETURN(state.files[kConfigFile],
                        WriteWholeFile(ops, path(kConfigFile), ModelConfigJson(data.config)));
  const std::vector<NamedTensor> moments = {Flat("exp_avg", data.exp_avg),
                                            Flat("exp_avg_sq", data.exp_avg_sq)};
  LEAP_ASSIGN_OR_RETURN(state.files[kOptimizerFile],
                        WriteTensors(ops, path(kOptimizerFile), moments, {}));
  const std::vector<NamedTensor> leap_state = LeapState(data);
  if (!leap_state.empty()) {
    LEAP_ASSIGN_OR_RETURN(state.files[kLeapStateFile],
                          WriteTensors(ops, path(kLeapStateFile), leap_state, {}));
  }
  LEAP_RETURN_IF_ERROR(WriteWholeFile(ops, path(kStateFile), CheckpointStateJson(state)).status());
  return ops.SyncFolder(folder);
}

// Gives the finished `temporary` its name, also if that is taken by an earlier checkpoint of the
// same step. At every instant the name means a whole checkpoint, the old or the new one; where the
// file system cannot exchange names, the old one is out of sight for the moment between two
// renames.
absl::Status Publish(FileOps& ops, const std::string& temporary, const std::string& final_path) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(final_path, error))) return ops.Rename(temporary, final_path);
  const absl::Status exchanged = ops.Exchange(temporary, final_path);
  if (!absl::IsUnimplemented(exchanged)) return exchanged;
  const std::string aside = absl::StrCat(final_path, ".tmp-", Hex64(NewIncarnation()));
  LEAP_RETURN_IF_ERROR(ops.Rename(final_path, aside));
  const absl::Status renamed = ops.Rename(temporary, final_path);
  if (!renamed.ok()) ops.Rename(aside, final_path).IgnoreError();
  return renamed;
}

// Removes left-overs and what is beyond `keep`.
void Prune(FileOps& ops, const std::string& dir, int64_t written_step, int64_t keep) {
  const auto remove = [&](const std::string& path) {
    const absl::Status status = ops.Remove(path);
    if (!status.ok()) LogWarning("checkpoint_not_removed", {{"path", path}, {"error", status}});
  };
  for (const std::string& name : NamesIn(dir)) {
    if (IsLeftOver(name)) remove(absl::StrCat(dir, "/", name));
  }
  int64_t kept = 0;
  for (const std::string& path : ListCheckpoints(dir)) {
    const int64_t step = StepOfFolder(fs::path(path).filename().string()).value_or(0);
    if (step > written_step) {
      LogWarning("checkpoint_of_later_step", {{"path", path}, {"written_step", written_step}});
    } else if (++kept > std::max<int64_t>(keep, 1)) {
      remove(path);
    }
  }
}

// --- reading -------------------------------------------------------------------------------------

absl::Status Corrupt(const std::string& file, absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, ErrorReason::kCheckpointCorrupt,
                   absl::StrCat(file, ": ", what), {{"file", file}});
}

absl::Status CheckFile(const std::string& path, const FileSummary& expected) {
  const absl::StatusOr<FileSummary> seen = SummarizeFile(path);
  if (absl::IsNotFound(seen.status())) return Corrupt(path, "it is missing");
  LEAP_RETURN_IF_ERROR(seen.status());
  if (seen->bytes != expected.bytes) {
    return Corrupt(path, absl::StrCat("expected ", expected.bytes, " bytes, saw ", seen->bytes));
  }
  if (seen->checksum != expected.checksum) {
    return Corrupt(path, absl::StrCat("expected checksum ", Hex64(expected.checksum), ", saw ",
                                      Hex64(seen->checksum)));
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckpointState> ReadState(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/", kStateFile);
  const absl::StatusOr<std::string> text = ReadWholeFile(path, kMaxJsonBytes);
  if (absl::IsOutOfRange(text.status())) return Corrupt(path, text.status().message());
  LEAP_RETURN_IF_ERROR(text.status());
  const absl::StatusOr<CheckpointState> state = ParseCheckpointState(*text);
  if (absl::IsDataLoss(state.status())) return Corrupt(path, state.status().message());
  if (!state.ok()) return WithContext(state.status(), path);
  for (const char* name : {kWeightsFile, kConfigFile, kOptimizerFile}) {
    if (!state->files.contains(name)) return Corrupt(path, absl::StrCat("it does not list ", name));
  }
  for (const auto& [name, summary] : state->files) {
    if (name.find('/') != std::string::npos) return Corrupt(path, "it lists a file elsewhere");
    LEAP_RETURN_IF_ERROR(CheckFile(absl::StrCat(folder, "/", name), summary));
  }
  return state;
}

WeightLayout FlatLayout(const std::vector<std::pair<std::string, int64_t>>& tensors) {
  WeightLayout layout;
  for (const auto& [name, size] : tensors) {
    layout.tensors.push_back({name, {size}, layout.size, size});
    layout.size += size;
  }
  return layout;
}

// Reads flat tensors into one vector each, and checks each one's digest.
absl::Status ReadFlat(const std::string& file, const CheckpointState& state,
                      const std::vector<std::pair<std::string, int64_t>>& tensors,
                      const std::vector<std::vector<float>*>& out) {
  const WeightLayout layout = FlatLayout(tensors);
  LEAP_ASSIGN_OR_RETURN(const std::vector<float> flat, ReadSafetensors(file, layout, nullptr));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorSlot& slot = layout.tensors[i];
    out[i]->assign(flat.begin() + slot.offset, flat.begin() + slot.offset + slot.size);
    const auto digest = state.digests.find(slot.name);
    if (digest == state.digests.end() || digest->second != DigestOfAll(*out[i])) {
      return Corrupt(file,
                     absl::StrCat("the digest of ", slot.name, " is not the one of state.json"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadLeapState(const std::string& file, const CheckpointState& state,
                           CheckpointData& data) {
  std::vector<std::pair<std::string, int64_t>> tensors;
  std::vector<std::vector<float>*> out;
  data.state.resize(state.state_floats.size());
  for (size_t i = 0; i < data.state.size(); ++i) {
    tensors.emplace_back(StateName(i), state.state_floats[i]);
    out.push_back(&data.state[i]);
  }
  if (state.anchor_floats > 0) {
    tensors.emplace_back(kAnchorName, state.anchor_floats);
    out.push_back(&data.state_anchor);
  }
  return tensors.empty() ? absl::OkStatus() : ReadFlat(file, state, tensors, out);
}

absl::StatusOr<CheckpointData> ReadFolder(const std::string& folder) {
  const auto path = [&folder](const char* name) { return absl::StrCat(folder, "/", name); };
  LEAP_ASSIGN_OR_RETURN(const CheckpointState state, ReadState(folder));
  CheckpointData data;
  data.position = state.position;
  data.job = state.job;
  data.epoch = state.epoch;
  data.seed = state.seed;
  LEAP_ASSIGN_OR_RETURN(const std::string config, ReadWholeFile(path(kConfigFile), kMaxJsonBytes));
  LEAP_ASSIGN_OR_RETURN(data.config, ParseModelConfig(config, path(kConfigFile)));
  const WeightLayout layout = LayoutOf(data.config);
  LEAP_ASSIGN_OR_RETURN(data.weights, ReadSafetensors(path(kWeightsFile), layout, nullptr));
  const auto digest = state.digests.find("weights");
  if (digest == state.digests.end() || digest->second != DigestOfAll(data.weights)) {
    return Corrupt(path(kWeightsFile), "the digest of the weights is not the one of state.json");
  }
  LEAP_RETURN_IF_ERROR(ReadFlat(path(kOptimizerFile), state,
                                {{"exp_avg", layout.size}, {"exp_avg_sq", layout.size}},
                                {&data.exp_avg, &data.exp_avg_sq}));
  LEAP_RETURN_IF_ERROR(ReadLeapState(path(kLeapStateFile), state, data));
  return data;
}

// The newest complete checkpoint beside `path` that is older than it.
std::optional<std::string> OlderThan(const fs::path& path) {
  const std::optional<int64_t> step = StepOfFolder(path.filename().string());
  if (!step) return std::nullopt;
  const std::string parent = path.has_parent_path() ? path.parent_path().string() : ".";
  for (const std::string& other : ListCheckpoints(parent)) {
    if (StepOfFolder(fs::path(other).filename().string()).value_or(0) < *step) return other;
  }
  return std::nullopt;
}

// The same error, with the older checkpoint that can be taken instead.
absl::Status Offering(const absl::Status& status, const std::string& path) {
  const std::optional<std::string> older = OlderThan(path);
  ErrorMetadata metadata = MetadataOf(status);
  if (older) metadata["older"] = *older;
  return MakeError(
      status.code(), ErrorReason::kCheckpointCorrupt,
      absl::StrCat(status.message(), older ? absl::StrCat("; the next older checkpoint is ", *older)
                                           : "; there is no older checkpoint beside it"),
      metadata);
}

// A group that was given up trains on until it hears so; what the next one has written stays.
absl::Status CheckEpoch(const std::string& dir, const CheckpointData& data) {
  for (const std::string& folder : ListCheckpoints(dir)) {
    const auto text = ReadWholeFile(absl::StrCat(folder, "/", kStateFile), kMaxJsonBytes);
    if (!text.ok()) continue;
    const absl::StatusOr<CheckpointState> state = ParseCheckpointState(*text);
    if (!state.ok() || state->job != data.job || state->epoch <= data.epoch) continue;
    return MakeError(
        absl::StatusCode::kFailedPrecondition, ErrorReason::kStaleEpoch,
        absl::StrCat(folder, " is of epoch ", state->epoch, " of ", data.job, ", this one of ",
                     data.epoch, ": another group trains now; this one was given up and ends"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> WriteCheckpointWith(FileOps& ops, const std::string& dir,
                                                const CheckpointData& data, int64_t keep) {
  const WeightLayout layout = LayoutOf(data.config);
  LEAP_RETURN_IF_ERROR(CheckSizes(data, layout));
  LEAP_RETURN_IF_ERROR(CheckEpoch(dir, data));
  const std::string final_path = absl::StrCat(dir, "/", kFolderPrefix, data.position.step);
  const std::string temporary = absl::StrCat(final_path, ".tmp-", Hex64(NewIncarnation()));
  absl::Status status = ops.MakeFolder(temporary);
  if (status.ok()) status = WriteFiles(ops, temporary, data, layout);
  if (status.ok()) status = Publish(ops, temporary, final_path);
  if (status.ok()) status = ops.SyncFolder(dir);
  if (!status.ok()) {
    ops.Remove(temporary).IgnoreError();
    return status;
  }
  Prune(ops, dir, data.position.step, keep);
  return final_path;
}

absl::StatusOr<std::string> WriteCheckpoint(const std::string& dir, const CheckpointData& data,
                                            int64_t keep) {
  return WriteCheckpointWith(RealFileOps(), dir, data, keep);
}

absl::StatusOr<CheckpointData> ReadCheckpoint(const std::string& path) {
  if (!IsFile(absl::StrCat(path, "/", kStateFile))) {
    return MakeError(
        absl::StatusCode::kNotFound, ErrorReason::kCheckpointNotFound,
        absl::StrCat("there is no checkpoint at ", path, ": expected a folder with ", kStateFile),
        {{"path", path}});
  }
  absl::StatusOr<CheckpointData> data = ReadFolder(path);
  if (absl::IsDataLoss(data.status())) return Offering(data.status(), path);
  return data;
}

absl::Status RemoveCheckpointsAfter(const std::string& dir, int64_t step) {
  for (const std::string& path : ListCheckpoints(dir)) {
    if (StepOfFolder(fs::path(path).filename().string()).value_or(0) <= step) continue;
    LEAP_RETURN_IF_ERROR(RealFileOps().Remove(path));
  }
  return absl::OkStatus();
}

std::vector<std::string> ListCheckpoints(const std::string& dir) {
  std::vector<std::pair<int64_t, std::string>> found;
  for (const std::string& name : NamesIn(dir)) {
    const std::optional<int64_t> step = StepOfFolder(name);
    const std::string path = absl::StrCat(dir, "/", name);
    const auto has = [&path](const char* file) { return IsFile(absl::StrCat(path, "/", file)); };
    if (step && has(kStateFile) && has(kWeightsFile) && has(kConfigFile) && has(kOptimizerFile)) {
      found.emplace_back(*step, path);
    }
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<std::string> paths;
  for (auto& [step, path] : found) paths.push_back(std::move(path));
  return paths;
}

}  // namespace leap
