#include "service/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error_reason.h"

namespace leap {
namespace {

absl::Status AddressError(absl::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kAddressInvalid, message);
}

// 0, or the errno of binding there.
int TryBind(const addrinfo& info) {
  const int fd = socket(info.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const bool bound = bind(fd, info.ai_addr, info.ai_addrlen) == 0 && listen(fd, 1) == 0;
  const int error = bound ? 0 : errno;
  close(fd);
  return error;
}

}  // namespace

absl::StatusOr<HostPort> ParseHostPort(absl::string_view address) {
  const auto wrong = [&] {
    return AddressError(
        absl::StrCat("expected host:port with a port from 0 to 65535, saw '", address, "'"));
  };
  const size_t colon = address.rfind(':');
  if (colon == absl::string_view::npos) return wrong();
  absl::string_view host = address.substr(0, colon);
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]")) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find_first_of("[]:/ ") != absl::string_view::npos) {
    return wrong();
  }
  const absl::string_view digits = address.substr(colon + 1);
  HostPort result{.host = std::string(host)};
  if (digits.empty() || digits.find_first_not_of("0123456789") != absl::string_view::npos ||
      !absl::SimpleAtoi(digits, &result.port) || result.port > 65535) {
    return wrong();
  }
  return result;
}

std::string JoinHostPort(const HostPort& address) {
  const bool v6 = absl::StrContains(address.host, ':');
  return absl::StrCat(v6 ? "[" : "", address.host, v6 ? "]:" : ":", address.port);
}

bool IsLoopback(absl::string_view address) {
  const auto parsed = ParseHostPort(address);
  if (!parsed.ok()) return false;
  in_addr v4;
  if (inet_pton(AF_INET, parsed->host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  return parsed->host == "::1" || absl::EqualsIgnoreCase(parsed->host, "localhost");
}

absl::Status WhyNoListen(const HostPort& address) {
  addrinfo hints{.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  const std::string port = absl::StrCat(address.port);
  const int rc = getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(), port.c_str(),
                             &hints, &found);
  if (rc != 0) {
    return AddressError(
        absl::StrCat("cannot listen at '", JoinHostPort(address), "': ", gai_strerror(rc)));
  }
  const int error = TryBind(*found);
  freeaddrinfo(found);
  if (error == 0) return absl::OkStatus();
  if (error == EADDRINUSE) {
    return MakeError(
        absl::StatusCode::kFailedPrecondition, ErrorReason::kPortTaken,
        absl::StrCat(
            "port ", port, " of '", address.host,
            "' is taken by another program; stop it, or choose another port (0: any free one)"),
        {{"port", port}});
  }
  return AddressError(
      absl::StrCat("cannot listen at '", JoinHostPort(address), "': ", std::strerror(error)));
}

std::string MachineName() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "localhost";
  return name;
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view text) {
  const std::string beside = absl::StrCat(path, ".tmp.", getpid());
  std::ofstream file(beside, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file || std::rename(beside.c_str(), path.c_str()) != 0) {
    const std::string cause = std::strerror(errno);
    std::remove(beside.c_str());
    return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kConfigInvalid,
                     absl::StrCat("cannot write '", path, "': ", cause));
  }
  return absl::OkStatus();
}

}  // namespace leap
