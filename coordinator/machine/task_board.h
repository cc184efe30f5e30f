// The tasks of one job and the verifiers that do them: one task a verifier at a time, lost ones are
// given out again, late ones too, and a verifier whose results are wrong is out. It knows nothing
// of what a task is for.
//
// A task gets a new id each time it is given out, so that an answer to an earlier giving is stale
// and never counted.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/machine/message.h"
#include "core/planner.h"

namespace leap::machine {

struct WorkItem {
  Task::Kind kind = Task::Kind::kBaseline;
  int64_t base_step = 0;
  CandidateKey candidate;  // kCandidate
  uint64_t leap = 0;       // kAudit: the leap in question
  int attempts = 0;        // times it was given out
};
const char* TaskKindName(Task::Kind kind);  // "baseline" | "candidate" | "audit"

// A verifier of the job.
struct Scorer {
  std::string agent;
  uint64_t incarnation = 0;
  std::string data_address;
  uint64_t task = 0;  // 0: free
  WorkItem item;      // of `task`
  absl::Time given = absl::InfinitePast();
  absl::Time deadline = absl::InfiniteFuture();
  int64_t last_base_step = -1;  // newest it has fetched
  int errors = 0;               // failed tasks in a row
};

class TaskBoard {
 public:
  // Verifiers.
  void AddVerifier(absl::string_view agent, uint64_t incarnation, absl::string_view data_address);
  // What it was doing waits for another one.
  void RemoveVerifier(absl::string_view agent);
  Scorer* Find(absl::string_view agent);
  const Scorer* Find(absl::string_view agent) const;
  const std::map<std::string, Scorer, std::less<>>& verifiers() const { return verifiers_; }
  int size() const { return static_cast<int>(verifiers_.size()); }
  int busy() const;
  int free() const { return size() - busy(); }

  // Work. Order of giving out: baselines, candidates in the order in which they were added, audits.
  void Add(WorkItem item);
  bool Waiting() const { return !queue_.empty(); }
  int waiting() const { return static_cast<int>(queue_.size()); }
  // Nothing waits and nobody works on what `which` picks.
  bool Idle(const std::function<bool(const WorkItem&)>& which) const;

  // Gives the next item to the best free verifier (the one whose newest fetch is newest) under
  // `id`; null if there is no item or nobody is free. The verifier's `item` and `task` are set.
  Scorer* GiveOut(uint64_t id, absl::Time now, absl::Duration deadline,
                  absl::Duration audit_deadline);

  // The verifier's current task if `task` is it: then it is free again. Nothing: stale.
  std::optional<WorkItem> Finish(absl::string_view agent, uint64_t task);
  // Puts an item back unless it was tried `max_attempts` times; false: given up.
  bool Retry(WorkItem item, int max_attempts);

  // Drops items that `which` picks, whether they wait or are being worked on; the verifiers that
  // were at them, to be told. DropWaiting leaves alone what is being worked on.
  struct Dropped {
    std::string agent;
    uint64_t task = 0;
    WorkItem item;
  };
  std::vector<Dropped> Drop(const std::function<bool(const WorkItem&)>& which);
  void DropWaiting(const std::function<bool(const WorkItem&)>& which) {
    std::erase_if(queue_, which);
  }
  // Running tasks whose deadline has passed; their verifiers are free again.
  std::vector<Dropped> TakeLate(absl::Time now);

 private:
  std::map<std::string, Scorer, std::less<>> verifiers_;
  std::deque<WorkItem> queue_;
};

}  // namespace leap::machine
