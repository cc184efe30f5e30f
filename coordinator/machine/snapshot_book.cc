#include "coordinator/machine/snapshot_book.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

namespace leap::machine {
namespace {

// Shards of all ranks, in order of rank, made into one row; `problem` if they do not fit.
SnapshotRecord Assemble(const std::map<int, SnapshotTaken>& shards, const Group& group,
                        absl::string_view job, absl::Time now, std::string& problem) {
  const SnapshotTaken& first = shards.begin()->second;
  SnapshotRecord record{.job = std::string(job),
                        .epoch = group.epoch(),
                        .step = first.step,
                        .data_position = first.data_position,
                        .adam_step = first.adam_step,
                        .state_digests = std::vector<uint64_t>(first.state_digests.size()),
                        .has_moments = true,
                        .applied_leap = first.applied_leap,
                        .create_time = now};
  int64_t end = 0;
  for (const auto& [rank, shard] : shards) {
    const bool fits = shard.begin == end && shard.end >= shard.begin &&
                      shard.data_position == first.data_position &&
                      shard.adam_step == first.adam_step &&
                      shard.applied_leap == first.applied_leap &&
                      shard.state_digests.size() == first.state_digests.size();
    if (!fits) {
      problem = absl::StrFormat(
          "shard of rank %d at step %d does not fit rank 0's: floats [%d, %d) after %d, data "
          "position %d against %d, "
          "leap %d against %d",
          rank, first.step, shard.begin, shard.end, end, shard.data_position, first.data_position,
          shard.applied_leap, first.applied_leap);
      return record;
    }
    end = shard.end;
    record.weights_digest += shard.weights_digest;
    for (size_t i = 0; i < shard.state_digests.size(); ++i) {
      record.state_digests[i] += shard.state_digests[i];
    }
    record.has_moments = record.has_moments && shard.has_moments;
    record.shards.push_back({rank, shard.begin, shard.end, group.members()[rank].data_address});
  }
  return record;
}

}  // namespace

ShardAdded SnapshotBook::Add(const SnapshotTaken& shard, const Group& group, absl::string_view job,
                             absl::Time now) {
  if (!held_.empty() && shard.step <= held_.back().record.step) return {};
  Partial& partial = partial_[shard.step];
  if (partial.shards.empty()) partial.since = now;
  partial.shards.insert_or_assign(shard.rank, shard);
  if (static_cast<int>(partial.shards.size()) < group.world_size()) {
    if (static_cast<int64_t>(partial_.size()) > depth_) partial_.erase(partial_.begin());
    return {};
  }
  ShardAdded added;
  SnapshotRecord record = Assemble(partial.shards, group, job, now, added.problem);
  if (added.problem.empty()) added.corruption = FindCorruption(partial.shards);
  partial_.erase(partial_.begin(), partial_.upper_bound(shard.step));
  if (!added.problem.empty()) return added;
  held_.push_back({.record = std::move(record)});
  if (static_cast<int64_t>(held_.size()) > depth_) held_.pop_front();
  added.complete = &held_.back();
  return added;
}

std::optional<SnapshotBook::Incomplete> SnapshotBook::NewestIncomplete(int world_size) const {
  if (partial_.empty()) return std::nullopt;
  const auto& [step, partial] = *partial_.rbegin();
  Incomplete incomplete{.step = step, .since = partial.since};
  for (int rank = 0; rank < world_size; ++rank) {
    if (!partial.shards.contains(rank)) incomplete.missing.push_back(rank);
  }
  return incomplete;
}

HeldSnapshot* SnapshotBook::Find(int64_t step) {
  const auto found = std::ranges::find_if(
      held_, [&](const HeldSnapshot& held) { return held.record.step == step; });
  return found == held_.end() ? nullptr : &*found;
}

int SnapshotBook::Consecutive() const {
  int count = held_.empty() ? 0 : 1;
  for (size_t i = held_.size(); i-- > 1; ++count) {
    if (held_[i].record.data_position - held_[i - 1].record.data_position != interval_) break;
  }
  return count;
}

SnapshotRef SnapshotBook::RefOf(const HeldSnapshot& held) {
  SnapshotRef ref{.step = held.record.step,
                  .weights_digest = held.record.weights_digest,
                  .state_digests = held.record.state_digests,
                  .has_moments = held.record.has_moments};
  for (const SnapshotShard& shard : held.record.shards) {
    ref.sources.push_back({shard.data_address, shard.begin, shard.end, shard.rank});
  }
  ref.sources.insert(ref.sources.end(), held.verifiers.begin(), held.verifiers.end());
  return ref;
}

std::vector<SnapshotRef> SnapshotBook::Refs(int64_t step, int count) const {
  std::vector<SnapshotRef> refs;
  for (auto held = held_.rbegin(); held != held_.rend(); ++held) {
    if (held->record.step > step) continue;
    refs.push_back(RefOf(*held));
    if (static_cast<int>(refs.size()) == count) break;
  }
  return refs;
}

void SnapshotBook::AddHolder(int64_t step, absl::string_view data_address) {
  HeldSnapshot* const held = Find(step);
  if (held == nullptr || data_address.empty() || held->record.shards.empty()) return;
  const bool known = std::ranges::any_of(held->verifiers, [&](const ShardSource& source) {
    return source.data_address == data_address;
  });
  if (known) return;
  held->verifiers.push_back({std::string(data_address), 0, held->record.shards.back().end, -1});
}

void SnapshotBook::RemoveHolder(absl::string_view data_address) {
  for (HeldSnapshot& held : held_) {
    std::erase_if(held.verifiers,
                  [&](const ShardSource& source) { return source.data_address == data_address; });
  }
}

void SnapshotBook::Clear() {
  partial_.clear();
  held_.clear();
}

void SnapshotBook::Restore(std::vector<SnapshotRecord> records) {
  Clear();
  for (SnapshotRecord& record : records) {
    held_.push_back({.record = std::move(record)});
    if (static_cast<int64_t>(held_.size()) > depth_) held_.pop_front();
  }
}

}  // namespace leap::machine
