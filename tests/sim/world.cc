#include "tests/sim/world.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "tests/sim/faults.h"

namespace leap::sim {

World::World(const SimOptions& options)
    : options_(options), random_(options.seed), oracle_(*this) {}

void World::Trace(const char* format, ...) {
  if (!options_.trace) return;
  std::printf("%9.4f ", static_cast<double>(timeline_.now()) * 1e-6);
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\n");
}

double World::ReportLoss(const std::string& job) {
  JobPlan& plan = *std::ranges::find(jobs_, job, &JobPlan::job);
  if (plan.spikes_until <= timeline_.now()) return 3;
  ++plan.spike_reports;
  return 30;
}

void World::SpikeSaid(const std::string& job, uint64_t epoch) {
  const JobPlan& plan = *std::ranges::find(jobs_, job, &JobPlan::job);
  if (plan.spike_reports >= kSpikeReports) oracle_.OnSpike(job, epoch);
}

// ---- agents ----

Agent& World::AgentNamed(const std::string& name) {
  return *std::ranges::find(agents_, name, &Agent::name);
}

Process* World::FindProcess(const std::string& name, uint64_t incarnation) {
  Process* const process = AgentNamed(name).process.get();
  return process != nullptr && process->incarnation() == incarnation ? process : nullptr;
}

void World::StartProcess(Agent& agent) {
  if (agent.process != nullptr) return;
  agent.process = std::make_unique<Process>(*this, agent, next_incarnation_++);
  Trace("%s: starts, incarnation %d", agent.name.c_str(), static_cast<int>(next_incarnation_ - 1));
  agent.process->Start();
}

void World::KillProcess(Agent& agent) {
  if (agent.process == nullptr) return;
  Trace("%s: killed", agent.name.c_str());
  Leave(*agent.process);
  CoordinatorSeesClose(agent.session, DelayOf(agent));
  if (const auto session = sessions_.find(agent.session); session != sessions_.end())
    session->second.agent_open = false;
  agent.session = 0;
  agent.process.reset();
}

// ---- set-up ----

void World::MakeJob(int index, int replicas) {
  const uint64_t draw = Mix(options_.seed, 1000 + static_cast<uint64_t>(index));
  const auto pick = [&](int bit, auto a, auto b) { return (draw >> bit) % 2 == 0 ? a : b; };
  JobPlan plan{.job = "job" + std::to_string(index)};
  machine::CreateJob& request = plan.request;
  request.job = plan.job;
  request.request_id = "request" + std::to_string(index);
  request.spec_yaml = "name: " + plan.job;
  JobSpec& spec = request.spec;
  spec.name = plan.job;
  spec.data.gate_sequences = 4;
  spec.train.steps = pick(0, 40, 60);
  spec.train.seed = options_.seed;
  spec.workers = {.replicas = replicas, .min_replicas = pick(1, replicas, 1)};
  spec.verifiers = {.min_replicas = pick(2, 0, 1), .max_replicas = 3};
  spec.leap.interval_steps = pick(3, 5, 8);
  spec.leap.warmup_steps = 0;
  spec.leap.predictors = {{.name = "outer-nesterov", .params = {{"eta", 0.8}, {"mu", 0.5}}}};
  if (pick(4, true, false))
    spec.leap.predictors.push_back({.name = "linear", .horizons_steps = {4, 20}});
  spec.leap.regimes = {"unknown", "chaotic", "transition", "stable"};
  spec.leap.commit_rule = pick(5, CommitRule::kRebase, CommitRule::kReplace);
  spec.leap.audit_every_leaps = pick(10, 1, 2);
  spec.leap.rollback_bound = pick(11, 0.01, 0.0);
  spec.leap.exploration = 0;
  spec.checkpoint.every_steps = pick(6, 7, 15);
  spec.timeouts = {.lease_seconds = 1,
                   .collective_seconds = 1.5,
                   .commit_seconds = pick(7, 0.25, 2.0),
                   .epoch_formation_seconds = 3,
                   .job_start_seconds = 30};
  const double grace = pick(8, 0.0, 0.5);
  spec.failure = {{.role = "worker",
                   .cause = "lost",
                   .action = pick(9, "replace", "shrink"),
                   .grace_seconds = grace,
                   .budget = 0},
                  {.role = "worker", .cause = "corrupt", .action = "replace", .budget = 1000},
                  {.role = "training", .cause = "nan-loss", .action = "rollback", .budget = 1000},
                  {.role = "training",
                   .cause = "loss-spike",
                   .action = pick(12, "rollback", "ignore"),
                   .grace_seconds = pick(13, 0.0, 0.4),
                   .budget = 1000}};
  jobs_.push_back(std::move(plan));
}

void World::SetUp() {
  const int jobs = random_.Percent(20) ? 2 : 1;
  int workers = static_cast<int>(random_.In(0, 2));  // spares
  for (int i = 0; i < jobs; ++i) {
    const int replicas = static_cast<int>(random_.In(1, 4));
    workers += replicas;
    MakeJob(i, replicas);
  }
  const int verifiers = static_cast<int>(random_.In(1, 3));
  agents_.resize(workers + verifiers);
  for (int i = 0; i < workers; ++i) agents_[i].name = "w" + std::to_string(i);
  for (int i = 0; i < verifiers; ++i) {
    Agent& agent = agents_[workers + i];
    agent.name = "v" + std::to_string(i);
    agent.role = machine::Role::kVerifier;
    agent.can_stand_in = random_.Percent(50);
  }
  for (Agent& agent : agents_) {
    timeline_.At(random_.In(0, 200) * kMillisecond, [this, &agent] { StartProcess(agent); });
  }
  faults_end_ = random_.In(1500, 5000) * kMillisecond;
}

// ---- people ----

void World::Request() {
  for (size_t i = 0; i < jobs_.size(); ++i) {
    JobPlan& plan = jobs_[i];
    if (!plan.created && cluster_ != nullptr) {
      machine::CreateJob request = plan.request;
      request.correlation = next_correlation_++;
      asked_[request.correlation] = static_cast<int>(i);
      Handle(std::move(request));
    }
    const auto row = disk_.jobs.find(plan.job);
    const bool paused = row != disk_.jobs.end() && row->second.paused;
    if (timeline_.now() > faults_end_ && paused) Handle(machine::ResumeJob{.job = plan.job});
  }
  for (Agent& agent : agents_) {  // an operator starts what is in quarantine again
    const auto row = disk_.agents.find(agent.name);
    const bool out = row != disk_.agents.end() && agent.process != nullptr &&
                     row->second.incarnation == agent.process->incarnation();
    if (timeline_.now() <= faults_end_ || !out) continue;
    KillProcess(agent);
    StartProcess(agent);
  }
  timeline_.After(300 * kMillisecond, [this] { Request(); });
}

// Everything that was broken is mended, so that the job must be able to go on.
void World::Heal() {
  Trace("---- faults are over");
  disk_.failing = false;
  crash_at_write_ = 0;
  stop_at_write_ = 0;
  for (Agent& agent : agents_) {
    agent.lie = Lie::kNone;
    agent.slow_scorer = false;
    StartProcess(agent);
  }
}

bool World::Done() {
  for (const JobPlan& plan : jobs_) {
    const auto row = disk_.jobs.find(plan.job);
    if (row == disk_.jobs.end() || !machine::IsEnded(row->second.state)) return false;
  }
  return std::ranges::all_of(agents_, [](const Agent& agent) {
    return agent.process == nullptr || agent.process->job().empty();
  });
}

SimResult World::Run() {
  SetUp();
  StartCoordinator();
  timeline_.At(random_.In(10, 300) * kMillisecond, [this] { Request(); });
  Faults faults(*this, options_.seed);
  faults.Plan();
  timeline_.At(faults_end_, [this] { Heal(); });
  const Micros limit = faults_end_ + 60 * kSecond;
  while (oracle_.violation().empty() && timeline_.RunOne()) {
    if (timeline_.now() > faults_end_ && Done()) break;
    if (timeline_.now() < limit) continue;
    std::string states;
    for (const JobPlan& plan : jobs_) {
      const auto row = disk_.jobs.find(plan.job);
      states += row == disk_.jobs.end() ? "not created"
                                        : std::string(machine::JobStateName(row->second.state)) +
                                              ": " + row->second.state_reason;
      states += "; ";
    }
    for (const Agent& agent : agents_) {
      if (agent.process != nullptr && !agent.process->job().empty())
        states += agent.name + " holds " + agent.process->job() + " ";
    }
    oracle_.Violate("stuck: %s", states.c_str());
  }
  if (oracle_.violation().empty()) oracle_.AtEnd();
  result_.violation = oracle_.violation();
  result_.seconds = static_cast<double>(timeline_.now()) * 1e-6;
  for (const auto& [key, leap] : disk_.leaps)
    result_.leaps_applied += leap.state == machine::LeapState::kApplied;
  return result_;
}

SimResult RunSimulation(const SimOptions& options) {
  World world(options);
  return world.Run();
}

}  // namespace leap::sim
