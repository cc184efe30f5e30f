// Collectives of one epoch: a boundary is reached by all ranks or by none, except that a failure in
// mid-air may let some of them complete it. What a rank needs from its peers it gets at the
// rendezvous.
#include <algorithm>

#include "tests/sim/world.h"

namespace leap::sim {

namespace {

constexpr Micros kStep = 45 * kMillisecond;
constexpr Micros kCollectiveTimeout = 1500 * kMillisecond;

const JobSpec& SpecOf(World& world, const std::string& job) {
  return std::ranges::find(world.jobs(), job, &JobPlan::job)->request.spec;
}

}  // namespace

DataGroup& World::GroupOf(const machine::AssignWorker& assignment) {
  DataGroup& group = groups_[{assignment.job, assignment.epoch}];
  if (group.members.empty()) {
    group.job = assignment.job;
    group.epoch = assignment.epoch;
    group.members = assignment.members;
    group.checkpoint_path = assignment.checkpoint_path;
    group.from_checkpoint = assignment.from_checkpoint;
    group.undo_leap = assignment.undo_leap;
    group.joined.resize(assignment.members.size());
    group.held.resize(assignment.members.size());
  }
  if (group.members != assignment.members || group.from_checkpoint != assignment.from_checkpoint ||
      group.undo_leap != assignment.undo_leap) {
    oracle_.Violate("epoch %d of %s was given to two different groups",
                    static_cast<int>(assignment.epoch), assignment.job.c_str());
  }
  return group;
}

void World::Join(Process& process, const machine::AssignWorker& assignment) {
  DataGroup& group = GroupOf(assignment);
  if (!oracle_.violation().empty()) return;
  group.joined[process.rank()] = true;
  if (group.over || group.meeting ||
      !std::ranges::all_of(group.joined, [](bool joined) { return joined; }))
    return;
  group.meeting = true;
  timeline_.After(random_.In(3, 20) * kMillisecond, [this, &group] { Rendezvous(group); });
}

void World::Leave(Process& process) {
  if (!process.InEpoch(process.job(), process.epoch())) return;
  const auto found = groups_.find({process.job(), process.epoch()});
  if (found == groups_.end() || process.rank() < 0) return;
  found->second.held[process.rank()] = process.held_leap;
}

std::vector<Process*> World::Here(const DataGroup& group) {
  std::vector<Process*> here;
  for (const machine::Member& member : group.members) {
    Process* const process = FindProcess(member.agent, member.incarnation);
    if (process != nullptr && process->InEpoch(group.job, group.epoch)) here.push_back(process);
  }
  return here;
}

World::Condition World::ConditionOf(const DataGroup& group) {
  const std::vector<Process*> here = Here(group);
  if (here.size() < group.members.size()) return Condition::kBroken;
  const bool hanging = std::ranges::any_of(here, [&](Process* process) {
    const bool cut_off = process->agent().data_partitioned_until > timeline_.now();
    return process->stopped_until > timeline_.now() || (cut_off && here.size() > 1);
  });
  return hanging ? Condition::kHanging : Condition::kFine;
}

bool World::Hang(DataGroup& group, void (World::*again)(DataGroup&)) {
  if (group.hanging < 0) group.hanging = timeline_.now();
  const bool alone = group.members.size() == 1;  // nobody is left to give up waiting for it
  if (!alone && timeline_.now() - group.hanging >= kCollectiveTimeout) return false;
  timeline_.After(15 * kMillisecond, [this, &group, again] { (this->*again)(group); });
  return true;
}

void World::Fail(DataGroup& group) {
  group.over = true;
  for (Process* const process : Here(group)) {
    process->Later(random_.In(2, 12) * kMillisecond,
                   [epoch = group.epoch, job = group.job](Process& rank) {
                     if (rank.InEpoch(job, epoch)) rank.CollectiveBroke();
                   });
  }
}

// ---- rendezvous ----

// The newest live state: the one that more was undone in, then the higher step, then the more
// leaps; a state with a flipped bit only if there is no other.
const ModelState* World::NewestState(const std::vector<Process*>& ranks) {
  const Process* best = nullptr;
  const bool resurrect = options_.mutation == machine::Mutation::kResurrectUndone;
  const auto value = [&](const Process& rank) {
    return std::tuple(!rank.corrupt, resurrect ? 0 : rank.state->rollbacks, rank.state->position,
                      rank.state->leaps.size());
  };
  for (const Process* const rank : ranks) {
    if (!rank->state) continue;
    if (best == nullptr || value(*rank) > value(*best)) best = rank;
  }
  return best == nullptr ? nullptr : &*best->state;
}

ModelState World::Stored(const DataGroup& group) {
  const Checkpoint* found = nullptr;
  for (const Checkpoint& checkpoint : checkpoints_) {
    const bool named = group.checkpoint_path.empty() ? checkpoint.job == group.job
                                                     : checkpoint.path == group.checkpoint_path;
    if (named) found = &checkpoint;  // the last one written
  }
  return found != nullptr ? found->state : FreshState(SpecOf(*this, group.job).train.seed);
}

// What the ranks go on from if all of them kept their shard of the state before the leap that this
// epoch is to undo, and the leap is still part of the newest state.
std::optional<ModelState> World::StateBeforeLeap(const DataGroup& group,
                                                 const std::vector<Process*>& ranks,
                                                 std::string& problem) {
  if (group.undo_leap == 0) return std::nullopt;
  const ModelState* const newest = NewestState(ranks);
  if (!group.from_checkpoint && (newest == nullptr || newest->last_leap() < group.undo_leap))
    return std::nullopt;  // it has been done
  const ModelState* before = nullptr;
  for (const Process* const rank : ranks) {
    const ModelState* const kept = rank->Before(group.undo_leap);
    if (kept == nullptr || (before != nullptr && !(*kept == *before))) {
      problem = "rank " + std::to_string(rank->rank()) + " did not keep the state before it";
      return std::nullopt;
    }
    before = kept;
  }
  ModelState state = *before;
  ++state.rollbacks;
  return state;
}

// A rank dies while the shards are gathered: some of the others have them all, some do not.
bool World::DieWhileUndoing(DataGroup& group, const std::vector<Process*>& ranks,
                            const ModelState& before) {
  const bool may = (options_.faults & kKillWorker) != 0 && timeline_.now() < faults_end_;
  if (!may || ranks.size() < 2 || !random_.Percent(30)) return false;
  const auto victim = static_cast<size_t>(random_.In(0, static_cast<int64_t>(ranks.size()) - 1));
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (i != victim && random_.Percent(50)) ranks[i]->Undo(group.undo_leap, before);
  }
  Agent& agent = ranks[victim]->agent();
  KillProcess(agent);
  timeline_.After(random_.In(20, 1500) * kMillisecond, [this, &agent] { StartProcess(agent); });
  Fail(group);
  return true;
}

void World::Rendezvous(DataGroup& group) {
  if (group.over || !oracle_.violation().empty()) return;
  const Condition condition = ConditionOf(group);
  if (condition == Condition::kBroken) return Fail(group);
  if (condition == Condition::kHanging) {
    if (!Hang(group, &World::Rendezvous)) Fail(group);
    return;
  }
  group.hanging = -1;
  const std::vector<Process*> ranks = Here(group);
  ModelState newest;
  std::string problem;
  const std::optional<ModelState> before = StateBeforeLeap(group, ranks, problem);
  if (before) {
    oracle_.OnUndo(group, ranks);
    if (DieWhileUndoing(group, ranks, *before)) return;
    newest = *before;
    for (Process* const rank : ranks) rank->Undo(group.undo_leap, newest);
  } else if (group.from_checkpoint) {
    newest = Stored(group);
  } else if (const ModelState* const live = NewestState(ranks); live != nullptr) {
    newest = *live;
  } else {
    return oracle_.Violate("epoch %d of %s: nobody holds state, and nobody may read a checkpoint",
                           static_cast<int>(group.epoch), group.job.c_str());
  }
  const bool false_line =
      !before && !group.from_checkpoint && std::ranges::none_of(ranks, [](const Process* rank) {
        return rank->state && !rank->corrupt;
      });
  if (false_line) newest.line = ++false_lines_;
  oracle_.OnRendezvous(group, ranks, newest);
  Trace("data: %s epoch %d meets at step %d", group.job.c_str(), static_cast<int>(group.epoch),
        static_cast<int>(newest.step));
  ++result_.epochs;
  const bool undone = newest.last_leap() < group.undo_leap;
  if (undone) problem.clear();
  const std::string source = group.from_checkpoint && !before ? "checkpoint" : "";
  for (Process* const rank : ranks) rank->Ready(newest, source, undone, problem);
  if (newest.step >= SpecOf(*this, group.job).train.steps) {
    for (Process* const rank : ranks) rank->End();
    return;
  }
  timeline_.After(kStep, [this, &group] { Boundary(group); });
}

// ---- boundaries ----

void World::Boundary(DataGroup& group) {
  if (group.over || !oracle_.violation().empty()) return;
  const Condition condition = ConditionOf(group);
  if (condition == Condition::kBroken) {
    FailInMidAir(group);
    return Fail(group);
  }
  if (condition == Condition::kHanging) {
    if (!Hang(group, &World::Boundary)) Fail(group);
    return;
  }
  group.hanging = -1;
  const std::vector<Process*> ranks = Here(group);
  if (std::ranges::any_of(ranks, &Process::reports_nan)) {  // the loss is the same on all
    oracle_.OnRewind(group.job, group.epoch);
    group.over = true;
    for (Process* const rank : ranks) rank->StopForNan();
    return;
  }
  if (!std::ranges::all_of(ranks, [](const Process* rank) { return rank->paused; })) {
    const uint64_t leap = ranks.front()->held_leap;
    const bool agreed = std::ranges::all_of(
        ranks, [&](const Process* rank) { return rank->HoldsApplicable(leap); });
    oracle_.BeforeBoundary(group, ranks);
    Complete(group, ranks, agreed ? leap : 0);
    oracle_.AfterBoundary(group, ranks);
    if (!oracle_.violation().empty() || ranks.front()->ended) return;
  }
  timeline_.After(kStep + random_.In(0, 5) * kMillisecond, [this, &group] { Boundary(group); });
}

void World::Complete(DataGroup& group, const std::vector<Process*>& ranks, uint64_t leap) {
  const JobSpec& spec = SpecOf(*this, group.job);
  const int64_t next = ranks.front()->state->position + 1;
  const bool snapshot = spec.leap.enabled && next % spec.leap.interval_steps == 0;
  if (leap != 0) {
    Trace("data: %s epoch %d applies leap %d after step %d", group.job.c_str(),
          static_cast<int>(group.epoch), static_cast<int>(leap), static_cast<int>(next));
  }
  for (Process* const rank : ranks)
    rank->Train(leap, snapshot,
                ranks.front()->state->step >= spec.train.steps - (rank == ranks.front() ? 1 : 0));
}

// A rank died in the collective: what it sent may have reached some of the others, and those
// complete the step; the leap too, if all agreed.
void World::FailInMidAir(DataGroup& group) {
  std::vector<Process*> ranks = Here(group);
  std::erase_if(
      ranks, [&](Process* rank) { return rank->mode != Process::Mode::kTraining || rank->paused; });
  const bool stalled = std::ranges::any_of(
      ranks, [&](Process* rank) { return rank->stopped_until > timeline_.now(); });
  if (ranks.empty() || stalled || !random_.Percent(30)) return;
  uint64_t leap = ranks.front()->held_leap;
  for (size_t rank = 0; rank < group.members.size(); ++rank) {
    const Process* const process =
        FindProcess(group.members[rank].agent, group.members[rank].incarnation);
    const bool here = process != nullptr && process->InEpoch(group.job, group.epoch);
    if (!(here ? process->HoldsApplicable(leap) : group.held[rank] == leap)) leap = 0;
  }
  std::erase_if(ranks, [&](Process*) { return random_.Percent(50); });
  if (ranks.empty()) return;
  Complete(group, ranks, leap);
  oracle_.AfterMidAir(group, ranks);
}

}  // namespace leap::sim
