#include "leapctl/scrape.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace leap {
namespace {

constexpr size_t kMostBytes = 16 << 20;

absl::Status Failed(int port, absl::string_view what) {
  return absl::UnavailableError(absl::StrCat("no metrics from 127.0.0.1:", port, ": ", what));
}

bool SendAll(int socket, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = send(socket, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    text.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

}  // namespace

absl::StatusOr<std::string> ScrapeMetrics(int port, absl::Duration timeout) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Failed(port, std::strerror(errno));
  const auto close_it = absl::MakeCleanup([fd] { close(fd); });
  const timeval limit = absl::ToTimeval(timeout);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Failed(port, std::strerror(errno));
  }
  // HTTP/1.0: the answer is neither kept open nor cut into chunks.
  if (!SendAll(fd, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n"))
    return Failed(port, std::strerror(errno));
  std::string answer;
  char buffer[16384];
  for (ssize_t got = 1; got > 0 && answer.size() < kMostBytes;) {
    got = recv(fd, buffer, sizeof buffer, 0);
    if (got < 0) return Failed(port, std::strerror(errno));
    answer.append(buffer, static_cast<size_t>(got));
  }
  const size_t body = answer.find("\r\n\r\n");
  if (body == std::string::npos || !absl::StrContains(answer.substr(0, 16), " 200 ")) {
    return Failed(port, "the answer is no page");
  }
  return answer.substr(body + 4);
}

}  // namespace leap
