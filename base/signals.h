// SIGTERM, SIGINT and SIGHUP (its terminal was closed) as something a program can wait for, so that
// it can shut down in its own order.
//
//   int main() {
//     StopSignal stop;                       // before any thread is started
//     …start…
//     stop.Wait();                           // or WaitFor(timeout) in a loop
//     …stop, join…
//   }
//
// A second SIGTERM or SIGINT ends the process at once, with the usual status: an operator who
// insists is obeyed. Under nohup SIGHUP stays ignored.
#pragma once

#include <optional>

#include "absl/time/time.h"

namespace leap {

// Create one, in main, before other threads exist. Its methods are thread-safe. Also ignores
// SIGPIPE: a peer that went away is an error of the call that wrote to it.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // Blocks until a signal has come (it is returned) or Request was called (0 is returned).
  int Wait();

  // The same, at most this long; nothing if none came.
  std::optional<int> WaitFor(absl::Duration timeout);

  // Whether one has come, without waiting.
  bool requested() const;

  // Asks for the stop from within the program.
  void Request();

 private:
  int read_fd_ = -1;  // readable for ever once a stop was asked for: nobody drains the pipe
};

}  // namespace leap
