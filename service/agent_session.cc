#include "service/agent_session.h"

#include <atomic>
#include <deque>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "leap/v1/agent.grpc.pb.h"
#include "service/rpc_status.h"

namespace leap {
namespace {

using Stream = grpc::ClientReaderWriter<v1::AgentMessage, v1::CoordinatorMessage>;

// A stream that lived so long was a good one: the next outage starts with the shortest wait.
constexpr absl::Duration kSettled = absl::Seconds(5);

absl::Time Now() { return RealClock().Now(); }

bool RetryByDefault(const absl::Status& status) {
  return !absl::IsInvalidArgument(status) && !absl::IsUnimplemented(status);
}

class Session final : public AgentSession {
 public:
  Session(const AgentSessionOptions& options, AgentSessionCallbacks callbacks,
          std::shared_ptr<grpc::Channel> channel)
      : options_(options),
        callbacks_(std::move(callbacks)),
        stub_(v1::AgentService::NewStub(std::move(channel))),
        backoff_(options.backoff, options.seed != 0 ? options.seed : NewIncarnation()) {
    info_.changed = Now();
    info_.last_connected = absl::InfinitePast();
    session_thread_ = std::thread([this] { RunSessions(); });
    writer_thread_ = std::thread([this] { RunWriter(); });
  }

  ~Session() override { Stop("", absl::ZeroDuration()); }

  bool Send(v1::AgentMessage message) override {
    MutexLock lock(&mutex_);
    if (stream_ == nullptr || stopping_ || outbox_.size() >= options_.outbox_messages) return false;
    outbox_.push_back(std::move(message));
    return true;
  }

  AgentSessionInfo info() const override {
    MutexLock lock(&mutex_);
    return info_;
  }

  void Stop(const std::string& reason, absl::Duration timeout) override;

 private:
  // Session thread.
  void RunSessions();
  absl::Status RunOneSession();
  absl::Status SayHello(Stream* stream, v1::Welcome* welcome);
  absl::Status Close(Stream* stream, grpc::ClientContext* context, absl::Status why);
  bool GoOnAfter(const absl::Status& status);

  // Writer thread.
  void RunWriter();
  absl::Time NextDue() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<v1::AgentMessage> NextMessage() ABSL_LOCKS_EXCLUDED(mutex_);

  void SetConnected(bool connected) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (info_.connected == connected) return;
    info_.connected = connected;
    info_.changed = Now();
    info_.last_connected = info_.changed;
    if (connected) ++info_.connects;
  }

  const AgentSessionOptions options_;
  const AgentSessionCallbacks callbacks_;
  const std::unique_ptr<v1::AgentService::Stub> stub_;
  Backoff backoff_;        // session thread
  absl::Status reported_;  // session thread: the last error told to on_disconnected

  mutable Mutex mutex_;
  AgentSessionInfo info_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::AgentMessage> outbox_ ABSL_GUARDED_BY(mutex_);
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;  // of the call under way
  Stream* stream_ ABSL_GUARDED_BY(mutex_) = nullptr;  // between Welcome and the end: may be written
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;      // the writer is inside Write
  absl::Time welcome_due_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  absl::Time beat_due_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  absl::Duration beat_interval_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool drained_ ABSL_GUARDED_BY(mutex_) =
      false;  // stopping: everything is written, WritesDone said
  bool session_done_ ABSL_GUARDED_BY(mutex_) = false;

  Mutex stop_mutex_;  // one Stop at a time
  std::thread session_thread_;
  std::thread writer_thread_;
};

void Session::Stop(const std::string& reason, absl::Duration timeout) {
  MutexLock stop_lock(&stop_mutex_);
  if (!session_thread_.joinable()) return;
  {
    MutexLock lock(&mutex_);
    if (stream_ != nullptr) outbox_.emplace_back().mutable_goodbye()->set_reason(reason);
    stopping_ = true;
    const auto done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return session_done_ || (stream_ == nullptr && context_ == nullptr);
    };
    mutex_.AwaitWithTimeout(Condition(&done), timeout);
    if (context_ != nullptr) context_->TryCancel();
  }
  session_thread_.join();
  writer_thread_.join();
}

// ---- session thread ----

void Session::RunSessions() {
  for (;;) {
    const absl::Time began = Now();
    const absl::Status status = RunOneSession();
    if (Now() - began > kSettled) backoff_.Reset();
    if (!GoOnAfter(status)) break;
    MutexLock lock(&mutex_);
    const auto stop = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; };
    if (mutex_.AwaitWithTimeout(Condition(&stop), backoff_.Next())) break;
  }
  MutexLock lock(&mutex_);
  info_.ended = true;
  session_done_ = true;
}

// Tells the owner, unless it asked for the end; says whether to connect again.
bool Session::GoOnAfter(const absl::Status& status) {
  {
    MutexLock lock(&mutex_);
    ++info_.failures;
    info_.last_error = status;
    if (stopping_) return false;
  }
  if (status != reported_ && callbacks_.on_disconnected) callbacks_.on_disconnected(status);
  reported_ = status;
  return callbacks_.retry ? callbacks_.retry(status) : RetryByDefault(status);
}

absl::Status Session::RunOneSession() {
  grpc::ClientContext context;
  PrepareCall(options_.channel, absl::InfiniteDuration(), &context);
  {
    MutexLock lock(&mutex_);
    if (stopping_) return absl::CancelledError("stopped");
    context_ = &context;
    welcome_due_ = Now() + options_.connect_timeout;
  }
  const std::unique_ptr<Stream> stream = stub_->Session(&context);
  v1::Welcome welcome;
  if (absl::Status status = SayHello(stream.get(), &welcome); !status.ok()) {
    return Close(stream.get(), &context, std::move(status));
  }
  {
    MutexLock lock(&mutex_);
    welcome_due_ = absl::InfiniteFuture();
    beat_interval_ = absl::Seconds(welcome.heartbeat_seconds());
    beat_due_ = Now();
    info_.coordinator_incarnation = welcome.coordinator_incarnation();
    info_.lease = absl::Seconds(welcome.lease_seconds());
    stream_ = stream.get();
    SetConnected(true);
  }
  reported_ = absl::OkStatus();
  if (callbacks_.on_connected) callbacks_.on_connected(welcome);
  v1::CoordinatorMessage message;
  while (stream->Read(&message)) callbacks_.on_message(message);
  return Close(stream.get(), &context, absl::OkStatus());
}

absl::Status Session::SayHello(Stream* stream, v1::Welcome* welcome) {
  v1::AgentMessage hello;
  *hello.mutable_hello() = callbacks_.hello();
  v1::CoordinatorMessage first;
  if (!stream->Write(hello) || !stream->Read(&first)) {
    return MakeError(absl::StatusCode::kUnavailable, ErrorReason::kCoordinatorUnreachable,
                     absl::StrCat("no welcome from the coordinator at ", options_.coordinator));
  }
  const double beat = first.welcome().heartbeat_seconds();
  if (!first.has_welcome() || !(beat >= 0.001 && beat <= 3600)) {
    return MakeError(absl::StatusCode::kUnavailable, ErrorReason::kProtocolViolation,
                     absl::StrCat(options_.coordinator, " did not answer Hello with a Welcome"));
  }
  *welcome = first.welcome();
  return absl::OkStatus();
}

// Ends the call and tells why it ended: the coordinator's status if it gave one, else `why`.
absl::Status Session::Close(Stream* stream, grpc::ClientContext* context, absl::Status why) {
  {
    MutexLock lock(&mutex_);
    stream_ = nullptr;
    beat_due_ = absl::InfiniteFuture();
    outbox_.clear();
    SetConnected(false);
    const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !writing_; };
    // A write on an ended stream fails at once; one that does not is held up by the peer.
    if (!mutex_.AwaitWithTimeout(Condition(&idle), absl::Milliseconds(200))) {
      context->TryCancel();
      mutex_.Await(Condition(&idle));
    }
    if (absl::IsUnavailable(why) && ReasonOf(why) == ErrorReason::kProtocolViolation) {
      context->TryCancel();
    }
  }
  absl::Status end = FromGrpcStatus(stream->Finish());
  MutexLock lock(&mutex_);
  const bool timed_out = welcome_due_ <= Now();
  context_ = nullptr;
  welcome_due_ = absl::InfiniteFuture();
  if (absl::IsCancelled(end) && timed_out) {
    return WithContext(
        why, absl::StrCat("gave up after ", absl::FormatDuration(options_.connect_timeout)));
  }
  if (absl::IsCancelled(end) && !why.ok()) return why;
  if (!end.ok()) {
    const absl::string_view hint = TlsHint(end.message(), options_.channel.tls);
    return hint.empty() ? end : WithContext(end, hint);
  }
  if (!why.ok()) return why;
  return MakeError(absl::StatusCode::kUnavailable, ErrorReason::kCoordinatorUnreachable,
                   "the coordinator ended the session");
}

// ---- writer thread ----

absl::Time Session::NextDue() const { return stream_ != nullptr ? beat_due_ : welcome_due_; }

void Session::RunWriter() {
  while (true) {
    Stream* stream = nullptr;
    std::optional<v1::AgentMessage> message = NextMessage();
    {
      MutexLock lock(&mutex_);
      if (session_done_) return;
      if (stream_ == nullptr || drained_) continue;
      if (!message && !(stopping_ && outbox_.empty())) continue;
      if (!message) drained_ = true;
      stream = stream_;
      writing_ = true;
    }
    // Nobody holds the lock here; Close waits for writing_ before it ends the stream.
    const bool ok = message ? stream->Write(*message) : stream->WritesDone();
    MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok && stream_ == stream) {
      stream_ = nullptr;  // the reader finds the end, too, and says why
      SetConnected(false);
    }
  }
}

// Waits for something to do: what to write now, or nothing (look again).
std::optional<v1::AgentMessage> Session::NextMessage() {
  {
    MutexLock lock(&mutex_);
    const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return session_done_ || (stream_ != nullptr && !drained_ && (!outbox_.empty() || stopping_));
    };
    const absl::Time due = NextDue();
    // A short bound, since what is due changes when a stream comes or goes.
    mutex_.AwaitWithDeadline(Condition(&ready), std::min(due, Now() + absl::Milliseconds(50)));
    if (session_done_) return std::nullopt;
    if (stream_ == nullptr) {
      if (context_ != nullptr && Now() >= welcome_due_) context_->TryCancel();
      return std::nullopt;
    }
    if (Now() < beat_due_ || stopping_) {
      if (outbox_.empty()) return std::nullopt;
      v1::AgentMessage message = std::move(outbox_.front());
      outbox_.pop_front();
      return message;
    }
    beat_due_ = Now() + beat_interval_;
  }
  std::optional<v1::Heartbeat> heartbeat = callbacks_.heartbeat();
  if (!heartbeat) return std::nullopt;
  v1::AgentMessage message;
  *message.mutable_heartbeat() = *std::move(heartbeat);
  return message;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AgentSession>> AgentSession::Start(
    const AgentSessionOptions& options, AgentSessionCallbacks callbacks) {
  if (!callbacks.hello || !callbacks.heartbeat || !callbacks.on_message) {
    return absl::InvalidArgumentError("hello, heartbeat and on_message are required");
  }
  LEAP_ASSIGN_OR_RETURN(auto channel, MakeChannel(options.coordinator, options.channel));
  return std::make_unique<Session>(options, std::move(callbacks), std::move(channel));
}

}  // namespace leap
