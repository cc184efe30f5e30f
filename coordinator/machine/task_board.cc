#include "coordinator/machine/task_board.h"

#include <algorithm>
#include <utility>

namespace leap::machine {

const char* TaskKindName(Task::Kind kind) {
  switch (kind) {
    case Task::Kind::kBaseline:
      return "baseline";
    case Task::Kind::kCandidate:
      return "candidate";
    case Task::Kind::kAudit:
      return "audit";
    case Task::Kind::kUnspecified:
      break;
  }
  return "unspecified";
}

void TaskBoard::AddVerifier(absl::string_view agent, uint64_t incarnation,
                            absl::string_view data_address) {
  if (verifiers_.contains(agent)) RemoveVerifier(agent);
  verifiers_[std::string(agent)] = {.agent = std::string(agent),
                                    .incarnation = incarnation,
                                    .data_address = std::string(data_address)};
}

void TaskBoard::RemoveVerifier(absl::string_view agent) {
  const auto found = verifiers_.find(agent);
  if (found == verifiers_.end()) return;
  if (found->second.task != 0) Add(std::move(found->second.item));
  verifiers_.erase(found);
}

Scorer* TaskBoard::Find(absl::string_view agent) {
  const auto found = verifiers_.find(agent);
  return found == verifiers_.end() ? nullptr : &found->second;
}

const Scorer* TaskBoard::Find(absl::string_view agent) const {
  return const_cast<TaskBoard*>(this)->Find(agent);
}

int TaskBoard::busy() const {
  return static_cast<int>(
      std::ranges::count_if(verifiers_, [](const auto& entry) { return entry.second.task != 0; }));
}

void TaskBoard::Add(WorkItem item) {
  // Kinds are numbered in the order in which they are given out.
  const auto place = std::ranges::find_if(
      queue_, [&](const WorkItem& waiting) { return waiting.kind > item.kind; });
  queue_.insert(place, std::move(item));
}

bool TaskBoard::Idle(const std::function<bool(const WorkItem&)>& which) const {
  return std::ranges::none_of(queue_, which) &&
         std::ranges::none_of(verifiers_, [&](const auto& entry) {
           return entry.second.task != 0 && which(entry.second.item);
         });
}

Scorer* TaskBoard::GiveOut(uint64_t id, absl::Time now, absl::Duration deadline,
                           absl::Duration audit_deadline) {
  if (queue_.empty()) return nullptr;
  Scorer* best = nullptr;
  for (auto& [name, scorer] : verifiers_) {
    if (scorer.task != 0) continue;
    if (best == nullptr || scorer.last_base_step > best->last_base_step) best = &scorer;
  }
  if (best == nullptr) return nullptr;
  best->item = std::move(queue_.front());
  queue_.pop_front();
  ++best->item.attempts;
  best->task = id;
  best->given = now;
  best->deadline = now + (best->item.kind == Task::Kind::kAudit ? audit_deadline : deadline);
  return best;
}

std::optional<WorkItem> TaskBoard::Finish(absl::string_view agent, uint64_t task) {
  Scorer* const scorer = Find(agent);
  if (scorer == nullptr || task == 0 || scorer->task != task) return std::nullopt;
  scorer->task = 0;
  return std::move(scorer->item);
}

bool TaskBoard::Retry(WorkItem item, int max_attempts) {
  if (item.attempts >= max_attempts) return false;
  Add(std::move(item));
  return true;
}

std::vector<TaskBoard::Dropped> TaskBoard::Drop(const std::function<bool(const WorkItem&)>& which) {
  std::erase_if(queue_, which);
  std::vector<Dropped> dropped;
  for (auto& [name, scorer] : verifiers_) {
    if (scorer.task == 0 || !which(scorer.item)) continue;
    dropped.push_back({name, scorer.task, std::move(scorer.item)});
    scorer.task = 0;
  }
  return dropped;
}

std::vector<TaskBoard::Dropped> TaskBoard::TakeLate(absl::Time now) {
  std::vector<Dropped> late;
  for (auto& [name, scorer] : verifiers_) {
    if (scorer.task == 0 || now < scorer.deadline) continue;
    late.push_back({name, scorer.task, std::move(scorer.item)});
    scorer.task = 0;
  }
  return late;
}

}  // namespace leap::machine
