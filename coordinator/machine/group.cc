#include "coordinator/machine/group.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace leap::machine {

int64_t Group::step() const {
  int64_t step = 0;
  for (const GroupMember& member : members_) step = std::max(step, member.step);
  return step;
}

GroupMember* Group::Find(absl::string_view agent, uint64_t incarnation) {
  for (GroupMember& member : members_) {
    if (member.incarnation == incarnation && member.agent == agent) return &member;
  }
  return nullptr;
}

const GroupMember* Group::Find(absl::string_view agent, uint64_t incarnation) const {
  return const_cast<Group*>(this)->Find(agent, incarnation);
}

int Group::RankOf(absl::string_view agent, uint64_t incarnation) const {
  const GroupMember* const member = Find(agent, incarnation);
  return member == nullptr ? -1 : static_cast<int>(member - members_.data());
}

void Group::Propose(std::vector<GroupMember> members, bool from_checkpoint, uint64_t undo_leap,
                    bool reuse_number) {
  if (phase_ == Phase::kNone || !reuse_number) ++epoch_;
  phase_ = Phase::kProposed;
  members_ = std::move(members);
  from_checkpoint_ = from_checkpoint;
  undo_leap_ = undo_leap;
  collective_failed_.reset();
  for (GroupMember& member : members_) {
    member.ready.reset();
    member.ended = false;
    member.step = 0;
  }
}

void Group::StartForming(absl::Time deadline) {
  phase_ = Phase::kForming;
  deadline_ = deadline;
}

void Group::TakeBack(std::vector<GroupMember> former) {
  members_ = std::move(former);
  phase_ = members_.empty() ? Phase::kNone : Phase::kBroken;
}

bool Group::AllReady() const {
  return std::ranges::all_of(members_,
                             [](const GroupMember& member) { return member.ready.has_value(); });
}

std::string Group::Disagreement() const {
  const EpochReady& first = *members_.front().ready;
  for (size_t rank = 1; rank < members_.size(); ++rank) {
    const EpochReady& other = *members_[rank].ready;
    if (other.step == first.step && other.leaps_applied == first.leaps_applied &&
        other.weights_digest == first.weights_digest && other.last_leap == first.last_leap) {
      continue;
    }
    return absl::StrFormat(
        "rank 0 is at step %d with %d leaps and digest %016x, rank %d at step %d with %d leaps and "
        "digest %016x",
        first.step, first.leaps_applied, first.weights_digest, rank, other.step,
        other.leaps_applied, other.weights_digest);
  }
  return "";
}

void Group::Form() {
  phase_ = Phase::kFormed;
  failures_ = 0;
  const EpochReady& ready = *members_.front().ready;
  formed_step = ready.step;
  leaps_applied = ready.leaps_applied;
  weights_digest = ready.weights_digest;
  for (GroupMember& member : members_) {
    member.live = true;
    member.step = std::max(member.step, ready.step);
  }
}

void Group::Break(absl::Time now) {
  if (phase_ == Phase::kFormed || broken_ == absl::InfinitePast()) broken_ = now;
  if (phase_ != Phase::kFormed) ++failures_;
  phase_ = Phase::kBroken;
}

void Group::CollectiveFailed(absl::Time now) {
  if (!collective_failed_.has_value()) collective_failed_ = now;
}

void Group::StoodStill(absl::Duration gap) {
  if (collective_failed_.has_value()) *collective_failed_ += gap;
  deadline_ += gap;
  broken_ += gap;
}

bool Group::Healthy(const AgentRegistry& agents, absl::Time now, absl::Duration lease) const {
  if (collective_failed_.has_value()) return false;
  return std::ranges::all_of(members_, [&](const GroupMember& member) {
    const Agent* const agent = agents.Find(member.agent, member.incarnation);
    return agent != nullptr && !member.dead && !agent->left && agent->Connected() &&
           agent->Fresh(now, lease);
  });
}

std::vector<FormerMember> Group::Presences(const AgentRegistry& agents, absl::Time now,
                                           absl::Duration lease) const {
  std::vector<FormerMember> presences;
  presences.reserve(members_.size());
  for (const GroupMember& member : members_) {
    FormerMember former{.agent = member.agent,
                        .incarnation = member.incarnation,
                        .presence = Presence::kDead,
                        .live = member.live};
    const Agent* const agent = agents.Find(member.agent, member.incarnation);
    if (agent != nullptr && !member.dead && !agent->left) {
      const bool fresh = agent->Fresh(now, lease);
      former.presence = !fresh               ? Presence::kSilent
                        : agent->Connected() ? Presence::kAlive
                                             : Presence::kAway;
      former.closed = !agent->Connected() && agent->closed_early;
      former.last_seen =
          agent->Connected() ? agent->heartbeat : std::max(agent->closed, agent->heartbeat);
    }
    presences.push_back(std::move(former));
  }
  return presences;
}

StandingEpoch Group::Standing(const AgentRegistry& agents, absl::Time now,
                              absl::Duration lease) const {
  return {.members = Presences(agents, now, lease), .collective_failed = collective_failed_};
}

EpochRecord Group::Row(absl::string_view job) const {
  EpochRecord row{.job = std::string(job),
                  .epoch = epoch_,
                  .state = phase_ == Phase::kFormed   ? EpochState::kFormed
                           : phase_ == Phase::kBroken ? EpochState::kEnded
                                                      : EpochState::kForming,
                  .reason = reason,
                  .from_checkpoint = from_checkpoint_,
                  .undo_leap = undo_leap_,
                  .step = formed_step,
                  .leaps_applied = leaps_applied,
                  .weights_digest = weights_digest,
                  .create_time = create_time,
                  .formed_time = formed_time};
  for (size_t rank = 0; rank < members_.size(); ++rank) {
    const GroupMember& member = members_[rank];
    row.members.push_back({.agent = member.agent,
                           .incarnation = member.incarnation,
                           .role = member.role,
                           .rank = static_cast<int>(rank),
                           .data_address = member.data_address,
                           .state = member.live ? "live" : "joining"});
  }
  return row;
}

void Group::Restore(const EpochRecord& row, absl::Time now) {
  epoch_ = row.epoch;
  from_checkpoint_ = row.from_checkpoint;
  undo_leap_ = row.undo_leap;
  reason = row.reason;
  formed_step = row.step;
  leaps_applied = row.leaps_applied;
  weights_digest = row.weights_digest;
  create_time = row.create_time;
  formed_time = row.formed_time;
  members_.clear();
  for (const Member& member : row.members) {
    members_.push_back({.agent = member.agent,
                        .incarnation = member.incarnation,
                        .role = member.role,
                        .data_address = member.data_address,
                        .live = member.state == "live",
                        .step = row.step});
  }
  phase_ = row.state == EpochState::kFormed    ? Phase::kFormed
           : row.state == EpochState::kForming ? Phase::kForming
                                               : Phase::kBroken;
  if (phase_ != Phase::kFormed) broken_ = now;
}

}  // namespace leap::machine
