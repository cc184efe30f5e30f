// host:port in text: taking it apart, putting it together, and what to tell others to dial.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace leap {

struct HostPort {
  std::string host;  // an IPv6 address without its brackets; empty: all interfaces
  int port = 0;
};

// Reads "host:port", "[v6]:port" or ":port". InvalidArgument (ADDRESS_INVALID) says what was
// expected.
absl::StatusOr<HostPort> ParseHostPort(absl::string_view address);
std::string JoinHostPort(const HostPort& address);

// True for 127.0.0.0/8, ::1 and "localhost"; `address` is host:port. Does not ask the resolver.
bool IsLoopback(absl::string_view address);

// Why nothing can listen at `address`, found by trying: FailedPrecondition (PORT_TAKEN),
// InvalidArgument (ADDRESS_INVALID), or OK if it could just now.
absl::Status WhyNoListen(const HostPort& address);

// This machine's name, "localhost" if it has none.
std::string MachineName();

// Writes `text` to `path` by way of a file beside it, so that a reader sees all of it or nothing.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view text);

}  // namespace leap
