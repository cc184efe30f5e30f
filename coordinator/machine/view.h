// What GetJob and ListAgents show, as values copied out of the machine (Cluster::FindJob, ListJobs,
// ListAgents).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/machine/message.h"
#include "coordinator/machine/record.h"
#include "coordinator/machine/wait.h"

namespace leap::machine {

// `record` is the row as it would be written now.
struct JobView {
  JobRecord record;
  std::vector<Member>
      members;  // main workers in order of rank, then verifiers; Member.state: "training",
                // "joining", "paused", "unreachable", "lost", "scoring", "idle"
  std::vector<Wait> waits;  // what training waits for first, then what leaps wait for
};

struct AgentView {
  std::string agent;
  uint64_t incarnation = 0;
  Role role = Role::kUnspecified;
  std::string state;   // "idle", "assigned", "releasing", "lost", "quarantined"
  std::string reason;  // of a quarantine
  std::string job;     // empty: none
  std::string data_address;
  std::string version;
  absl::Time heartbeat_time = absl::InfinitePast();
};

}  // namespace leap::machine
