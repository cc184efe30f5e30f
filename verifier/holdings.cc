#include "verifier/holdings.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"

namespace leap {
namespace {

Floats BufferOf(const HeldSnapshot& held, const v1::FetchRequest& request) {
  const auto state = [&held](size_t index) -> Floats {
    return index < held.state.size() ? held.state[index] : nullptr;
  };
  switch (request.buffer()) {
    case v1::BUFFER_WEIGHTS:
      return held.weights;
    case v1::BUFFER_EXP_AVG:
      return held.epoch == request.epoch() ? held.exp_avg : nullptr;
    case v1::BUFFER_EXP_AVG_SQ:
      return held.epoch == request.epoch() ? held.exp_avg_sq : nullptr;
    case v1::BUFFER_STATE_0:
      return state(0);
    case v1::BUFFER_STATE_1:
      return state(1);
    default:
      return nullptr;
  }
}

}  // namespace

absl::StatusOr<PinnedRange> Holdings::Pin(const v1::FetchRequest& request) {
  const std::optional<HeldSnapshot> held = store_->FindStep(request.job(), request.step());
  const Floats buffer = held.has_value() ? BufferOf(*held, request) : nullptr;
  if (buffer == nullptr) {
    return MakeError(absl::StatusCode::kNotFound, ErrorReason::kSnapshotNotFound,
                     absl::StrCat(v1::Buffer_Name(request.buffer()), " at step ", request.step(),
                                  " of job '", request.job(), "' is not held here"));
  }
  const int64_t size = static_cast<int64_t>(buffer->size());
  if (request.begin() < 0 || request.begin() > request.end() || request.end() > size) {
    return absl::OutOfRangeError(absl::StrCat("asked for [", request.begin(), ", ", request.end(),
                                              "), this holder has [0, ", size, ")"));
  }
  const FlatRange range{request.begin(), request.end()};
  return PinnedRange{.range = range,
                     .values = std::span<const float>(*buffer).subspan(
                         static_cast<size_t>(range.begin), static_cast<size_t>(range.size())),
                     .keep_alive = buffer};
}

std::vector<v1::Holding> Holdings::ListHoldings(const std::string& job) {
  std::vector<v1::Holding> holdings;
  for (const HeldSnapshot& held : store_->List(job)) {
    v1::Holding& holding = holdings.emplace_back();
    holding.set_step(held.step);
    holding.set_epoch(held.epoch);
    holding.set_begin(0);
    holding.set_end(static_cast<int64_t>(held.weights->size()));
    holding.add_buffers(v1::BUFFER_WEIGHTS);
    if (held.exp_avg != nullptr) holding.add_buffers(v1::BUFFER_EXP_AVG);
    if (held.exp_avg_sq != nullptr) holding.add_buffers(v1::BUFFER_EXP_AVG_SQ);
    for (size_t i = 0; i < held.state.size(); ++i) {
      holding.add_buffers(static_cast<v1::Buffer>(v1::BUFFER_STATE_0 + static_cast<int>(i)));
    }
  }
  return holdings;
}

}  // namespace leap
