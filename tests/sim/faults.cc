// What goes wrong: drawn from the seed, before `faults_end`.
#include "tests/sim/faults.h"

#include <array>
#include <cstring>
#include <string>

#include "tests/sim/world.h"

namespace leap::sim {

namespace {

struct FaultName {
  const char* name;
  uint32_t fault;
};
constexpr std::array<FaultName, 23> kNames = {{{"kill-worker", kKillWorker},
                                               {"stop-worker", kStopWorker},
                                               {"kill-verifier", kKillVerifier},
                                               {"kill-coordinator", kKillCoordinator},
                                               {"break-session", kBreakSession},
                                               {"partition", kPartition},
                                               {"data-partition", kDataPartition},
                                               {"disk-fails", kDiskFails},
                                               {"crash-at-write", kCrashAtWrite},
                                               {"lie", kLie},
                                               {"corrupt", kCorrupt},
                                               {"slow-link", kSlowLink},
                                               {"goodbye", kGoodbye},
                                               {"steer", kSteer},
                                               {"kill-all", kKillAll},
                                               {"duplicate", kDuplicate},
                                               {"nan", kNan},
                                               {"slow-scorer", kSlowScorer},
                                               {"cancel", kCancel},
                                               {"spike", kSpike},
                                               {"stop-coordinator", kStopCoordinator},
                                               {"stop-verifier", kStopVerifier},
                                               {"stop-client", kStopClient}}};

}  // namespace

std::optional<uint32_t> ParseFaults(const std::string& names) {
  if (names == "all") return kEveryFault;
  if (names == "none") return 0;
  uint32_t faults = 0;
  for (size_t begin = 0; begin <= names.size();) {
    const size_t end = std::min(names.find(',', begin), names.size());
    const std::string name = names.substr(begin, end - begin);
    uint32_t fault = 0;
    for (const FaultName& known : kNames) fault |= name == known.name ? known.fault : 0;
    if (fault == 0) return std::nullopt;
    faults |= fault;
    begin = end + 1;
  }
  return faults;
}

void Faults::Plan() {
  const uint32_t allowed = world_.options().faults;
  if (allowed == 0) return;
  if ((allowed & kSpike) != 0) PlanSpikes();
  PlanStops();
  const int count = static_cast<int>(random_.Percent(70) ? random_.In(0, 10) : random_.In(10, 40));
  for (int i = 0; i < count; ++i) {
    const uint32_t fault = 1u << random_.In(0, 18);
    if ((fault & allowed) == 0) continue;
    world_.timeline().At(random_.In(150, world_.faults_end() / kMillisecond - 100) * kMillisecond,
                         [this, fault] { Inject(fault); });
  }
}

void Faults::PlanSpikes() {
  if (!spikes_.Percent(20)) return;
  for (JobPlan& plan : world_.jobs()) {
    const Micros when = spikes_.In(800, 3500) * kMillisecond;
    const Micros length = spikes_.In(50, 1200) * kMillisecond;
    if (when > world_.faults_end()) continue;
    world_.timeline().At(when, [this, &plan, until = when + length] {
      world_.Trace("fault: spike of %s", plan.job.c_str());
      plan.spikes_until = until;
    });
  }
}

void Faults::PlanStops() {
  if (!stops_.Percent(40)) return;
  for (int64_t left = stops_.In(1, 4); left > 0; --left) {
    const uint32_t fault = kStopCoordinator << stops_.In(0, 2);
    const Micros when = stops_.In(150, world_.faults_end() / kMillisecond - 100) * kMillisecond;
    if ((fault & world_.options().faults) == 0) continue;
    world_.timeline().At(when, [this, fault] { Stop(fault); });
  }
}

// SIGSTOP, later SIGCONT: alive and silent, then back with what it had in mind.
void Faults::Stop(uint32_t fault) {
  const Micros now = world_.timeline().now();
  const Micros length = std::min(stops_.In(20, 3000) * kMillisecond, world_.faults_end() - now);
  if (fault == kStopClient) return StopClient();
  if (fault == kStopCoordinator) {
    return stops_.Percent(50) ? world_.StopCoordinator(length) : world_.StopAtNextWrite(length);
  }
  std::vector<Agent*> running;
  for (Agent& agent : world_.agents()) {
    if (agent.role == machine::Role::kVerifier && agent.process != nullptr)
      running.push_back(&agent);
  }
  if (running.empty()) return;
  Agent& agent = *running[stops_.In(0, static_cast<int64_t>(running.size()) - 1)];
  world_.Trace("%s: stands still for %d ms", agent.name.c_str(),
               static_cast<int>(length / kMillisecond));
  agent.process->stopped_until = std::max(agent.process->stopped_until, now + length);
}

// What a person asked for before leapctl stood still is asked again as it goes on, too late.
void Faults::StopClient() {
  const auto index = stops_.In(0, static_cast<int64_t>(world_.jobs().size()) - 1);
  const std::string job = world_.jobs()[index].job;
  if (!world_.jobs()[index].created) return;
  world_.Trace("leapctl: says again what it said of %s", job.c_str());
  world_.SubmitAgain(static_cast<int>(index));
  if (stops_.Percent(50)) return world_.Handle(machine::ResumeJob{.job = job});
  world_.Handle(machine::PauseJob{.job = job});
  world_.timeline().After(stops_.In(10, 1500) * kMillisecond,
                          [this, job] { world_.Handle(machine::ResumeJob{.job = job}); });
}

Agent* Faults::Pick(machine::Role role) {
  std::vector<Agent*> running;
  for (Agent& agent : world_.agents()) {
    if (agent.role == role && agent.process != nullptr) running.push_back(&agent);
  }
  return running.empty() ? nullptr
                         : running[random_.In(0, static_cast<int64_t>(running.size()) - 1)];
}

Agent* Faults::PickAny() {
  return Pick(random_.Percent(70) ? machine::Role::kWorker : machine::Role::kVerifier);
}

void Faults::Kill(Agent* agent) {
  if (agent == nullptr) return;
  world_.KillProcess(*agent);
  if (random_.Percent(60)) {
    world_.timeline().After(random_.In(20, 2000) * kMillisecond,
                            [this, agent] { world_.StartProcess(*agent); });
  }
}

void Faults::KillAll() {
  for (Agent& agent : world_.agents()) {
    if (agent.role != machine::Role::kWorker || agent.process == nullptr) continue;
    world_.KillProcess(agent);
    world_.timeline().After(random_.In(20, 1500) * kMillisecond,
                            [this, &agent] { world_.StartProcess(agent); });
  }
}

void Faults::Corrupt(Agent* agent) {
  if (agent == nullptr) return;
  Process& process = *agent->process;
  agent->ever_corrupt = true;
  if (random_.Percent(50)) {
    process.bad_transfer = true;
    world_.Trace("%s will take over a state wrongly", agent->name.c_str());
    return;
  }
  // With two ranks nobody can tell who is right; with three, two neighbours contradict the third.
  if (process.mode != Process::Mode::kTraining || process.world_size() < 3 || !process.state)
    return;
  for (Agent& other : world_.agents()) {
    if (other.process != nullptr && other.process->corrupt) return;
  }
  process.state->weights ^= 1u << random_.In(0, 31);
  process.corrupt = true;
  world_.Trace("%s has a flipped bit", agent->name.c_str());
}

void Faults::Lies(Agent* agent) {
  if (agent == nullptr) return;
  agent->lie = static_cast<Lie>(random_.In(1, 4));
  agent->ever_lied = true;
}

void Faults::Say(Agent* agent) {
  if (agent == nullptr || agent->session == 0) return;
  agent->process->Send(machine::Goodbye{"SIGTERM"});
  agent->process->said_goodbye = true;
  world_.timeline().After(random_.In(1, 60) * kMillisecond,
                          [this, agent, incarnation = agent->process->incarnation()] {
                            if (world_.FindProcess(agent->name, incarnation) != nullptr)
                              Kill(agent);
                          });
}

void Faults::Steer(bool cancel) {
  JobPlan& plan = world_.jobs()[random_.In(0, static_cast<int64_t>(world_.jobs().size()) - 1)];
  if (!plan.created) return;
  if (cancel) {
    plan.cancelled = true;
    plan.cancel_at_apply = random_.Percent(70);
    if (plan.cancel_at_apply) return;
    return world_.Handle(machine::CancelJob{.job = plan.job, .reason = "enough"});
  }
  world_.Handle(machine::PauseJob{.job = plan.job});
  world_.timeline().After(random_.In(10, 1500) * kMillisecond, [this, job = plan.job] {
    world_.Handle(machine::ResumeJob{.job = job});
  });
}

void Faults::Inject(uint32_t fault) {
  const Micros now = world_.timeline().now();
  const Micros left = world_.faults_end() - now;
  const auto until = [&](Micros low, Micros high) {
    return now + std::min(random_.In(low, high) * kMillisecond, left);
  };
  Agent* const worker = Pick(machine::Role::kWorker);
  Agent* const verifier = Pick(machine::Role::kVerifier);
  Agent* const any = PickAny();
  for (const FaultName& known : kNames) {
    if (known.fault == fault) world_.Trace("fault: %s", known.name);
  }
  switch (fault) {
    case kKillWorker:
      return Kill(worker);
    case kStopWorker:
      if (worker != nullptr) {
        Micros& stopped = worker->process->stopped_until;
        stopped = std::max(stopped, until(20, 3000));
      }
      return;
    case kKillVerifier:
      return Kill(verifier);
    case kKillCoordinator:
      return world_.CrashCoordinator();
    case kBreakSession:
      if (any != nullptr && any->session != 0) world_.BreakSession(*any);
      return;
    case kPartition:
      // One that has no session would look like one whose machine closed it (membership.h): two
      // faults at once.
      if (any != nullptr && any->session != 0) any->partitioned_until = until(20, 3000);
      return;
    case kDataPartition:
      if (worker != nullptr) worker->data_partitioned_until = until(20, 2500);
      return;
    case kDiskFails:
      world_.disk().failing = true;
      return world_.timeline().At(until(10, 1500), [this] { world_.disk().failing = false; });
    case kCrashAtWrite:
      return world_.CrashAtNextWrite(static_cast<int>(random_.In(1, 3)));
    case kLie:
      return Lies(verifier);
    case kCorrupt:
      return Corrupt(worker);
    case kSlowLink:
      if (any != nullptr) any->slow_until = until(50, 2500);
      return;
    case kGoodbye:
      return Say(any);
    case kKillAll:
      return KillAll();
    case kNan:
      if (worker != nullptr) worker->process->reports_nan = random_.Percent(30);
      return;
    case kSlowScorer:
      if (verifier != nullptr) verifier->slow_scorer = true;
      return;
    case kSteer:
    case kCancel:
      if (fault == kSteer || random_.Percent(20)) Steer(fault == kCancel);
      return;
    default:
      return;
  }
}

}  // namespace leap::sim
