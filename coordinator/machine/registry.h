// The agents that the coordinator knows: who they are, whether they are here, and which job has
// them. Values and look-ups only; what a loss means is decided by the jobs (membership.h,
// task_board.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/machine/message.h"
#include "coordinator/machine/view.h"

namespace leap::machine {

enum class Use {
  kIdle,
  kAssigned,   // to `job`, as a rank or as a verifier
  kReleasing,  // told to drop `job`; idle once it says that it has
};

struct Agent {
  std::string name;
  uint64_t incarnation = 0;
  std::string caller;  // who holds the name (Hello); empty: not known
  Role role = Role::kUnspecified;
  std::string data_address;
  std::string store_address;
  std::string version;

  uint64_t session = 0;                         // 0: none open
  absl::Time heartbeat = absl::InfinitePast();  // last sign of life; later by what the coordinator
                                                // has stood still since
  absl::Time closed = absl::InfinitePast();     // when its last session closed; session == 0
  bool closed_early = false;  // it closed while the lease was fresh: its machine said so
  bool left = false;          // said Goodbye

  Use use = Use::kIdle;
  std::string job;
  double busy_seconds = 0;  // last reported for `job`
  std::string quarantine;   // why; empty: none

  bool Connected() const { return session != 0; }
  bool Fresh(absl::Time now, absl::Duration lease) const { return now - heartbeat < lease; }
};

class AgentRegistry {
 public:
  Agent* Find(absl::string_view name);
  const Agent* Find(absl::string_view name) const;
  // Null if another process has the name now.
  Agent* Find(absl::string_view name, uint64_t incarnation);
  const Agent* Find(absl::string_view name, uint64_t incarnation) const;

  // The entry of `name`, made if there is none.
  Agent& Entry(absl::string_view name) { return agents_[std::string(name)]; }
  size_t size() const { return agents_.size(); }

  // Connected, fresh, idle, not in quarantine; in order of name. Workers need a store address;
  // verifiers too if `with_store`.
  std::vector<Agent*> Idle(Role role, absl::Time now, absl::Duration lease, bool with_store);

  // Forgets agents without a job that have been gone since before `horizon`.
  void Forget(absl::Time horizon);

  // Nobody could be heard for so long.
  void StoodStill(absl::Duration gap);

  std::vector<AgentView> Views(absl::Time now, absl::Duration lease) const;

  const std::map<std::string, Agent, std::less<>>& agents() const { return agents_; }
  std::map<std::string, Agent, std::less<>>& agents() { return agents_; }

 private:
  std::map<std::string, Agent, std::less<>> agents_;
};

}  // namespace leap::machine
