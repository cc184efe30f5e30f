// Follows a job until it ends, Ctrl-C, or an error that will not pass; survives a restart of the
// coordinator.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "base/signals.h"
#include "leapctl/client.h"
#include "leapctl/options.h"

namespace leap {

struct WatchOptions {
  OutputFormat output = OutputFormat::kTable;  // others: a line of JSON for each message
  // Called about five times a second; an error ends the watch with it.
  std::function<absl::Status()> check = [] { return absl::OkStatus(); };
};

// Returns the job in its last state. Cancelled: `stop` came (nothing is said about that here).
// NotFound: no such job. Unavailable: the coordinator could not be reached to begin with; once it
// has answered, a break is waited out.
absl::StatusOr<v1::Job> WatchJob(Client& client, const std::string& job,
                                 const WatchOptions& options, Terminal& terminal, StopSignal& stop);

}  // namespace leap
