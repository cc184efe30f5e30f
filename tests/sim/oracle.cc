#include "tests/sim/oracle.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <variant>

#include "tests/sim/world.h"

namespace leap::sim {

using machine::EpochRecord;
using machine::EpochState;
using machine::LeapRecord;
using machine::LeapState;

namespace {

uint64_t HashOf(const std::vector<uint64_t>& leaps) {
  uint64_t hash = 0;
  for (const uint64_t leap : leaps) hash = Mix(hash, leap);
  return hash;
}

int Int(int64_t value) { return static_cast<int>(value); }

// What may become of a leap, from one row to the next.
bool MayFollow(LeapState before, LeapState after) {
  if (before == after) return true;
  switch (before) {
    case LeapState::kPreparing:
      return after == LeapState::kCommitted || after == LeapState::kAborted;
    case LeapState::kCommitted:
      return after == LeapState::kApplied || after == LeapState::kExpired;
    case LeapState::kApplied:
      return after == LeapState::kRolledBack || after == LeapState::kRollingBack;
    case LeapState::kRollingBack:  // the state before it is gone
      return after == LeapState::kRolledBack || after == LeapState::kApplied;
    case LeapState::kExpired:     // a checkpoint of a rank that had applied it after all
    case LeapState::kRolledBack:  // a later checkpoint of the same line
      return after == LeapState::kApplied;
    default:
      return false;
  }
}

}  // namespace

void Oracle::Violate(const char* format, ...) {
  if (!violation_.empty()) return;
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  violation_ = text;
  world_.Trace("VIOLATION: %s", text);
}

// ---- the data plane ----

// After recovery the run goes on from where it was: no step is lost but the one in flight, unless
// nobody who held the state is left.
void Oracle::OnRendezvous(const DataGroup& group, const std::vector<Process*>& ranks,
                          const ModelState& newest) {
  if (GivenUp(group.job, group.epoch)) return;
  Progress& progress = progress_[group.job];
  progress.epoch = group.epoch;
  const bool excused = rewound_.contains(group.job);
  uint64_t formed = 0;
  for (const auto& [key, row] : world_.disk().epochs) {
    if (row.job == group.job && row.epoch < group.epoch && row.formed_time != absl::InfinitePast())
      formed = row.epoch;
  }
  const bool survivors = formed != 0 && std::ranges::any_of(ranks, [&](const Process* rank) {
                           return rank->formed_epoch == formed;
                         });
  const bool undone = newest.rollbacks > progress.complete.rollbacks;
  if (undone) undone_.insert({group.job, group.undo_leap});
  for (const Process* const rank : ranks) {
    if (group.from_checkpoint || !rank->state || rank->corrupt) continue;
    if (rank->state->rollbacks > newest.rollbacks) {
      Violate("epoch %d of %s: rank %d had undone a leap that is part of the state again",
              Int(group.epoch), group.job.c_str(), rank->rank());
    }
  }
  if (survivors && !excused && !undone && newest.position < progress.complete.position) {
    Violate("epoch %d of %s goes back to step %d, though a survivor had completed step %d",
            Int(group.epoch), group.job.c_str(), Int(newest.position),
            Int(progress.complete.position));
  }
  if (survivors && !excused && group.from_checkpoint) {
    Violate("epoch %d of %s goes back to a checkpoint, though a survivor holds live state",
            Int(group.epoch), group.job.c_str());
  }
  const auto row = world_.disk().epochs.find({group.job, group.epoch});
  if (row == world_.disk().epochs.end() || row->second.members != group.members ||
      row->second.undo_leap != group.undo_leap) {
    Violate("epoch %d of %s meets, and is not in the ledger", Int(group.epoch), group.job.c_str());
  }
  progress.complete = newest;
}

void Oracle::OnReady(const Process& process, const machine::EpochReady& ready) {
  const std::string& name = const_cast<Process&>(process).agent().name;
  ready_[{ready.job, ready.epoch, name}] = {ready, process.state->leaps};
}

// The coordinator gave the group up, and a later one trains. Its ranks cannot know before they hear
// of it: a stopped process that goes on, say, whose machine closed its session. Nothing that they
// say counts, so they train in vain; but not for long once they can be told.
void Oracle::CheckInVain(DataGroup& group, const std::vector<Process*>& ranks) {
  const Micros now = world_.timeline().now();
  const bool reachable = std::ranges::any_of(ranks, [&](Process* rank) {
    const Agent& agent = rank->agent();
    return world_.CoordinatorListens() && agent.session != 0 && agent.partitioned_until <= now &&
           agent.slow_until <= now;
  });
  if (!reachable || group.told < 0) group.told = reachable ? now : -1;
  if (reachable && now - group.told > kSecond) {
    Violate("epoch %d of %s trains on, though epoch %d does and nothing keeps it from hearing so",
            Int(group.epoch), group.job.c_str(), Int(progress_[group.job].epoch));
  }
}

void Oracle::BeforeBoundary(DataGroup& group, const std::vector<Process*>& ranks) {
  if (GivenUp(group.job, group.epoch)) return CheckInVain(group, ranks);
  const Process* first = nullptr;
  for (const Process* const rank : ranks) {
    if (rank->corrupt) continue;
    if (first == nullptr) first = rank;
    if (!(*rank->state == *first->state)) {
      Violate("epoch %d of %s: ranks %d and %d begin a step with different state", Int(group.epoch),
              group.job.c_str(), first->rank(), rank->rank());
    }
  }
}

void Oracle::AfterBoundary(const DataGroup& group, const std::vector<Process*>& ranks) {
  Progress& progress = progress_[group.job];
  for (Process* const rank : ranks) {
    if (rank->corrupt) continue;
    CheckTrajectory(group.job, *rank->state);
    if (!GivenUp(group.job, group.epoch)) progress.complete = *rank->state;
  }
}

void Oracle::AfterMidAir(const DataGroup& group, const std::vector<Process*>& ranks) {
  for (Process* const rank : ranks) {
    if (rank->corrupt) continue;
    CheckTrajectory(group.job, *rank->state);
    if (rank->ended && !GivenUp(group.job, group.epoch)) progress_[group.job].alone = *rank->state;
  }
}

void Oracle::CheckTrajectory(const std::string& job, const ModelState& state) {
  const auto [known, fresh] = progress_[job].chain.try_emplace(
      {state.line, state.position, HashOf(state.leaps)}, state.weights);
  if (known->second == state.weights) return;
  Violate("%s at step %d is not where the same training led before", job.c_str(),
          Int(state.position));
}

void Oracle::OnUndo(const DataGroup& group, const std::vector<Process*>& ranks) {
  if (GivenUp(group.job, group.epoch)) return;
  const auto row = world_.disk().leaps.find({group.job, group.undo_leap});
  const bool ended = machine::IsEnded(world_.disk().jobs.at(group.job).state);  // cancelled since
  const bool decided =
      row != world_.disk().leaps.end() && (row->second.state == LeapState::kRollingBack || ended);
  if (!decided && !rewound_.contains(group.job)) {
    return Violate("leap %d of %s is undone, and the decision is not in the ledger",
                   Int(group.undo_leap), group.job.c_str());
  }
  if (undone_.contains({group.job, group.undo_leap})) {
    return Violate("leap %d of %s is undone twice", Int(group.undo_leap), group.job.c_str());
  }
  for (const Process* const rank : ranks) {
    const auto& leaps = rank->state->leaps;
    if (std::ranges::find(leaps, group.undo_leap) != leaps.end()) return;
  }
  Violate("leap %d of %s is undone, and is in nobody's weights", Int(group.undo_leap),
          group.job.c_str());
}

void Oracle::OnApply(const Process& process, uint64_t leap, uint64_t base, uint64_t candidate) {
  if (process.corrupt) return;
  const auto found = world_.disk().leaps.find({process.job(), leap});
  const bool known = found != world_.disk().leaps.end();
  const bool in_vain = GivenUp(process.job(), process.epoch());  // the next epoch settled it
  const bool decided = known && (found->second.state == LeapState::kCommitted ||
                                 (in_vain && found->second.state == LeapState::kExpired));
  if (!decided) {
    return Violate("leap %d of %s is applied, and its COMMIT is not in the ledger", Int(leap),
                   process.job().c_str());
  }
  const LeapRecord& row = found->second;
  if (row.epoch != process.epoch())
    Violate("leap %d was decided in epoch %d and is applied in %d", Int(leap), Int(row.epoch),
            Int(process.epoch()));
  if (row.base_digest != base || row.candidate_digest != candidate) {
    Violate("leap %d of %s is applied to other weights than were verified", Int(leap),
            process.job().c_str());
  }
  applied_.insert({process.job(), leap});
  if (std::ranges::find(process.state->leaps, leap) != process.state->leaps.end()) {
    Violate("leap %d of %s is applied twice", Int(leap), process.job().c_str());
  }
}

void Oracle::OnVote(const machine::PrepareVote& vote) {
  votes_[{vote.job, vote.epoch, vote.leap, vote.rank}] = vote;
}

// ---- the ledger ----

void Oracle::OnDurable(const std::vector<machine::Record>& records) {
  for (const machine::Record& record : records) {
    if (const auto* const epoch = std::get_if<EpochRecord>(&record)) CheckEpochRow(*epoch);
    if (const auto* const leap = std::get_if<LeapRecord>(&record)) CheckLeapRow(*leap);
    if (const auto* const snapshot = std::get_if<machine::SnapshotRecord>(&record))
      CheckSnapshotRow(*snapshot);
    if (const auto* const agent = std::get_if<machine::AgentRecord>(&record))
      CheckQuarantine(*agent);
    if (const auto* const event = std::get_if<machine::EventRecord>(&record)) CheckLoss(*event);
  }
}

void Oracle::CheckEpochRow(const EpochRecord& row) {
  const bool by_collective =
      row.state == EpochState::kEnded && row.reason.starts_with("a collective failed");
  if (by_collective && !failed_.contains({row.job, row.epoch})) {
    Violate("epoch %d of %s ended for a collective that failed in another epoch", Int(row.epoch),
            row.job.c_str());
  }
  if (row.state == EpochState::kForming && !checked_.contains({row.job, row.epoch})) {
    checked_.insert({row.job, row.epoch});
    CheckGuard(row);
  }
  if (row.state != EpochState::kFormed || !formed_.insert({row.job, row.epoch}).second) return;
  // The epoch that NaN ended may be written down as formed after that.
  const auto rewound = rewound_.find(row.job);
  if (rewound != rewound_.end() && row.epoch > rewound->second) rewound_.erase(rewound);
  std::vector<uint64_t> applied;
  for (const auto& [key, leap] : world_.disk().leaps) {
    if (leap.job == row.job && leap.state == LeapState::kApplied) applied.push_back(leap.leap);
  }
  for (const machine::Member& member : row.members) {
    const auto ready = ready_.find({row.job, row.epoch, member.agent});
    if (ready == ready_.end()) {
      return Violate("epoch %d of %s counts as formed, and %s was never in it", Int(row.epoch),
                     row.job.c_str(), member.agent.c_str());
    }
    const auto& [said, leaps] = ready->second;
    if (said.step != row.step || said.weights_digest != row.weights_digest) {
      Violate("epoch %d of %s is in the ledger at step %d, %s is at %d", Int(row.epoch),
              row.job.c_str(), Int(row.step), member.agent.c_str(), Int(said.step));
    }
    if (leaps != applied) {
      Violate("epoch %d of %s: the ledger has %d leaps applied, the weights have %d",
              Int(row.epoch), row.job.c_str(), Int(applied.size()), Int(leaps.size()));
    }
    Process* const process = world_.FindProcess(member.agent, member.incarnation);
    if (process != nullptr && process->job() == row.job && process->epoch() == row.epoch)
      process->formed_epoch = row.epoch;
  }
}

// Only the side with more than half of the main workers that are not dead may form an epoch; in a
// tie, the coordinator's.
void Oracle::CheckGuard(const EpochRecord& row) {
  const EpochRecord* before = nullptr;
  for (const auto& [key, other] : world_.disk().epochs) {
    if (other.job == row.job && other.epoch < row.epoch) before = &other;
  }
  if (before == nullptr) return;
  size_t here = 0, silent = 0;
  for (const machine::Member& member : before->members) {
    const bool seated = std::ranges::any_of(row.members, [&](const machine::Member& other) {
      return other.agent == member.agent && other.incarnation == member.incarnation;
    });
    here += seated;
    const Process* const process = world_.FindProcess(member.agent, member.incarnation);
    const auto barred = world_.disk().agents.find(member.agent);
    const bool expelled =
        barred != world_.disk().agents.end() && barred->second.incarnation == member.incarnation;
    if (seated || process == nullptr || process->said_goodbye || expelled) continue;
    const Agent& agent = world_.AgentNamed(member.agent);
    const bool unreachable = agent.partitioned_until > world_.timeline().now() ||
                             process->stopped_until > world_.timeline().now();
    silent += unreachable && agent.session != 0;
  }
  if (here * 2 < here + silent) {
    Violate("epoch %d of %s is formed by %d of its last %d members, %d are only silent",
            Int(row.epoch), row.job.c_str(), Int(here), Int(before->members.size()), Int(silent));
  }
}

void Oracle::CheckLeapRow(const LeapRecord& row) {
  const auto [known, fresh] = rows_.try_emplace({row.job, row.leap}, row);
  LeapRecord& before = known->second;
  if (before.base_step != row.base_step || before.epoch != row.epoch ||
      before.candidate_digest != row.candidate_digest) {
    Violate("the number of leap %d of %s is used twice", Int(row.leap), row.job.c_str());
  }
  if (!MayFollow(before.state, row.state)) {
    Violate("leap %d of %s was %s and becomes %s", Int(row.leap), row.job.c_str(),
            machine::LeapStateName(before.state), machine::LeapStateName(row.state));
  }
  if (fresh && row.state != LeapState::kPreparing && row.state != LeapState::kAborted) {
    Violate("leap %d of %s is %s without having been prepared", Int(row.leap), row.job.c_str(),
            machine::LeapStateName(row.state));
  }
  before = row;
  int in_flight = 0;
  for (const auto& [key, leap] : world_.disk().leaps) {
    in_flight += leap.job == row.job &&
                 (leap.state == LeapState::kPreparing || leap.state == LeapState::kCommitted);
  }
  if (in_flight > 1) Violate("%d leaps of %s are in flight", in_flight, row.job.c_str());
}

void Oracle::CheckSnapshotRow(const machine::SnapshotRecord& row) {
  if (row.discarded) return;  // nothing is made of it; the line it was on may be nobody's by now
  const auto& chain = progress_[row.job].chain;
  const bool real = std::ranges::any_of(chain, [&](const auto& state) {
    return std::get<1>(state.first) == row.data_position && state.second == row.weights_digest;
  });
  if (!real)
    Violate("%s has a snapshot at step %d of weights that no training led to", row.job.c_str(),
            Int(row.step));
  if (!row.scored) return;
  double mean = 0;
  for (const float loss : GateLosses(row.weights_digest, 4, false)) mean += loss / 4;
  if (!(std::fabs(mean - row.gate_loss) < 1e-4)) {
    Violate("the ledger has a false loss for %s at step %d: %f, not %f", row.job.c_str(),
            Int(row.step), row.gate_loss, mean);
  }
}

void Oracle::CheckQuarantine(const machine::AgentRecord& row) {
  const Agent& agent = world_.AgentNamed(row.agent);
  const bool tired = row.quarantine_reason.starts_with("failed");
  const Process* const process = world_.FindProcess(row.agent, row.incarnation);
  if (agent.ever_lied || agent.ever_corrupt || tired || process == nullptr) return;
  Violate("%s is in quarantine, and is honest: %s", row.agent.c_str(),
          row.quarantine_reason.c_str());
}

// Whoever is said to have given no sign of life for a lease was dead, stopped or cut off for as
// long, and did not only speak to a coordinator that stood still.
void Oracle::CheckLoss(const machine::EventRecord& row) {
  constexpr Micros kLeaseAndHeartbeat = 1400 * kMillisecond;
  if (row.sentence.find("no sign of life") == std::string::npos) return;
  for (const Agent& agent : world_.agents()) {
    const bool meant = row.sentence.starts_with(agent.name + ":") ||
                       row.sentence.find("(" + agent.name + ")") != std::string::npos;
    if (!meant || agent.process == nullptr || agent.session == 0 || agent.greeted < 0) continue;
    const Micros calm_since =
        std::max({agent.greeted, agent.process->stopped_until, agent.partitioned_until,
                  agent.slow_until + kLeaseAndHeartbeat});
    if (world_.Listened(calm_since, Timeline::MicrosOf(row.create_time)) > kLeaseAndHeartbeat) {
      Violate("%s counts as silent, and it spoke all the time: %s", agent.name.c_str(),
              row.sentence.c_str());
    }
  }
}

// ---- the wire ----

void Oracle::OnSend(const machine::Send& send) {
  std::visit([&](const auto& message) { CheckSend(send.agent, message); }, send.message);
}

void Oracle::CheckSend(const std::string& agent, const machine::AssignWorker& message) {
  const auto row = world_.disk().epochs.find({message.job, message.epoch});
  if (row == world_.disk().epochs.end() || row->second.members != message.members) {
    Violate("%s hears of epoch %d of %s, which is not in the ledger", agent.c_str(),
            Int(message.epoch), message.job.c_str());
  }
}

void Oracle::CheckSend(const std::string& agent, const machine::Prepare& message) {
  const auto row = world_.disk().leaps.find({message.job, message.leap});
  if (row == world_.disk().leaps.end() || row->second.base_step != message.base_step) {
    Violate("%s is asked to prepare leap %d of %s, which is not in the ledger", agent.c_str(),
            Int(message.leap), message.job.c_str());
  }
}

void Oracle::CheckSend(const std::string&, const machine::Decide& message) {
  if (!message.commit) return;
  const auto found = world_.disk().leaps.find({message.job, message.leap});
  if (found == world_.disk().leaps.end() || found->second.state != LeapState::kCommitted) {
    return Violate("COMMIT of leap %d of %s is sent, and is not in the ledger", Int(message.leap),
                   message.job.c_str());
  }
  const LeapRecord& row = found->second;
  const auto epoch = world_.disk().epochs.find({row.job, row.epoch});
  uint64_t sum = 0;
  for (int rank = 0; rank < Int(epoch->second.members.size()); ++rank) {
    const auto vote = votes_.find({row.job, message.epoch, row.leap, rank});
    if (vote == votes_.end() || !vote->second.ok) {
      return Violate("leap %d of %s is committed without the vote of rank %d in epoch %d",
                     Int(row.leap), row.job.c_str(), rank, Int(message.epoch));
    }
    sum += vote->second.shard_digest;
  }
  if (sum != row.candidate_digest)
    Violate("leap %d of %s is committed, and its shards do not add up", Int(row.leap),
            row.job.c_str());
}

void Oracle::CheckSend(const std::string& agent, const machine::Task&) {
  const auto row = world_.disk().agents.find(agent);
  const Process* const process = world_.AgentNamed(agent).process.get();
  if (row == world_.disk().agents.end() || process == nullptr) return;
  if (row->second.incarnation == process->incarnation())
    Violate("%s is in quarantine and is given a task", agent.c_str());
}

void Oracle::CheckSend(const std::string& agent, const machine::Release& message) {
  const auto job = world_.disk().jobs.find(message.job);
  if (job == world_.disk().jobs.end() || machine::IsEnded(job->second.state)) return;
  const EpochRecord* newest = nullptr;
  for (const auto& [key, row] : world_.disk().epochs) {
    if (row.job == message.job) newest = &row;
  }
  const Process* const process = world_.AgentNamed(agent).process.get();
  if (newest == nullptr || process == nullptr || newest->state == EpochState::kEnded ||
      process->state == std::nullopt)
    return;
  for (const machine::Member& member : newest->members) {
    if (member.agent == agent && member.incarnation == process->incarnation() &&
        process->epoch() == newest->epoch && !process->corrupt) {
      Violate("%s is released from %s, which has not ended and needs it", agent.c_str(),
              message.job.c_str());
    }
  }
}

void Oracle::OnReply(const machine::Reply& reply) {
  if (reply.status.ok() && !world_.disk().jobs.contains(reply.job)) {
    Violate("a person is told that %s is queued, and it is not in the ledger", reply.job.c_str());
  }
}

// ---- the end ----

// However the job ended: no leap counts as dropped that a rank of the last epoch has in its
// weights, none counts as applied that is in nobody's, and none waits to be undone.
void Oracle::CheckLeapsAtEnd(const std::string& job) {
  uint64_t newest = 0;  // that was formed
  for (const auto& [key, row] : world_.disk().epochs) {
    if (row.job == job && row.formed_time != absl::InfinitePast()) newest = row.epoch;
  }
  for (const auto& [key, leap] : world_.disk().leaps) {
    if (leap.job != job) continue;
    if (leap.state == LeapState::kRollingBack) {
      Violate("%s has ended, and leap %d is still being undone", job.c_str(), Int(leap.leap));
    }
    const bool applied = applied_.contains({job, leap.leap});
    const bool dropped = leap.state == LeapState::kExpired || leap.state == LeapState::kAborted;
    if (applied && dropped && newest <= leap.epoch) {
      Violate("%s has ended with leap %d %s, though a rank applied it", job.c_str(), Int(leap.leap),
              machine::LeapStateName(leap.state));
    }
    if (!applied && leap.state == LeapState::kApplied) {
      Violate("%s has ended with leap %d APPLIED, and no rank applied it", job.c_str(),
              Int(leap.leap));
    }
  }
}

void Oracle::AtEnd() {
  for (const JobPlan& plan : world_.jobs()) {
    const machine::JobRecord& row = world_.disk().jobs.at(plan.job);
    CheckLeapsAtEnd(plan.job);
    if (row.state == machine::JobState::kCancelled && plan.cancelled) continue;
    if (row.state != machine::JobState::kSucceeded) {
      if (may_fail_.contains(plan.job)) continue;  // NaN, and no checkpoint to go back to
      return Violate("%s ended as %s: %s", plan.job.c_str(), machine::JobStateName(row.state),
                     row.state_reason.c_str());
    }
    if (unnoticed_.contains(plan.job)) continue;
    const Progress& progress = progress_[plan.job];
    const bool alone = progress.alone.position > progress.complete.position;
    const ModelState& last = alone ? progress.alone : progress.complete;
    if (row.result.weights_digest != last.weights || row.result.step != last.step ||
        last.position != plan.request.spec.train.steps) {
      Violate("%s: the ledger's result is not what the ranks ended with", plan.job.c_str());
    }
    std::vector<uint64_t> applied;
    for (const auto& [key, leap] : world_.disk().leaps) {
      if (leap.job != plan.job) continue;
      if (leap.state == LeapState::kApplied) applied.push_back(leap.leap);
      if (leap.state == LeapState::kPreparing || leap.state == LeapState::kCommitted) {
        Violate("%s has ended, and leap %d is still %s", plan.job.c_str(), Int(leap.leap),
                machine::LeapStateName(leap.state));
      }
    }
    if (applied != last.leaps) {
      Violate("%s: the ledger has %d leaps applied, the weights have %d", plan.job.c_str(),
              Int(applied.size()), Int(last.leaps.size()));
    }
  }
}

}  // namespace leap::sim
