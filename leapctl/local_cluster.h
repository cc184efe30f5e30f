// A whole cluster on this machine for one command: a coordinator, workers and verifiers as child
// processes on loopback, with logs, ledger and checkpoints in one folder. Stopping it, or losing
// it, ends all of them.
//
// Not thread-safe; belongs to the main thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/signals.h"
#include "leapctl/child.h"

namespace leap {

struct LocalClusterOptions {
  std::string state_dir;  // there already
  int workers = 1;
  int verifiers = 1;
  int nice = 10;  // of verifiers
  // Where a program of a room lies.
  std::function<absl::StatusOr<std::string>(const std::string& name, const std::string& room)>
      find = FindProgram;
};

class LocalCluster {
 public:
  // Returns once the coordinator listens. NotFound: a program is missing. Cancelled: `stop` came.
  // FailedPrecondition: one ended at once; the message has the end of its log.
  static absl::StatusOr<std::unique_ptr<LocalCluster>> Start(const LocalClusterOptions& options,
                                                             StopSignal& stop);
  ~LocalCluster();
  LocalCluster(const LocalCluster&) = delete;
  LocalCluster& operator=(const LocalCluster&) = delete;

  const std::string& coordinator() const { return coordinator_; }  // host:port

  // Internal: without the coordinator, or without any worker, nothing can go on. The message has
  // the end of the log.
  absl::Status Check();
  // Names and endings of those that ended since the last call, a sentence each.
  std::vector<std::string> News();

  // Writes the metrics of each process, as they are now, to NAME.metrics.txt in the state folder;
  // who does not answer is left out.
  void SaveMetrics() const;

  // Asks all to end, agents before the coordinator, and kills who takes too long. Idempotent.
  void Stop();

 private:
  explicit LocalCluster(const LocalClusterOptions& options) : options_(options) {}

  absl::Status StartCoordinator(StopSignal& stop);
  absl::Status StartAgents();
  absl::Status StartAgent(const std::string& program, const std::string& name,
                          const std::vector<std::string>& more);
  std::vector<std::string> MetricsFlags(const std::string& name) const;

  const LocalClusterOptions options_;
  std::string coordinator_;
  std::unique_ptr<Child> coordinator_process_;
  std::vector<std::unique_ptr<Child>> agents_;  // workers first
  std::vector<bool> told_;
};

}  // namespace leap
