#include "rank/holdings.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"

namespace leap {
namespace {

const std::vector<float>* BufferOf(const RingSnapshot& snapshot, v1::Buffer buffer) {
  const auto state = [&snapshot](size_t i) {
    return i < snapshot.state.size() ? &snapshot.state[i] : nullptr;
  };
  switch (buffer) {
    case v1::BUFFER_WEIGHTS:
      return &snapshot.weights;
    case v1::BUFFER_EXP_AVG:
      return snapshot.exp_avg.empty() ? nullptr : &snapshot.exp_avg;
    case v1::BUFFER_EXP_AVG_SQ:
      return snapshot.exp_avg_sq.empty() ? nullptr : &snapshot.exp_avg_sq;
    case v1::BUFFER_STATE_0:
      return state(0);
    case v1::BUFFER_STATE_1:
      return state(1);
    default:
      return nullptr;
  }
}

}  // namespace

void RankHoldings::SetRing(const std::string& job, uint64_t epoch, std::shared_ptr<Ring> ring) {
  MutexLock lock(&mutex_);
  job_ = job;
  epoch_ = epoch;
  ring_ = std::move(ring);
}

absl::StatusOr<PinnedRange> RankHoldings::Pin(const v1::FetchRequest& request) {
  std::shared_ptr<Ring> ring;
  uint64_t epoch = 0;
  {
    MutexLock lock(&mutex_);
    if (request.job() == job_) ring = ring_;
    epoch = epoch_;
  }
  if (ring != nullptr && request.epoch() != 0 && request.epoch() != epoch) {
    return MakeError(absl::StatusCode::kAborted, ErrorReason::kStaleEpoch,
                     absl::StrCat("asked for epoch ", request.epoch(), ", this rank is in epoch ",
                                  epoch, "; ask the coordinator for the newest snapshot"));
  }
  const auto snapshot = ring == nullptr ? nullptr : ring->Find(request.step());
  const std::vector<float>* buffer =
      snapshot == nullptr ? nullptr : BufferOf(*snapshot, request.buffer());
  if (buffer == nullptr) {
    return MakeError(absl::StatusCode::kNotFound, ErrorReason::kSnapshotNotFound,
                     absl::StrCat(v1::Buffer_Name(request.buffer()), " at step ", request.step(),
                                  " of job '", request.job(), "' is not, or no longer, held here"));
  }
  const FlatRange shard = ring->shard();
  if (request.begin() < shard.begin || request.end() > shard.end ||
      request.begin() > request.end()) {
    return absl::OutOfRangeError(absl::StrCat("asked for [", request.begin(), ", ", request.end(),
                                              "), this rank holds [", shard.begin, ", ", shard.end,
                                              ")"));
  }
  const FlatRange range{request.begin(), request.end()};
  return PinnedRange{
      .range = range,
      .values = std::span<const float>(*buffer).subspan(
          static_cast<size_t>(range.begin - shard.begin), static_cast<size_t>(range.size())),
      .keep_alive = snapshot};
}

std::vector<v1::Holding> RankHoldings::ListHoldings(const std::string& job) {
  std::vector<v1::Holding> holdings;
  std::shared_ptr<Ring> ring;
  uint64_t epoch = 0;
  {
    MutexLock lock(&mutex_);
    if (job == job_) ring = ring_;
    epoch = epoch_;
  }
  if (ring == nullptr) return holdings;
  for (const auto& snapshot : ring->List()) {
    v1::Holding& holding = holdings.emplace_back();
    holding.set_step(snapshot->position.step);
    holding.set_epoch(epoch);
    holding.set_begin(ring->shard().begin);
    holding.set_end(ring->shard().end);
    for (const v1::Buffer buffer : {v1::BUFFER_WEIGHTS, v1::BUFFER_EXP_AVG, v1::BUFFER_EXP_AVG_SQ,
                                    v1::BUFFER_STATE_0, v1::BUFFER_STATE_1}) {
      if (BufferOf(*snapshot, buffer) != nullptr) holding.add_buffers(buffer);
    }
  }
  return holdings;
}

}  // namespace leap
