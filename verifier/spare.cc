#include "verifier/spare.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace leap {

SpareAgent::SpareAgent(VerifierAgent* verifier, RankAgent* rank)
    : verifier_(verifier),
      rank_(rank),
      scoring_(verifier->Callbacks()),
      training_(rank->Callbacks()) {}

// A rank that has been released and has dropped its job makes room for the verifier.
const AgentSessionCallbacks& SpareAgent::OnDuty() {
  if (has_rank_ && rank_->idle()) {
    has_rank_ = false;
    LogInfo("stands-in-no-more");
  }
  return has_rank_ ? training_ : scoring_;
}

AgentSessionCallbacks SpareAgent::Callbacks() {
  return {.hello =
              [this] {
                MutexLock lock(&mutex_);
                return OnDuty().hello();
              },
          .heartbeat =
              [this] {
                MutexLock lock(&mutex_);
                return OnDuty().heartbeat();
              },
          .on_message = [this](const v1::CoordinatorMessage& message) { OnMessage(message); },
          .on_connected =
              [this](const v1::Welcome& welcome) {
                MutexLock lock(&mutex_);
                OnDuty().on_connected(welcome);
              },
          .on_disconnected =
              [this](const absl::Status& status) {
                MutexLock lock(&mutex_);
                OnDuty().on_disconnected(status);
              }};
}

void SpareAgent::OnMessage(const v1::CoordinatorMessage& message) {
  MutexLock lock(&mutex_);
  if (message.has_assign_worker()) {
    const v1::AssignWorker& assign = message.assign_worker();
    if (!std::exchange(has_rank_, true)) {
      LogInfo("stands-in", {{"job", assign.job()}, {"rank", assign.rank()}});
      verifier_->StepAside(
          absl::StrCat("takes rank ", assign.rank(), " of epoch ", assign.epoch()));
    }
    return training_.on_message(message);
  }
  if (message.has_assign_verifier() && has_rank_) {  // replaces what it was doing
    v1::CoordinatorMessage release;
    release.mutable_release()->set_job(message.assign_verifier().job());
    release.mutable_release()->set_reason("assigned as a verifier");
    training_.on_message(release);
    has_rank_ = false;
  }
  OnDuty().on_message(message);
}

absl::StatusOr<PinnedRange> SpareHoldings::Pin(const v1::FetchRequest& request) {
  absl::StatusOr<PinnedRange> held = rank_->Pin(request);
  return held.ok() || !absl::IsNotFound(held.status()) ? held : verifier_->Pin(request);
}

std::vector<v1::Holding> SpareHoldings::ListHoldings(const std::string& job) {
  std::vector<v1::Holding> held = rank_->ListHoldings(job);
  return held.empty() ? verifier_->ListHoldings(job) : held;
}

}  // namespace leap
