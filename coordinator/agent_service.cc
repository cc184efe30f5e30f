#include "coordinator/agent_service.h"

#include <deque>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/mutex.h"
#include "coordinator/wire.h"
#include "leap/v1/agent.grpc.pb.h"
#include "service/rpc_status.h"

namespace leap {
namespace {

class SessionReactor;

// What the runner holds of a stream. Outlives the reactor, which gRPC owns: `reactor` is cleared
// when it is done.
class Sink final : public SessionSink {
 public:
  explicit Sink(SessionReactor* reactor) : reactor_(reactor) {}
  void Send(v1::CoordinatorMessage message) override;
  void Close(const absl::Status& status) override;
  void Processed() override;
  void Detach() {
    MutexLock lock(&mutex_);
    reactor_ = nullptr;
  }

 private:
  Mutex mutex_;
  SessionReactor* reactor_ ABSL_GUARDED_BY(mutex_);
};

class SessionReactor final
    : public grpc::ServerBidiReactor<v1::AgentMessage, v1::CoordinatorMessage> {
 public:
  SessionReactor(Runner* runner, MetricsFeed* metrics, const AgentServiceLimits& limits,
                 const absl::StatusOr<Caller>& caller)
      : runner_(runner), metrics_(metrics), limits_(limits) {
    if (!caller.ok()) {
      metrics_->CountRefusedSession("unauthenticated");
      End(caller.status());
      return;
    }
    caller_ = caller->name;
    if (static_cast<int>(runner_->sessions()) >= limits_.max_sessions) {
      metrics_->CountRefusedSession("limit");
      End(MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kQuotaExceeded,
                    absl::StrCat("this coordinator serves ", limits_.max_sessions,
                                 " agents at most; stop some, or start another one")));
      return;
    }
    sink_ = std::make_shared<Sink>(this);
    session_ = runner_->OpenSession(sink_);
    StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return End(absl::OkStatus());
    metrics_->CountSessionMessage("in");
    {
      MutexLock lock(&mutex_);
      ++unprocessed_;
    }
    const absl::Status status = Take();
    MutexLock lock(&mutex_);
    if (!status.ok()) return EndLocked(status);
    if (unprocessed_ < limits_.unprocessed_messages) return ReadNext();
    held_back_ = true;
  }

  void Processed() {
    MutexLock lock(&mutex_);
    --unprocessed_;
    if (!held_back_ || unprocessed_ >= limits_.unprocessed_messages) return;
    held_back_ = false;
    ReadNext();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return End(absl::OkStatus());
    metrics_->CountSessionMessage("out");
    MutexLock lock(&mutex_);
    outbox_.pop_front();
    WriteNext();
  }

  void OnCancel() override { End(absl::OkStatus()); }

  void OnDone() override {
    if (sink_ != nullptr) {
      sink_->Detach();
      runner_->CloseSession(session_);
      if (!agent_.empty()) {
        // A full queue here is healed by the lease.
        (void)runner_->Post(machine::SessionClosed{agent_, incarnation_, session_});
      }
    }
    delete this;
  }

  void Send(v1::CoordinatorMessage message) {
    MutexLock lock(&mutex_);
    if (ended_) return;
    if (outbox_.size() >= limits_.outbox_messages) {
      metrics_->CountRefusedSession("slow");
      return EndLocked(MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kQueueFull,
                                 "the agent does not read what it is sent; reconnect"));
    }
    outbox_.push_back(std::move(message));
    if (outbox_.size() == 1) WriteNext();
  }

  // After what was sent before.
  void Close(const absl::Status& status) {
    MutexLock lock(&mutex_);
    if (ended_) return;
    if (outbox_.empty()) return EndLocked(status);
    closing_ = status;
    close_when_written_ = true;
  }

 private:
  absl::Status Take() {
    absl::StatusOr<machine::AgentMessage> message = FromWire(incoming_);
    if (!message.ok()) {
      metrics_->CountRefusedSession("protocol");
      return message.status();
    }
    auto* const hello = std::get_if<machine::Hello>(&*message);
    if ((hello != nullptr) != agent_.empty()) {
      metrics_->CountRefusedSession("protocol");
      return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kProtocolViolation,
                       "agent session: expected Hello first, and once");
    }
    if (hello != nullptr) {
      hello->caller = caller_;
      agent_ = hello->agent;
      incarnation_ = hello->incarnation;
    }
    if (runner_->Post(machine::AgentSaid{agent_, incarnation_, session_, *std::move(message)})) {
      return absl::OkStatus();
    }
    metrics_->CountDroppedEvent();
    return MakeError(absl::StatusCode::kUnavailable, ErrorReason::kQueueFull,
                     "the coordinator has too much to do; reconnect with backoff");
  }

  void End(const absl::Status& status) {
    MutexLock lock(&mutex_);
    EndLocked(status);
  }

  void EndLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ended_) return;
    ended_ = true;
    Finish(ToGrpcStatus(status));
  }

  void ReadNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!ended_) StartRead(&incoming_);
  }

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ended_) return;
    if (!outbox_.empty()) {
      StartWrite(&outbox_.front());
    } else if (close_when_written_) {
      EndLocked(closing_);
    }
  }

  Runner* const runner_;
  MetricsFeed* const metrics_;
  const AgentServiceLimits limits_;
  std::shared_ptr<Sink> sink_;  // shared with the runner
  uint64_t session_ = 0;
  v1::AgentMessage incoming_;  // gRPC's, between StartRead and OnReadDone
  std::string caller_;
  std::string agent_;
  uint64_t incarnation_ = 0;

  Mutex mutex_;
  std::deque<v1::CoordinatorMessage> outbox_ ABSL_GUARDED_BY(mutex_);  // front: being written
  int unprocessed_ ABSL_GUARDED_BY(mutex_) = 0;
  bool held_back_ ABSL_GUARDED_BY(mutex_) = false;  // not reading until there are fewer
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool close_when_written_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status closing_ ABSL_GUARDED_BY(mutex_);
};

void Sink::Send(v1::CoordinatorMessage message) {
  MutexLock lock(&mutex_);
  if (reactor_ != nullptr) reactor_->Send(std::move(message));
}

void Sink::Close(const absl::Status& status) {
  MutexLock lock(&mutex_);
  if (reactor_ != nullptr) reactor_->Close(status);
}

void Sink::Processed() {
  MutexLock lock(&mutex_);
  if (reactor_ != nullptr) reactor_->Processed();
}

class AgentServiceImpl final : public v1::AgentService::CallbackService {
 public:
  AgentServiceImpl(Runner* runner, const Authenticator* auth, MetricsFeed* metrics,
                   const AgentServiceLimits& limits)
      : runner_(runner), auth_(auth), metrics_(metrics), limits_(limits) {}

  grpc::ServerBidiReactor<v1::AgentMessage, v1::CoordinatorMessage>* Session(
      grpc::CallbackServerContext* context) override {
    const absl::StatusOr<Caller> caller = auth_->Check(*context, "/leap.v1.AgentService/Session");
    return new SessionReactor(runner_, metrics_, limits_, caller);  // gRPC's; deletes itself
  }

 private:
  Runner* const runner_;
  const Authenticator* const auth_;
  MetricsFeed* const metrics_;
  const AgentServiceLimits limits_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAgentService(Runner* runner, const Authenticator* auth,
                                                MetricsFeed* metrics,
                                                const AgentServiceLimits& limits) {
  return std::make_unique<AgentServiceImpl>(runner, auth, metrics, limits);
}

}  // namespace leap
