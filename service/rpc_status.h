// The only translator between absl::Status and grpc::Status, both ways.
//
// Code and message map one to one. The reason (base/error_reason.h) and its metadata travel as
// google.rpc.Status bytes with one google.rpc.ErrorInfo in the error details (domain
// "leap-verify"), so that clients in any language read them with their usual helpers. A peer's
// details that are missing, foreign or malformed are ignored, never an error: the code and the
// message are what count.
//
// Pure functions; any thread.
#pragma once

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace leap {

grpc::Status ToGrpcStatus(const absl::Status& status);

// A code outside the known 17 becomes kUnknown.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace leap
