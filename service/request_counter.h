// Counts every call that a server answers, by method and code, into leap_requests_total.
#pragma once

#include <memory>

#include "grpcpp/support/server_interceptor.h"
#include "service/metrics.h"

namespace leap {

// For grpc::ServerBuilder's interceptor creators. `metrics` must outlive the server.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeRequestCounter(
    Metrics* metrics);

}  // namespace leap
