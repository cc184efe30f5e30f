// What may happen to the cluster machine. The runner hands events over one at a time, in the order
// in which they came: `actions = cluster.Step(event, now)`; see action.h for its duties.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "coordinator/machine/message.h"
#include "coordinator/machine/record.h"

namespace leap::machine {

// The first event, exactly once: what the ledger held (empty: a new ledger). Leases count from its
// `now`.
struct Restored {
  Ledger ledger;
};

// A message of an agent. `session`: number of the stream, never used twice by this coordinator
// process, not 0. `agent` and `incarnation` are those of the stream's Hello.
struct AgentSaid {
  std::string agent;
  uint64_t incarnation = 0;
  uint64_t session = 0;
  AgentMessage message;
};

// The stream ended, for whatever reason. Not needed after CloseSession, harmless then.
struct SessionClosed {
  std::string agent;
  uint64_t incarnation = 0;
  uint64_t session = 0;
};

// Requests of people. Each gets exactly one Reply with its `correlation`, after what it says is
// durable.
//
// Queue a job. `spec` is valid and `spec_yaml` its resolved text; `job` is a fresh id that the skin
// made.
struct CreateJob {
  uint64_t correlation = 0;
  std::string job;
  std::string request_id;
  std::string submitter;
  std::string spec_yaml;
  JobSpec spec;
};
struct CancelJob {
  uint64_t correlation = 0;
  std::string job;
  std::string reason;
};
struct PauseJob {
  uint64_t correlation = 0;
  std::string job;
};
struct ResumeJob {
  uint64_t correlation = 0;
  std::string job;
};

// Answer to a batch with a ticket: its records are durable, or the write failed (`error`: a
// sentence for people).
struct Persisted {
  uint64_t ticket = 0;
  bool ok = false;
  std::string error;
};

// Time passes. At least every 100 ms; every deadline is checked here.
struct Tick {};

using Event = std::variant<Restored, AgentSaid, SessionClosed, CreateJob, CancelJob, PauseJob,
                           ResumeJob, Persisted, Tick>;

}  // namespace leap::machine
