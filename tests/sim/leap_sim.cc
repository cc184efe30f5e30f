// Runs the simulation: one seed with a trace, or many. A violation is printed with the command that
// replays it.
//
//   leap_sim --seed 17 --trace           one run, with everything that happens
//   leap_sim --first 1 --count 10000     many; exit 1 if a seed fails
//   --faults kill-worker,partition       only these kinds (all | none | a list)
//   --mutation 3                         with a planted bug (coordinator/machine/options.h,
//   Mutation)
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/sim/world.h"

namespace {

struct Flags {
  leap::sim::SimOptions options;
  uint64_t first = 1;
  uint64_t count = 0;
  std::string faults = "all";
};

bool Parse(int argc, char** argv, Flags& flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--trace") {
      flags.options.trace = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const char* const value = argv[++i];
    if (flag == "--seed") {
      flags.options.seed = std::strtoull(value, nullptr, 10);
    } else if (flag == "--first") {
      flags.first = std::strtoull(value, nullptr, 10);
    } else if (flag == "--count") {
      flags.count = std::strtoull(value, nullptr, 10);
    } else if (flag == "--mutation") {
      flags.options.mutation = static_cast<leap::machine::Mutation>(std::atoi(value));
    } else if (flag == "--faults") {
      flags.faults = value;
    } else {
      return false;
    }
  }
  const auto faults = leap::sim::ParseFaults(flags.faults);
  if (faults.has_value()) flags.options.faults = *faults;
  return faults.has_value();
}

void Print(const Flags& flags, uint64_t seed, const std::string& violation) {
  std::printf("FAILED: %s\n  replay: leap_sim --seed %llu --faults %s --mutation %d --trace\n",
              violation.c_str(), static_cast<unsigned long long>(seed), flags.faults.c_str(),
              static_cast<int>(flags.options.mutation));
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  if (!Parse(argc, argv, flags)) {
    std::fprintf(stderr,
                 "usage: leap_sim [--seed N | --first N --count M] [--faults LIST] [--mutation M] "
                 "[--trace]\n");
    return 2;
  }
  const uint64_t first = flags.count == 0 ? flags.options.seed : flags.first;
  const uint64_t last = flags.count == 0 ? first : first + flags.count - 1;
  int failures = 0;
  int64_t events = 0, leaps = 0, epochs = 0, restarts = 0;
  double seconds = 0;
  for (uint64_t seed = first; seed <= last && failures < 20; ++seed) {
    flags.options.seed = seed;
    const leap::sim::SimResult result = leap::sim::RunSimulation(flags.options);
    events += result.events;
    leaps += result.leaps_applied;
    epochs += result.epochs;
    restarts += result.restarts;
    seconds += result.seconds;
    if (result.violation.empty()) continue;
    ++failures;
    Print(flags, seed, result.violation);
  }
  std::printf(
      "%llu seeds, %d failed; %lld events, %lld leaps applied, %lld epochs, %lld coordinator "
      "restarts, "
      "%.0f simulated seconds\n",
      static_cast<unsigned long long>(last - first + 1), failures, static_cast<long long>(events),
      static_cast<long long>(leaps), static_cast<long long>(epochs),
      static_cast<long long>(restarts), seconds);
  return failures == 0 ? 0 : 1;
}
