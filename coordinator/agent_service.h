// AgentService on top of the runner: one reactor a stream, which parses, posts and writes, and
// decides nothing.
//
// Runs on gRPC's callback threads; writes come from the runner's thread through a bounded outbox.
// An agent that does not read what it is sent, or says what cannot be meant, is cut off with the
// reason; it comes back with a Hello.
#pragma once

#include <memory>

#include "coordinator/metrics_feed.h"
#include "coordinator/runner.h"
#include "grpcpp/impl/service_type.h"
#include "service/auth.h"

namespace leap {

struct AgentServiceLimits {
  int max_sessions = 10000;
  size_t outbox_messages = 4096;  // of one session
  int unprocessed_messages = 64;  // of one session; then it is read no further until they are done
};

// The pointers must outlive it; stop the RpcServer before destroying.
std::unique_ptr<grpc::Service> MakeAgentService(Runner* runner, const Authenticator* auth,
                                                MetricsFeed* metrics,
                                                const AgentServiceLimits& limits = {});

}  // namespace leap
