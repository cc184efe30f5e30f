#include "engine/path_roots.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "core/job_paths.h"
#include "engine/internal/corpus_files.h"

namespace leap {
namespace {

namespace fs = std::filesystem;

// Where `path` leads: links of the part that exists are followed; the rest is taken as it stands.
std::string Leads(const fs::path& path) {
  std::error_code error;
  const fs::path real = fs::weakly_canonical(path, error);
  return error ? std::string() : real.string();
}

// Of a glob the folder before its first pattern: nothing outside may even be listed.
fs::path Fixed(const std::string& path) {
  const size_t pattern = path.find_first_of("*?[");
  if (pattern == std::string::npos) return path;
  return fs::path(path.substr(0, pattern)).parent_path();
}

class Roots {
 public:
  explicit Roots(const std::vector<std::string>& roots) {
    for (const std::string& root : roots) real_.push_back(Leads(root));
  }

  absl::Status Check(const JobPath& path, const fs::path& looked_at) const {
    const std::string real = Leads(looked_at);
    const auto holds = [&](const std::string& root) { return LiesBelow(real, root); };
    if (absl::StartsWith(path.path, "/") && std::ranges::any_of(real_, holds)) {
      return absl::OkStatus();
    }
    if (real == looked_at || real.empty()) return OutsideRoots(path, "this machine");
    return OutsideRoots({path.field, absl::StrCat(looked_at.string(), " -> ", real)},
                        "this machine");
  }

 private:
  std::vector<std::string> real_;
};

}  // namespace

absl::Status CheckRootsExist(const std::vector<std::string>& roots) {
  for (const std::string& root : roots) {
    std::error_code error;
    if (absl::StartsWith(root, "/") && fs::is_directory(root, error)) continue;
    return MakeError(
        absl::StatusCode::kInvalidArgument, ErrorReason::kConfigInvalid,
        absl::StrCat("--path-root: expected the absolute path of a folder, saw '", root, "'"));
  }
  return absl::OkStatus();
}

absl::Status CheckPathsOnDisk(const JobSpec& spec, const std::vector<std::string>& roots) {
  if (roots.empty()) return absl::OkStatus();
  const Roots allowed(roots);
  for (const JobPath& path : PathsOf(spec)) {
    LEAP_RETURN_IF_ERROR(allowed.Check(path, Fixed(path.path)));
    if (path.field != "spec.data.paths") continue;
    LEAP_ASSIGN_OR_RETURN(const std::vector<TextFile> files, FindFiles({path.path}));
    for (const TextFile& file : files) LEAP_RETURN_IF_ERROR(allowed.Check(path, file.path));
  }
  return absl::OkStatus();
}

}  // namespace leap
