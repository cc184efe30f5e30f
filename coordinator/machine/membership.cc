#include "coordinator/machine/membership.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace leap::machine {
namespace {

std::string Names(const std::vector<FormerMember>& members, Presence presence) {
  std::vector<std::string> names;
  for (const FormerMember& member : members) {
    if (member.presence == presence) names.push_back(member.agent);
  }
  return absl::StrJoin(names, ", ");
}

int Count(const std::vector<FormerMember>& members, Presence presence) {
  return static_cast<int>(std::ranges::count(members, presence, &FormerMember::presence));
}

bool AnyLive(const std::vector<FormerMember>& members, Presence presence) {
  return std::ranges::any_of(members, [&](const FormerMember& member) {
    return member.live && member.presence == presence;
  });
}

// What a wait, as such, settles: an away member that is overdue, a silence that has lasted too
// long, a closed session that nobody is left to confirm.
std::vector<FormerMember> Settle(absl::Time now, std::vector<FormerMember> members,
                                 const MembershipOptions& options) {
  const bool live_here = AnyLive(members, Presence::kAlive);
  const bool somebody_here = Count(members, Presence::kAlive) + Count(members, Presence::kAway) > 0;
  for (FormerMember& member : members) {
    const absl::Duration gone = now - member.last_seen;
    if (member.presence == Presence::kAway && member.closed && live_here &&
        gone >= options.reconnect_grace) {
      member.presence = Presence::kDead;
    }
    if (member.presence != Presence::kSilent) continue;
    if (gone >= options.silent_death || (member.closed && !somebody_here)) {
      member.presence = Presence::kDead;
    }
  }
  return members;
}

// Why no epoch may be formed yet; nothing: one may.
std::optional<Wait> Objection(const std::vector<FormerMember>& members,
                              const MembershipOptions& options) {
  if (Count(members, Presence::kAway) > 0) {
    return Wait{
        .what = "members",
        .reason = absl::StrCat("waits for ", Names(members, Presence::kAway), " to reconnect"),
        .resolution = "it comes back; if it does not, its lease decides"};
  }
  const int alive = Count(members, Presence::kAlive);
  const int not_dead = static_cast<int>(members.size()) - Count(members, Presence::kDead);
  if (!options.guard) return std::nullopt;
  constexpr char kSilence[] =
      "they come back, are started again, or stay silent for as long as "
      "timeouts.job_start_seconds";
  if (alive * 2 < not_dead) {
    return Wait{.what = "members",
                .reason = absl::StrCat("only ", alive, " of ", not_dead,
                                       " main workers can be reached, too few to go on without ",
                                       Names(members, Presence::kSilent)),
                .resolution = kSilence};
  }
  const bool live_here = AnyLive(members, Presence::kAlive);
  if (!live_here && AnyLive(members, Presence::kSilent)) {
    return Wait{
        .what = "members",
        .reason = absl::StrCat("nobody who can be reached holds the job's state; waits for ",
                               Names(members, Presence::kSilent)),
        .resolution = kSilence};
  }
  return std::nullopt;
}

Wait ForWorkers(const MembershipState& state, const MembershipOptions& options, int seats,
                int needed) {
  const int fewest = std::max(state.min_replicas, 1);
  Wait wait{.what = "workers",
            .reason = absl::StrCat("waits for ", needed - seats, " more main worker",
                                   needed - seats == 1 ? "" : "s", ": ", seats, " of ", needed,
                                   seats == 1 ? " is here" : " are here"),
            .resolution = "start leap-worker or free one"};
  if (needed < state.replicas || state.former.empty() || seats < fewest) return wait;
  wait.until = state.broken + options.grace;
  absl::StrAppend(&wait.resolution, "; after the failure rule's grace it goes on with ", seats);
  return wait;
}

// Survivors keep their ranks; spares fill the holes, the best first; what stays empty is closed up.
// Without replacement spares are taken only as far as the job could not go on otherwise.
std::vector<Seat> FillSeats(const MembershipState& state, const std::vector<FormerMember>& former,
                            bool replace) {
  const size_t places = std::max<size_t>(former.size(), state.replicas);
  std::vector<Seat> seats(places);
  for (size_t rank = 0; rank < former.size(); ++rank) {
    const FormerMember& member = former[rank];
    if (member.presence != Presence::kAlive) continue;
    seats[rank] = {member.agent, member.incarnation, member.live};
  }
  size_t wanted = former.empty() || replace ? state.replicas : std::max(state.min_replicas, 1);
  wanted -= std::min<size_t>(
      wanted, std::ranges::count_if(seats, [](const Seat& seat) { return !seat.agent.empty(); }));
  size_t next = 0;
  for (Seat& seat : seats) {
    if (!seat.agent.empty() || next == wanted || next == state.spares.size()) continue;
    seat = {state.spares[next].agent, state.spares[next].incarnation, false};
    ++next;
  }
  std::erase_if(seats, [](const Seat& seat) { return seat.agent.empty(); });
  if (seats.size() > static_cast<size_t>(state.replicas)) seats.resize(state.replicas);
  return seats;
}

std::string FormReason(const std::vector<FormerMember>& former, const std::vector<Seat>& seats,
                       bool from_checkpoint) {
  if (former.empty()) return absl::StrCat("first epoch, ", seats.size(), " main workers");
  std::vector<std::string> newcomers;
  for (const Seat& seat : seats) {
    const bool was = std::ranges::any_of(
        former, [&](const FormerMember& member) { return member.agent == seat.agent; });
    if (!was) newcomers.push_back(seat.agent);
  }
  return absl::StrCat(
      seats.size(), " main workers",
      newcomers.empty() ? "" : absl::StrCat(", new: ", absl::StrJoin(newcomers, ", ")),
      from_checkpoint ? ", from the newest checkpoint" : ", state from a peer");
}

}  // namespace

const char* PresenceName(Presence presence) {
  switch (presence) {
    case Presence::kAlive:
      return "alive";
    case Presence::kAway:
      return "away";
    case Presence::kSilent:
      return "silent";
    case Presence::kDead:
      return "dead";
  }
  return "unknown";
}

MembershipDecision DecideMembers(absl::Time now, const MembershipState& state,
                                 const MembershipOptions& options) {
  const std::vector<FormerMember> former = Settle(now, state.former, options);
  if (!former.empty()) {
    std::optional<Wait> objection = Objection(former, options);
    if (objection.has_value()) return {.wait = *std::move(objection)};
  }
  MembershipDecision decision{.form = true, .seats = FillSeats(state, former, options.replace)};
  const int seats = static_cast<int>(decision.seats.size());
  const bool grace_over =
      !former.empty() && (!options.replace || now - state.broken >= options.grace);
  const int needed = grace_over ? std::max(state.min_replicas, 1) : state.replicas;
  if (seats < needed) return {.wait = ForWorkers(state, options, seats, needed)};
  decision.from_checkpoint = std::ranges::none_of(decision.seats, &Seat::live);
  decision.reason = FormReason(former, decision.seats, decision.from_checkpoint);
  return decision;
}

BreakDecision DecideBreak(absl::Time now, const StandingEpoch& epoch,
                          absl::Duration collective_grace, bool guard) {
  const std::vector<FormerMember>& members = epoch.members;
  const bool failed = epoch.collective_failed.has_value();
  if (failed && now - *epoch.collective_failed < collective_grace) {
    return {.wait = Wait{.what = "group",
                         .reason = "a collective failed; listens whose session closes",
                         .resolution = "the epoch ends in a moment",
                         .until = *epoch.collective_failed + collective_grace}};
  }
  BreakDecision decision;
  for (size_t rank = 0; rank < members.size(); ++rank) {
    const Presence presence = members[rank].presence;
    const bool lost = presence == Presence::kDead || presence == Presence::kSilent ||
                      (failed && presence == Presence::kAway && members[rank].closed);
    if (lost) decision.lost.push_back(static_cast<int>(rank));
  }
  if (decision.lost.empty() && !failed) {
    if (Count(members, Presence::kAway) == 0) return {};
    return {.wait = Wait{.what = "group",
                         .reason = absl::StrCat("the session of ", Names(members, Presence::kAway),
                                                " is closed"),
                         .resolution = "it reconnects, or its lease is over and the epoch ends; "
                                       "training goes on meanwhile"}};
  }
  const int here = Count(members, Presence::kAlive) + Count(members, Presence::kAway);
  const int not_dead = static_cast<int>(members.size()) - Count(members, Presence::kDead);
  const bool only_silent = !failed && Count(members, Presence::kDead) == 0;
  if (only_silent && guard && here * 2 < not_dead) {
    return {
        .wait = Wait{
            .what = "group",
            .reason = absl::StrCat("cannot reach ", Names(members, Presence::kSilent),
                                   ", the larger part of the group: it may be training on, so "
                                   "it is left alone"),
            .resolution = "it comes back, a collective fails, or its machines are started again"}};
  }
  decision.broken = true;
  decision.cause = decision.lost.empty() ? "collective-failed" : "worker-lost";
  std::vector<std::string> names;
  for (const int rank : decision.lost) {
    names.push_back(absl::StrCat("rank ", rank, " (", members[rank].agent, ")"));
  }
  decision.reason = names.empty()
                        ? std::string("a collective failed though every main worker is here")
                        : absl::StrCat("lost ", absl::StrJoin(names, ", "));
  return decision;
}

std::string DecideGrow(absl::Time now, const SmallEpoch& epoch, absl::Duration grow_after) {
  const int grown = std::min(epoch.replicas, epoch.world_size + epoch.idle_workers);
  if (grown <= epoch.world_size || now - epoch.formed < grow_after) return "";
  return absl::StrCat("grows from ", epoch.world_size, " to ", grown, " of ", epoch.replicas,
                      " main workers: ", grown - epoch.world_size, " came free");
}

}  // namespace leap::machine
