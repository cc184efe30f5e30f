// Reads a process's metrics once, as Prometheus would: GET /metrics from a port on loopback.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace leap {

// The body of the answer, at most 16 MiB. Unavailable: nobody answers there, or not in time.
absl::StatusOr<std::string> ScrapeMetrics(int port, absl::Duration timeout = absl::Seconds(2));

}  // namespace leap
