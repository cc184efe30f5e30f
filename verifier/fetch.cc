#include "verifier/fetch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/ids.h"
#include "base/status_macros.h"
#include "core/digest.h"

namespace leap {
namespace {

// Longest wait for one buffer when the task has no deadline of its own.
constexpr absl::Duration kLongestFetch = absl::Minutes(2);

// Verifiers (rank below 0), rotated by `spread`, before main workers; or main workers alone.
std::vector<v1::ShardSource> InOrder(std::span<const v1::ShardSource> sources, uint64_t spread,
                                     bool with_verifiers) {
  std::vector<v1::ShardSource> workers, verifiers;
  for (const v1::ShardSource& source : sources) {
    (source.rank() < 0 ? verifiers : workers).push_back(source);
  }
  if (!with_verifiers || verifiers.empty()) return workers;
  std::rotate(verifiers.begin(), verifiers.begin() + static_cast<long>(spread % verifiers.size()),
              verifiers.end());
  verifiers.insert(verifiers.end(), workers.begin(), workers.end());
  return verifiers;
}

bool HasVerifiers(std::span<const v1::ShardSource> sources) {
  return std::any_of(sources.begin(), sources.end(),
                     [](const v1::ShardSource& source) { return source.rank() < 0; });
}

}  // namespace

absl::StatusOr<std::vector<float>> FetchWhole(BufferRequest request, std::optional<uint64_t> digest,
                                              std::span<const v1::ShardSource> sources,
                                              uint64_t spread, const BufferFetcher& fetch,
                                              const TaskControl& control) {
  std::vector<float> out(static_cast<size_t>(request.size));
  request.cancelled = control.cancelled();
  uint64_t seen = 0;
  // What cannot be checked comes from main workers alone.
  for (bool with_verifiers = digest.has_value() && HasVerifiers(sources);; with_verifiers = false) {
    LEAP_RETURN_IF_ERROR(control.Check());
    request.timeout = std::min(control.Left(), kLongestFetch);
    const std::vector<v1::ShardSource> order = InOrder(sources, spread, with_verifiers);
    const absl::Status status = fetch(request, order, std::span<float>(out));
    LEAP_RETURN_IF_ERROR(control.Check());  // the task's own end says more than the fetch's
    if (status.ok()) {
      if (!digest.has_value()) return out;
      seen = DigestOf(out, FlatRange{0, request.size});
      if (seen == *digest) return out;
    } else if (!with_verifiers) {
      return status;
    }
    if (!with_verifiers) break;
  }
  return MakeError(absl::StatusCode::kDataLoss, ErrorReason::kDigestMismatch,
                   absl::StrCat(v1::Buffer_Name(request.buffer), " at step ", request.step,
                                " from the main workers has digest ", Hex64(seen), ", expected ",
                                Hex64(*digest)));
}

}  // namespace leap
