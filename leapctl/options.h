// What was said on the command line, and where answers go.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "leapctl/render.h"
#include "service/channel.h"

namespace leap {

struct Options {
  // For every command.
  OutputFormat output = OutputFormat::kTable;
  std::string coordinator;  // host:port
  absl::StatusOr<ChannelOptions> channel =
      ChannelOptions();  // an error matters once a call is made

  // For those that have them.
  std::string job;   // id
  std::string file;  // a job file; "-": standard input
  bool dry_run = false;
  bool wait = false;
  std::string reason;
  int last = 0;          // rows; 0: all
  std::string baseline;  // a job to compare with
  std::string out;       // where an export goes
  int64_t step = 0;
  std::string buffer = "weights";  // which vector of a snapshot
  bool force = false;              // overwrite
  std::string topic;               // of completion and docs

  // leapctl run.
  int workers = 0;        // 0: as the job file says
  int verifiers = -1;     // -1: as the job file says
  std::string state_dir;  // empty: a new one under the folder for temporary files
  bool with_baseline = false;
  int nice = 10;  // of verifiers
};

// Where answers go. `out` is what was asked for, `err` is about the asking.
struct Terminal {
  std::ostream& out;
  std::ostream& err;
  std::istream& in;
  bool live = false;  // `out` is a terminal: views may be redrawn
  int width = 100;
};

}  // namespace leap
