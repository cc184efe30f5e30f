// The predictor's state over a change of epoch and in checkpoints: S_t and its anchor, held in
// pieces by the ranks' rings, put together whole, and cut anew.
#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "core/digest.h"
#include "engine/internal/rank_trainer.h"

namespace leap {
namespace {

constexpr size_t kSources = 3;  // Ring::StateSources gives no more

// What ranks tell one another about one source.
enum StateColumn {
  kStateStep,
  kStateLeap,
  kStateHere,
  kOwnBegin,
  kOwnEnd,
  kOwnDigest,
  kNextBegin,
  kNextEnd,
  kNextDigest,
  kStateColumns
};

uint64_t DigestOfPart(const RangeSnapshot& part, const std::vector<float>& anchor,
                      FlatRange range) {
  uint64_t digest = DigestOf(anchor, range);
  for (const std::vector<float>& buffer : part.state)
    digest = 31 * digest + DigestOf(buffer, range);
  return digest;
}

std::span<float> Part(std::vector<float>& whole, FlatRange range) {
  return std::span<float>(whole).subspan(static_cast<size_t>(range.begin),
                                         static_cast<size_t>(range.size()));
}

void Cut(std::vector<std::vector<float>>& state, std::vector<float>& anchor, FlatRange range,
         RangeSnapshot& out) {
  const auto copy = [range](std::vector<float>& whole) {
    const std::span<float> part = Part(whole, range);
    return std::vector<float>(part.begin(), part.end());
  };
  out.weights = copy(anchor);
  for (std::vector<float>& buffer : state) out.state.push_back(copy(buffer));
}

}  // namespace

std::vector<int64_t> RankTrainer::StateRow() const {
  std::vector<int64_t> row(kSources * kStateColumns, -1);
  for (size_t i = 0; i < std::min(kSources, state_sources_.size()); ++i) {
    const StateSource& source = state_sources_[i];
    const RingSnapshot& snapshot = *source.snapshot;
    int64_t* out = row.data() + i * kStateColumns;
    out[kStateStep] = snapshot.position.step;
    out[kStateLeap] = static_cast<int64_t>(source.leap_number);
    out[kStateHere] =
        source.leap_number == 0 && snapshot.position.data_position == position_.data_position;
    out[kOwnBegin] = source.own.begin;
    out[kOwnEnd] = source.own.end;
    out[kOwnDigest] = static_cast<int64_t>(DigestOfPart(snapshot, source.anchor(), source.own));
    out[kNextBegin] = source.next.begin;
    out[kNextEnd] = source.next.end;
    out[kNextDigest] =
        static_cast<int64_t>(DigestOfPart(snapshot.next, source.next_anchor(), source.next));
  }
  return row;
}

// All ranks come to the same plan and carry it out together. `holders`: whose weights the epoch
// goes on from.
absl::Status RankTrainer::SyncPredictorState(const std::vector<size_t>& holders,
                                             std::string* outcome) {
  applied_since_snapshot_ = 0;
  if (stateful_ == nullptr) return absl::OkStatus();
  LEAP_ASSIGN_OR_RETURN(const auto rows, group_->GatherInts(StateRow()));
  std::vector<StateOffer> offers;
  for (size_t rank = 0; rank < rows.size(); ++rank) {
    for (size_t i = 0; i < kSources; ++i) {
      const int64_t* row = rows[rank].data() + i * kStateColumns;
      if (row[kStateStep] < 0) continue;
      StateOffer offer{.rank = static_cast<int>(rank),
                       .source = static_cast<int>(i),
                       .step = row[kStateStep],
                       .leap = static_cast<uint64_t>(row[kStateLeap]),
                       .here = row[kStateHere] == 1,
                       .digest = static_cast<uint64_t>(row[kOwnDigest]),
                       .range = {row[kOwnBegin], row[kOwnEnd]}};
      offers.push_back(offer);
      offer.next = true;
      offer.digest = static_cast<uint64_t>(row[kNextDigest]);
      offer.range = {row[kNextBegin], row[kNextEnd]};
      offers.push_back(offer);
    }
  }
  size_t winner = holders.front();
  for (const size_t rank : holders) {  // one that took the newest snapshot knows most
    if (rows[rank][kStateStep] > rows[winner][kStateStep]) winner = rank;
  }
  StatePlan plan = PlanState(offers, static_cast<int>(winner), size());
  if (!plan.pieces.empty()) {
    *outcome = absl::StrCat("goes on from step ", plan.advance ? position_.step : plan.step);
    return ReceivePredictorState(plan);
  }
  state_sources_.clear();
  if (plan.reason.empty() && position_.step > spec_.leap.warmup_steps) {
    plan.reason = "neither a rank nor a checkpoint holds it";
  }
  if (!plan.reason.empty()) {
    *outcome = absl::StrCat("starts over: ", plan.reason);
    LogWarning("predictor-state-starts-over", {{"step", position_.step}, {"reason", plan.reason}});
  }
  return absl::OkStatus();
}

// The pieces go from who holds them to all, so that each can be cut for any number of ranks; for
// that long, the whole state and its anchor are in memory.
absl::Status RankTrainer::ReceivePredictorState(const StatePlan& plan) {
  const auto n = static_cast<size_t>(size());
  const auto buffers = static_cast<size_t>(stateful_->needs().state_buffers);
  std::vector<std::vector<float>> state(buffers, std::vector<float>(n));
  std::vector<float> anchor(n);
  for (const StateOffer& piece : plan.pieces) {
    if (piece.rank == group_->rank()) {
      const StateSource& source = state_sources_[static_cast<size_t>(piece.source)];
      const RangeSnapshot& part = piece.next ? source.snapshot->next : *source.snapshot;
      std::ranges::copy(piece.next ? source.next_anchor() : source.anchor(),
                        Part(anchor, piece.range).begin());
      for (size_t b = 0; b < buffers; ++b) {
        std::ranges::copy(part.state[b], Part(state[b], piece.range).begin());
      }
    }
    LEAP_RETURN_IF_ERROR(group_->BroadcastFloats(Part(anchor, piece.range), piece.rank));
    for (std::vector<float>& buffer : state) {
      LEAP_RETURN_IF_ERROR(group_->BroadcastFloats(Part(buffer, piece.range), piece.rank));
    }
  }
  auto seed = std::make_shared<RingSnapshot>();
  seed->position = {.step = plan.step, .data_position = -1};
  applied_since_snapshot_ = plan.leap;
  if (plan.advance) {
    std::vector<float> theta(n);
    model_->ReadWeights(whole(), theta);
    stateful_->AdvanceState(anchor, theta, {state.begin(), state.end()});
    anchor = std::move(theta);
    seed->position = position_;
    applied_since_snapshot_ = 0;
  }
  const int rank = group_->rank(), world_size = group_->world_size();
  const FlatRange own = ShardOf(size(), rank, world_size);
  const FlatRange next = NextShardOf(size(), rank, world_size);
  Cut(state, anchor, own, *seed);
  Cut(state, anchor, next, seed->next);
  state_sources_ = {{.snapshot = std::move(seed),
                     .leap_number = applied_since_snapshot_,
                     .own = own,
                     .next = next}};
  LogInfo("predictor-state-goes-on", {{"step", state_sources_[0].snapshot->position.step},
                                      {"pieces", plan.pieces.size()},
                                      {"advanced", plan.advance}});
  return absl::OkStatus();
}

// The state of a checkpoint, as if this rank had held all of it.
void RankTrainer::TakePredictorState(CheckpointData& data, const std::string& path) {
  position_.state_base_step = -1;
  if (stateful_ == nullptr || data.state.empty()) return;
  const auto n = static_cast<size_t>(size());
  const bool fits = data.state.size() == static_cast<size_t>(stateful_->needs().state_buffers) &&
                    data.state_anchor.size() == n &&
                    std::ranges::all_of(data.state, [n](const auto& b) { return b.size() == n; });
  if (!fits) {
    return LogWarning("predictor-state-does-not-fit",
                      {{"path", path}, {"effect", "it is another predictor's; it starts over"}});
  }
  auto snapshot = std::make_shared<RingSnapshot>();
  snapshot->position = {.step = data.position.state_base_step, .data_position = -1};
  snapshot->weights = std::move(data.state_anchor);
  snapshot->state = std::move(data.state);
  snapshot->next.state.resize(snapshot->state.size());
  state_sources_ = {{.snapshot = std::move(snapshot), .own = whole(), .next = {size(), size()}}};
}

// For a checkpoint: the whole state at rank 0, from each rank's shard. All ranks call it at the
// same boundary. It waits for the ring's thread, so that all have the same newest snapshot.
absl::Status RankTrainer::GatherPredictorState() {
  saved_state_ = {};
  if (stateful_ == nullptr) return absl::OkStatus();
  const auto ring = this->ring();
  ring->Drain();
  const std::vector<StateSource> sources = ring->StateSources();
  if (sources.empty()) return absl::OkStatus();  // at all ranks alike
  const StateSource& newest = sources.front();
  std::vector<const std::vector<float>*> buffers = {&newest.anchor()};
  for (const std::vector<float>& buffer : newest.snapshot->state) buffers.push_back(&buffer);
  std::vector<std::vector<float>> all;
  for (const std::vector<float>* buffer : buffers) {
    std::ranges::copy(*buffer, host_.mine.data_ptr<float>());
    LEAP_RETURN_IF_ERROR(group_->Wait(group_->AllGather(host_.all, host_.mine)));
    if (group_->rank() != 0) continue;
    std::vector<float>& out = all.emplace_back();
    out.reserve(static_cast<size_t>(size()));
    for (int r = 0; r < group_->world_size(); ++r) {
      const float* from = host_.all.data_ptr<float>() + r * host_.mine.numel();
      out.insert(out.end(), from, from + ShardOf(size(), r, group_->world_size()).size());
    }
  }
  if (group_->rank() != 0) return absl::OkStatus();
  saved_state_.base_step = newest.snapshot->position.step;
  saved_state_.anchor = std::move(all.front());
  saved_state_.buffers.assign(std::make_move_iterator(all.begin() + 1),
                              std::make_move_iterator(all.end()));
  return absl::OkStatus();
}

}  // namespace leap
