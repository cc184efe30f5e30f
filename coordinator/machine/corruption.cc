#include "coordinator/machine/corruption.h"

#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace leap::machine {
namespace {

using Opinions = std::map<int, uint64_t>;  // of one shard: digest by the rank that computed it

bool Agree(const Opinions& opinions, int without) {
  std::optional<uint64_t> first;
  for (const auto& [rank, digest] : opinions) {
    if (rank == without) continue;
    if (first.value_or(digest) != digest) return false;
    first = digest;
  }
  return true;
}

bool AllAgree(const std::map<int, Opinions>& shards, int without) {
  for (const auto& [shard, opinions] : shards) {
    if (!Agree(opinions, without)) return false;
  }
  return true;
}

std::string Ranks(const Opinions& opinions, int without) {
  std::vector<int> ranks;
  for (const auto& [rank, digest] : opinions) {
    if (rank != without) ranks.push_back(rank);
  }
  return absl::StrCat(ranks.size() == 1 ? "rank " : "ranks ", absl::StrJoin(ranks, " and "));
}

}  // namespace

std::optional<Corruption> FindCorruption(const std::map<int, SnapshotTaken>& shards) {
  std::map<int, Opinions> disputed;
  for (const auto& [rank, taken] : shards) {
    disputed[rank].emplace(rank, taken.weights_digest);
    for (const ShardDigest& other : taken.others) {
      if (shards.contains(other.rank)) disputed[other.rank].emplace(rank, other.digest);
    }
  }
  std::erase_if(disputed, [](const auto& shard) { return Agree(shard.second, -1); });
  if (disputed.empty()) return std::nullopt;
  std::set<int> suspects;
  for (const auto& [rank, digest] : disputed.begin()->second) {
    if (AllAgree(disputed, rank)) suspects.insert(rank);
  }
  const auto& [shard, opinions] = *disputed.begin();
  if (suspects.size() != 1) {
    return Corruption{.reason = absl::StrCat(Ranks(opinions, -1), " digest shard ", shard,
                                             " differently, and nobody can tell who is right")};
  }
  const int odd = *suspects.begin();
  return Corruption{.odd_rank = odd,
                    .reason = absl::StrCat("rank ", odd, " digests shard ", shard,
                                           " differently from ", Ranks(opinions, odd))};
}

}  // namespace leap::machine
