#include "engine/group.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "engine/internal/gloo_group.h"
#include "engine/reaper.h"

namespace leap {
namespace {

constexpr int64_t kBroadcastFloats = 4 << 20;  // 16 MiB of staging

// World size 1: nothing to agree on.
class SoloGroup final : public Group {
 public:
  explicit SoloGroup(std::shared_ptr<Interrupt> interrupt)
      : Group(0, 1), interrupt_(std::move(interrupt)) {}

  Ticket AllReduceSum(const at::Tensor&) override { return Ticket(); }
  Ticket AllReduceMin(const at::Tensor&) override { return Ticket(); }
  Ticket Broadcast(const at::Tensor&, int) override { return Ticket(); }
  Ticket AllGather(const at::Tensor& all, const at::Tensor& mine) override {
    std::memcpy(all.data_ptr(), mine.data_ptr(), mine.nbytes());
    return Ticket();
  }
  absl::Status Wait(const Ticket&) override { return interrupt_->status(); }

 private:
  const std::shared_ptr<Interrupt> interrupt_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Group>> Group::Join(const GroupOptions& options,
                                                   std::shared_ptr<Interrupt> interrupt) {
  if (options.rank < 0 || options.rank >= options.world_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", options.rank, " of ", options.world_size, " does not exist"));
  }
  LEAP_RETURN_IF_ERROR(interrupt->status());
  if (options.world_size == 1) return std::make_unique<SoloGroup>(std::move(interrupt));
  return JoinGloo(options, std::move(interrupt));
}

absl::StatusOr<std::vector<std::vector<int64_t>>> Group::GatherInts(std::span<const int64_t> mine) {
  const auto count = static_cast<int64_t>(mine.size());
  const at::Tensor own = at::empty({count}, at::kLong);
  const at::Tensor all = at::empty({count * world_size()}, at::kLong);
  std::ranges::copy(mine, own.data_ptr<int64_t>());
  LEAP_RETURN_IF_ERROR(Wait(AllGather(all, own)));
  std::vector<std::vector<int64_t>> rows;
  for (int rank = 0; rank < world_size(); ++rank) {
    const int64_t* row = all.data_ptr<int64_t>() + rank * count;
    rows.emplace_back(row, row + count);
  }
  return rows;
}

absl::Status Group::BroadcastFloats(std::span<float> values, int source) {
  const auto size = static_cast<int64_t>(values.size());
  for (int64_t begin = 0; begin < size; begin += kBroadcastFloats) {
    const int64_t count = std::min(kBroadcastFloats, size - begin);
    const at::Tensor staging = at::empty({count}, at::kFloat);
    float* chunk = values.data() + begin;
    const size_t bytes = static_cast<size_t>(count) * sizeof(float);
    if (rank() == source) std::memcpy(staging.data_ptr(), chunk, bytes);
    LEAP_RETURN_IF_ERROR(Wait(Broadcast(staging, source)));
    if (rank() != source) std::memcpy(chunk, staging.data_ptr(), bytes);
  }
  return absl::OkStatus();
}

bool DrainGroups(absl::Duration timeout) { return Reaper::Get().Drain(timeout); }

}  // namespace leap
