// gRPC's own error lines, brought into our log (base/log.h) as event "grpc": a line that says the
// same as the one before it is left out. Call before the first server or channel; safe to call
// again. RpcServer and MakeChannel do.
#pragma once

namespace leap {

void RouteGrpcLog();

}  // namespace leap
