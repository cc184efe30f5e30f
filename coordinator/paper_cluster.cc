#include "coordinator/paper_cluster.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/test_cluster.h"
#include "coordinator/wire.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

constexpr size_t kMaxReplies = 4000;  // to one round: more is a loop
constexpr size_t kMaxEvents = 10'000;

}  // namespace

PaperCluster::PaperCluster(uint64_t seed, const PaperJobOptions& options,
                           const machine::ClusterOptions& machine)
    : options_(machine) {
  options_.seed = seed;
  cluster_ = std::make_unique<machine::Cluster>(options_);
  Step(machine::Restored{});
  for (int i = 0; i < options.workers; ++i) AddAgent(absl::StrCat("w", i), v1::ROLE_WORKER);
  for (int i = 0; i < options.verifiers; ++i) AddAgent(absl::StrCat("v", i), v1::ROLE_VERIFIER);
  Submit("a-1", options);
}

void PaperCluster::Submit(const std::string& job, const PaperJobOptions& options) {
  machine::CreateJob create{.correlation = 1, .job = job, .submitter = "ann"};
  create.spec = *ParseJobSpec(
      PaperJob("a", absl::StrCat("  workers: {replicas: 2}\n  leap: {interval_steps: ", kInterval,
                                 ", warmup_steps: ", kInterval,
                                 ", audit_every_leaps: 0, "
                                 "regimes: [unknown, chaotic, transition, stable], "
                                 "criterion: {name: guard, bound: 1.0}, ",
                                 options.leap, "}\n")));
  create.spec.train.steps = 100'000;
  create.spec.checkpoint.every_steps = 0;
  create.spec.timeouts = {.lease_seconds = 1,
                          .collective_seconds = 2,
                          .commit_seconds = 3,
                          .epoch_formation_seconds = 4,
                          .job_start_seconds = 20};
  options.change(create.spec);
  create.spec_yaml = JobSpecToYaml(create.spec);
  Step(create);
}

void PaperCluster::Kill(const std::string& name) {
  Agent& agent = agents_.at(name);
  agent.killed = true;
  const uint64_t session = std::exchange(agent.session, 0);
  Step(machine::SessionClosed{name, agent.incarnation, session});
}

void PaperCluster::AddAgent(const std::string& name, v1::Role role) {
  const uint64_t incarnation = agents_.size() + 1;
  Agent& agent =
      agents_.emplace(name, Agent{PaperMind(name, role, incarnation), incarnation}).first->second;
  Connect(name, agent);
}

void PaperCluster::Connect(const std::string& name, Agent& agent) {
  agent.session = ++last_session_;
  agent.greeted = false;
  v1::AgentMessage hello;
  *hello.mutable_hello() = agent.mind.Hello();
  Hear(name, hello);  // who it is comes from here: not spoiled
  for (const v1::AgentMessage& message : agent.mind.Repeat()) Say(name, message);
}

void PaperCluster::Play(int rounds) {
  for (const int end = round_ + rounds; round_ < end;) {
    ++round_;
    now_ += absl::Milliseconds(100);
    Step(machine::Tick{});
    for (auto& [name, agent] : agents_) {
      if (agent.killed || agent.stopped) continue;
      if (agent.session == 0) Connect(name, agent);
      v1::AgentMessage beat;
      *beat.mutable_heartbeat() = agent.mind.Beat();
      Say(name, beat);
      if (agent.mind.trains() && round_ % kInterval == 0) Say(name, agent.mind.Snapshot(round_));
    }
    Deliver();
  }
}

void PaperCluster::Advance(absl::Duration time) {
  for (const absl::Time end = now_ + time; now_ < end;) {
    now_ += absl::Milliseconds(100);
    Step(machine::Tick{});
  }
}

void PaperCluster::Say(const std::string& name, const v1::AgentMessage& message) {
  if (!ears_) return Hear(name, message);
  for (const auto& [who, heard] : ears_(name, message)) Hear(who, heard);
}

// As coordinator/agent_service.cc does with what a stream brings.
void PaperCluster::Hear(const std::string& name, const v1::AgentMessage& wire) {
  Agent& agent = agents_.at(name);
  if (agent.session == 0) return;
  absl::StatusOr<machine::AgentMessage> message = FromWire(wire);
  if (message.ok() && wire.has_hello() != agent.greeted) {
    agent.greeted = true;
    if (auto* const hello = std::get_if<machine::Hello>(&*message)) {
      hello->caller = absl::StrCat("cert-", name);
    }
    return Step(machine::AgentSaid{name, agent.incarnation, agent.session, *std::move(message)});
  }
  ++refused_;
  agent.closed = message.ok() ? absl::InvalidArgumentError("expected Hello first, and once")
                              : message.status();
  const uint64_t session = std::exchange(agent.session, 0);
  Step(machine::SessionClosed{name, agent.incarnation, session});
}

absl::Status PaperCluster::Knock(const v1::Hello& hello, absl::string_view caller) {
  v1::AgentMessage wire;
  *wire.mutable_hello() = hello;
  absl::StatusOr<machine::AgentMessage> message = FromWire(wire);
  if (!message.ok()) return message.status();
  auto& known = std::get<machine::Hello>(*message);
  known.caller = std::string(caller);
  const uint64_t session = ++last_session_;
  knocked_ = absl::OkStatus();
  Step(machine::AgentSaid{known.agent, known.incarnation, session, known});
  Step(machine::SessionClosed{known.agent, known.incarnation, session});
  return knocked_;
}

// As coordinator/runner.cc does.
void PaperCluster::Step(const machine::Event& event) {
  ++steps_;
  const machine::Actions actions = cluster_->Step(event, now_);
  for (const machine::Send& send : actions.sends) queue_.push_back(send);
  for (const machine::CloseSession& close : actions.closes) Close(close);
  const bool written = ledger_error_.empty();
  Watch(actions, written);
  if (actions.ticket == 0) return;
  most_records_ = std::max(most_records_, actions.records.size());
  Step(machine::Persisted{.ticket = actions.ticket, .ok = written, .error = ledger_error_});
}

void PaperCluster::Close(const machine::CloseSession& close) {
  if (close.session == last_session_) knocked_ = close.status;
  for (auto& [name, agent] : agents_) {
    if (agent.session != close.session) continue;
    agent.session = 0;
    agent.closed = close.status;
  }
}

void PaperCluster::Watch(const machine::Actions& actions, bool written) {
  for (const machine::Send& send : actions.sends) {
    const auto* const decide = std::get_if<machine::Decide>(&send.message);
    if (decide == nullptr || !decide->commit) continue;
    EXPECT_TRUE(committed_.contains(decide->leap)) << "leap " << decide->leap << " is not durable";
  }
  if (!written) return;
  for (const machine::Record& record : actions.records) {
    if (const auto* const epoch = std::get_if<machine::EpochRecord>(&record)) {
      std::set<std::string> members;
      for (const machine::Member& member : epoch->members) members.insert(member.agent);
      EXPECT_EQ(members.size(), epoch->members.size()) << "one agent, two ranks";
    }
    if (const auto* const event = std::get_if<machine::EventRecord>(&record)) {
      if (events_.size() < kMaxEvents) {
        events_.push_back(absl::StrCat(event->kind, ": ", event->sentence));
      }
    }
    const auto* const leap = std::get_if<machine::LeapRecord>(&record);
    if (leap == nullptr) continue;
    leap_ = *leap;
    if (leap->state == machine::LeapState::kPreparing ||
        leap->state == machine::LeapState::kAborted) {
      continue;
    }
    committed_.insert(leap->leap);
    if (leap->state == machine::LeapState::kApplied) applied_.insert(leap->leap);
    EXPECT_EQ(leap->candidate_digest,
              PaperDigest(leap->base_step, leap->predictor_index, leap->horizon_steps))
        << "leap " << leap->leap << " was never scored by anybody honest";
  }
}

// As the data plane does: the newest state of a live member, or nobody's.
void PaperCluster::Recover(const machine::AssignWorker& assign, PaperMind* mind) {
  const PaperMind fresh("nobody", v1::ROLE_WORKER, 1);
  const PaperMind* newest = &fresh;
  for (const machine::Member& member : assign.members) {
    const PaperMind& peer = agents_.at(member.agent).mind;
    if (member.state == "live" && peer.step() > newest->step()) newest = &peer;
  }
  if (newest != mind) mind->TakeStateOf(*newest);
}

void PaperCluster::Deliver() {
  size_t replies = 0;
  while (!queue_.empty()) {
    const machine::Send send = std::move(queue_.front());
    queue_.pop_front();
    for (auto& [name, agent] : agents_) {
      if (agent.session != send.session || agent.stopped) continue;
      if (const auto* assign = std::get_if<machine::AssignWorker>(&send.message)) {
        Recover(*assign, &agent.mind);
      }
      agent.stale += std::holds_alternative<machine::Stale>(send.message);
      for (const v1::AgentMessage& reply : agent.mind.On(ToWire(send.message))) {
        ASSERT_LT(++replies, kMaxReplies) << "agents and coordinator answer each other for ever";
        Say(name, reply);
      }
    }
  }
}

}  // namespace leap
