#include "core/job_paths.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/error_reason.h"
#include "base/status_macros.h"

namespace leap {
namespace {

std::vector<absl::string_view> ComponentsOf(absl::string_view path) {
  std::vector<absl::string_view> parts = absl::StrSplit(path, '/', absl::SkipEmpty());
  std::erase(parts, ".");
  return parts;
}

}  // namespace

std::vector<JobPath> PathsOf(const JobSpec& spec) {
  std::vector<JobPath> paths;
  const auto add = [&paths](absl::string_view field, const std::string& path) {
    if (!path.empty()) paths.push_back({std::string(field), path});
  };
  add("spec.model.config", spec.model.config);
  add("spec.model.init", spec.model.init);
  for (const std::string& path : spec.data.paths) add("spec.data.paths", path);
  add("spec.data.cache_dir", spec.data.cache_dir);
  add("spec.checkpoint.dir", spec.checkpoint.dir);
  if (spec.checkpoint.resume != "auto" && spec.checkpoint.resume != "never") {
    add("spec.checkpoint.resume", spec.checkpoint.resume);
  }
  return paths;
}

bool LiesBelow(absl::string_view path, absl::string_view root) {
  if (!absl::StartsWith(path, "/") || !absl::StartsWith(root, "/")) return false;
  const std::vector<absl::string_view> parts = ComponentsOf(path), above = ComponentsOf(root);
  if (std::ranges::count(parts, "..") > 0 || parts.size() < above.size()) return false;
  return std::equal(above.begin(), above.end(), parts.begin());
}

absl::Status OutsideRoots(const JobPath& path, absl::string_view whose) {
  return MakeError(
      absl::StatusCode::kInvalidArgument, ErrorReason::kJobSpecInvalid,
      absl::StrCat(path.field, ": '", path.path, "' lies outside the folders that ", whose,
                   " allows; use a path below one that its operator named with "
                   "--path-root"),
      {{"path", path.path}});
}

absl::Status CheckPathNames(const JobSpec& spec, const std::vector<std::string>& roots) {
  if (roots.empty()) return absl::OkStatus();
  for (const JobPath& path : PathsOf(spec)) {
    const bool inside = std::ranges::any_of(
        roots, [&](const std::string& root) { return LiesBelow(path.path, root); });
    if (!inside) return OutsideRoots(path, "this coordinator");
  }
  return absl::OkStatus();
}

std::string CheckpointPathProblem(const JobSpec& spec, absl::string_view job, int64_t step,
                                  absl::string_view path) {
  const std::string& dir = spec.checkpoint.dir;
  const std::string expected = dir.empty() ? absl::StrCat("/checkpoints/", job, "/step-", step)
                                           : absl::StrCat(dir, "/step-", step);
  const bool fits = dir.empty() ? absl::EndsWith(path, expected) : path == expected;
  const std::vector<absl::string_view> parts = ComponentsOf(path);
  if (fits && (!dir.empty() || std::ranges::count(parts, "..") == 0)) return "";
  return absl::StrCat("expected the checkpoint at step ", step, " in ",
                      dir.empty() ? "a folder that ends with " : "", expected, ", saw '",
                      path.substr(0, 200), "'");
}

}  // namespace leap
