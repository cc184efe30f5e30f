// From what the machine counts and shows to the coordinator's metrics (service/metric_names.h).
// Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/machine/action.h"
#include "coordinator/machine/view.h"
#include "service/metrics.h"

namespace leap {

class MetricsFeed {
 public:
  explicit MetricsFeed(Metrics* metrics) : metrics_(metrics) {}  // must outlive it

  void Count(const machine::MetricSample& sample);
  // A job's own series; none once it has ended. One caller at a time, as of SetCluster.
  void SetJob(const machine::JobView& job);
  // Everything that is a state, not a count.
  void SetCluster(const std::vector<machine::JobView>& jobs,
                  const std::vector<machine::AgentView>& agents, size_t queued_events,
                  size_t sessions, int64_t ledger_bytes);

  void CountTransaction(bool ok, absl::Duration duration);
  void CountSessionMessage(absl::string_view direction);  // "in" | "out"
  void CountRefusedSession(absl::string_view cause);      // as in leap_sessions_refused_total
  void CountDroppedEvent();

 private:
  Metrics* const metrics_;
  std::set<std::string> live_;  // jobs with series of their own
};

}  // namespace leap
