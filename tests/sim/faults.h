// Plans and injects the faults of a run.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/sim/process.h"
#include "tests/sim/random.h"

namespace leap::sim {

class World;

class Faults {
 public:
  Faults(World& world, uint64_t seed)
      : world_(world),
        random_(Mix(seed, 99)),
        spikes_(Mix(seed, 101)),
        stops_(Mix(seed, kStopsStream)) {}
  void Plan();

 private:
  void PlanSpikes();
  void PlanStops();
  void Stop(uint32_t fault);
  void StopClient();
  void Inject(uint32_t fault);
  Agent* Pick(machine::Role role);
  Agent* PickAny();
  void Kill(Agent* agent);
  void KillAll();
  void Corrupt(Agent* agent);
  void Lies(Agent* agent);
  void Say(Agent* agent);
  void Steer(bool cancel);

  World& world_;
  Random random_;
  // Kinds of faults that came later draw from streams of their own; this one is chosen so that no
  // seed that had been kept until then draws from it (kept_seeds.txt).
  static constexpr uint64_t kStopsStream = 42626;
  Random spikes_, stops_;
};

}  // namespace leap::sim
