#include "coordinator/machine/batch.h"

#include "absl/strings/str_cat.h"

namespace leap::machine {

void Batch::Send(const Agent& agent, CoordinatorMessage message) {
  if (!agent.Connected()) return;
  actions_.sends.push_back({agent.name, agent.session, std::move(message)});
}

void Batch::Send(absl::string_view agent, uint64_t incarnation, CoordinatorMessage message) {
  const Agent* const found = agents_.Find(agent, incarnation);
  if (found != nullptr) Send(*found, std::move(message));
}

void Batch::SendStale(const Agent& agent, absl::string_view job, uint64_t epoch,
                      absl::string_view what) {
  Count(Metric::kRefused, {std::string(what)});
  Send(agent, Stale{.job = std::string(job), .epoch = epoch, .what = std::string(what)});
}

void Batch::Release(Agent& agent, absl::string_view job, absl::string_view reason) {
  agent.use = Use::kReleasing;
  agent.job = std::string(job);
  Send(agent, machine::Release{.job = std::string(job), .reason = std::string(reason)});
}

Actions Batch::TakeActions() {
  actions_.changed.assign(changed_.begin(), changed_.end());
  return std::move(actions_);
}

}  // namespace leap::machine
