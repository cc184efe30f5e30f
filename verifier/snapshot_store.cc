#include "verifier/snapshot_store.h"

#include <algorithm>
#include <utility>

namespace leap {

void SnapshotStore::Reset(const std::string& job, int depth) {
  MutexLock lock(&mutex_);
  job_ = job;
  depth_ = std::max(depth, 1);
  snapshots_.clear();
  last_use_.clear();
}

std::optional<HeldSnapshot> SnapshotStore::Find(int64_t step, uint64_t weights_digest) {
  MutexLock lock(&mutex_);
  const auto found = snapshots_.find(step);
  if (found == snapshots_.end() || found->second.weights_digest != weights_digest) return {};
  last_use_[step] = ++uses_;
  return found->second;
}

std::optional<HeldSnapshot> SnapshotStore::FindStep(const std::string& job, int64_t step) const {
  MutexLock lock(&mutex_);
  const auto found = snapshots_.find(step);
  if (job != job_ || found == snapshots_.end()) return {};
  return found->second;
}

void SnapshotStore::Put(HeldSnapshot snapshot) {
  MutexLock lock(&mutex_);
  last_use_[snapshot.step] = ++uses_;
  HeldSnapshot& held = snapshots_[snapshot.step];
  if (held.weights == nullptr || held.weights_digest != snapshot.weights_digest) {
    held = std::move(snapshot);
  } else {
    held.epoch = std::max(held.epoch, snapshot.epoch);
    if (snapshot.exp_avg != nullptr) held.exp_avg = std::move(snapshot.exp_avg);
    if (snapshot.exp_avg_sq != nullptr) held.exp_avg_sq = std::move(snapshot.exp_avg_sq);
    if (!snapshot.state.empty()) held.state = std::move(snapshot.state);
    if (!snapshot.fingerprint.empty()) held.fingerprint = std::move(snapshot.fingerprint);
  }
  EvictBeyondDepth();
}

void SnapshotStore::EvictBeyondDepth() {
  while (snapshots_.size() > static_cast<size_t>(depth_)) {
    const auto oldest =
        std::min_element(last_use_.begin(), last_use_.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    snapshots_.erase(oldest->first);
    last_use_.erase(oldest);
  }
}

void SnapshotStore::DropMomentsExcept(int64_t keep_step) {
  MutexLock lock(&mutex_);
  for (auto& [step, held] : snapshots_) {
    if (step == keep_step) continue;
    held.exp_avg = nullptr;
    held.exp_avg_sq = nullptr;
  }
}

std::vector<HeldSnapshot> SnapshotStore::List(const std::string& job) const {
  MutexLock lock(&mutex_);
  std::vector<HeldSnapshot> out;
  if (job != job_) return out;
  for (const auto& [step, held] : snapshots_) out.push_back(held);
  return out;
}

}  // namespace leap
