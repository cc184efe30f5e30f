// JobService on top of the runner, the board and the ledger: handlers check who is calling,
// validate, post or read, and answer. Nothing here decides about leaps.
//
// gRPC's callback threads; the requests that change something answer from the runner's thread once
// it is durable.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "coordinator/board.h"
#include "coordinator/runner.h"
#include "coordinator/store.h"
#include "grpcpp/impl/service_type.h"
#include "service/auth.h"

namespace leap {

struct JobServiceLimits {
  int max_open_jobs_per_submitter = 100;
  int max_watches = 1000;
  // If not empty: the paths of a job file must lie below one of these (core/job_paths.h).
  std::vector<std::string> path_roots;
};

// The pointers must outlive it; stop the RpcServer before destroying.
std::unique_ptr<grpc::Service> MakeJobService(Runner* runner, Board* board, Store* store,
                                              const Authenticator* auth,
                                              const JobServiceLimits& limits = {});

}  // namespace leap
