// Runs the simulation: one seed with a trace, or many. A violation is printed with the command that
// replays it.
//
//   leap_sim --seed 17 --trace           one run, with everything that happens
//   leap_sim --first 1 --count 10000     many; exit 1 if a seed fails
//   leap_sim --seeds FILE                those in a file: a number a line, # begins a comment
//   --faults kill-worker,partition       only these kinds (all | none | a list)
//   --mutation 3                         with a planted bug (coordinator/machine/options.h,
//   Mutation)
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "tests/sim/world.h"

namespace {

struct Flags {
  leap::sim::SimOptions options;
  uint64_t first = 1;
  uint64_t count = 0;
  std::string faults = "all";
  std::vector<uint64_t> seeds;
};

bool ReadSeeds(const char* path, std::vector<uint64_t>& seeds) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line[0] != '#') seeds.push_back(std::strtoull(line.c_str(), nullptr, 10));
  }
  if (seeds.empty()) std::fprintf(stderr, "no seeds in %s\n", path);
  return !seeds.empty();
}

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
    } else if (flag == "--seeds") {
      if (!ReadSeeds(value, flags.seeds)) return false;
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
                 "usage: leap_sim [--seed N | --first N --count M | --seeds FILE] [--faults LIST] "
                 "[--mutation M] [--trace]\n");
    return 2;
  }
  std::vector<uint64_t>& seeds = flags.seeds;
  if (seeds.empty()) {
    seeds.resize(flags.count == 0 ? 1 : flags.count);
    std::iota(seeds.begin(), seeds.end(), flags.count == 0 ? flags.options.seed : flags.first);
  }
  // Of a planted bug one seed that finds it is enough.
  const int most_failures = flags.options.mutation == leap::machine::Mutation::kNone ? 20 : 1;
  int failures = 0;
  int64_t events = 0, leaps = 0, epochs = 0, restarts = 0;
  double seconds = 0;
  for (const uint64_t seed : seeds) {
    if (failures == most_failures) break;
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
      static_cast<unsigned long long>(seeds.size()), failures, static_cast<long long>(events),
      static_cast<long long>(leaps), static_cast<long long>(epochs),
      static_cast<long long>(restarts), seconds);
  return failures == 0 ? 0 : 1;
}
