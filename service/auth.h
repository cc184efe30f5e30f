// Who is calling, and may they? One table says which roles may call which RPC; a handler asks once,
// first thing:
//
//   LEAP_ASSIGN_OR_RETURN(Caller caller, auth.Check(*context, "/leap.v1.JobService/CancelJob"));
//
// A caller's role comes from its certificate (mutual TLS) or from a bearer token:
//   certificate  a SAN (URI or DNS) "leap:ROLE" or a subject with OU=leap:ROLE or CN=leap:ROLE or
//   CN=leap:ROLE:NAME; token        metadata "authorization: Bearer TOKEN", looked up in the token
//   file: lines "TOKEN ROLE NAME", # comments.
// Roles: viewer reads; submitter also creates jobs and steers its own; operator steers all and
// fetches snapshots; worker opens agents' sessions and fetches snapshots, and cannot submit.
//
// Tokens are compared in constant time (their digests, all of them) and never logged. The token
// file is read again when it changes. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "grpcpp/server_context.h"

namespace leap {

enum class AccessRole : uint8_t { kViewer = 1, kSubmitter = 2, kOperator = 4, kWorker = 8 };
absl::string_view AccessRoleName(
    AccessRole role);  // "viewer" | "submitter" | "operator" | "worker"

struct Caller {
  std::string name;   // certificate's NAME or CN, token's NAME; "local" when nothing is asked for
  uint8_t roles = 0;  // bits of AccessRole
  bool Has(AccessRole role) const { return (roles & static_cast<uint8_t>(role)) != 0; }
  // Operators, and everybody when nothing is asked for, steer all jobs; a submitter those with its
  // name.
  bool MaySteer(absl::string_view submitter) const;
};

// The table: full method name -> bits of the roles that may call it. Methods not in the table are
// refused.
struct MethodAccess {
  absl::string_view method;  // "/leap.v1.JobService/CreateJob"
  uint8_t roles;
};
std::span<const MethodAccess> MethodAccessTable();

struct AuthOptions {
  bool required =
      false;  // false: everybody may do everything (loopback, or asked for with --insecure-...)
  std::string token_file;  // empty: certificates only
};

class Authenticator {
 public:
  // InvalidArgument names file and line of a token file that cannot be used (never the token).
  static absl::StatusOr<std::unique_ptr<Authenticator>> Create(const AuthOptions& options);
  virtual ~Authenticator() = default;

  // Unauthenticated: no role could be found, the message says what to show. PermissionDenied: role
  // too small; the message names the least one that will do.
  virtual absl::StatusOr<Caller> Check(const grpc::ServerContextBase& context,
                                       absl::string_view method) const = 0;
};

}  // namespace leap
