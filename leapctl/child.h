// A program that leapctl run starts: its output goes to a file, and it does not outlive leapctl,
// however that ends.
//
// Not thread-safe. Start from the main thread: the kernel's "your parent died" follows the thread
// that started it.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace leap {

struct ChildOptions {
  std::string name;                    // for people: "worker-1"
  std::string program;                 // path
  std::vector<std::string> arguments;  // without the program's name
  std::string log;                     // standard output and error are appended here
};

class Child {
 public:
  // FailedPrecondition: cannot be started (no such program, no room for its log).
  static absl::StatusOr<std::unique_ptr<Child>> Start(const ChildOptions& options);
  // Kills what still runs.
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // Whether it runs still; takes note of its end.
  bool Running();
  // How it ended: "exit status 2", "signal 9"; empty while it runs.
  const std::string& ending() const { return ending_; }
  void Signal(int signal);
  // Waits for its end at most so long; true if it has ended.
  bool WaitFor(absl::Duration timeout);

  const std::string& name() const { return options_.name; }
  const std::string& log() const { return options_.log; }
  // The last lines of its log, each after two spaces.
  std::string LogTail(int lines) const;

 private:
  Child(ChildOptions options, pid_t pid) : options_(std::move(options)), pid_(pid) {}

  const ChildOptions options_;
  const pid_t pid_;
  std::string ending_;
};

// Where a program of Leap lies: beside leapctl, in its room of the build folder leapctl was built
// in, or on PATH. NotFound says where it was looked for.
absl::StatusOr<std::string> FindProgram(const std::string& name, const std::string& room);

}  // namespace leap
