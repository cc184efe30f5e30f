// leapctl: the person's tool. See --help; exit codes in leapctl/exit_code.h.
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "leapctl/cli.h"

namespace {

int TerminalWidth() {
  winsize size = {};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40 ? size.ws_col : 100;
}

}  // namespace

int main(int argc, char** argv) {
  // gRPC's own log lines would stand between ours; errors reach us as statuses.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  const char* kind = std::getenv("TERM");
  const bool plain = kind == nullptr || std::string(kind) == "dumb";
  leap::Terminal terminal{.out = std::cout,
                          .err = std::cerr,
                          .in = std::cin,
                          .live = isatty(STDOUT_FILENO) != 0 && !plain,
                          .width = TerminalWidth()};
  return leap::RunLeapctl({argv + 1, argv + argc}, terminal);
}
