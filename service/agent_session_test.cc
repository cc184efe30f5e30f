#include "service/agent_session.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/mutex.h"
#include "base/status_matchers.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "leap/v1/agent.grpc.pb.h"
#include "service/rpc_status.h"
#include "service/server.h"

namespace leap {
namespace {

using ServerStream = grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::AgentMessage>;

// Something that threads add to and a test waits for.
template <typename T>
class Seen {
 public:
  void Add(T value) {
    MutexLock lock(&mutex_);
    values_.push_back(std::move(value));
  }
  // True as soon as `count` have been added; false after ten seconds.
  bool WaitFor(size_t count) {
    MutexLock lock(&mutex_);
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return values_.size() >= count;
    };
    return mutex_.AwaitWithTimeout(Condition(&enough), absl::Seconds(10));
  }
  std::vector<T> values() {
    MutexLock lock(&mutex_);
    return values_;
  }

 private:
  Mutex mutex_;
  std::vector<T> values_ ABSL_GUARDED_BY(mutex_);
};

// A coordinator of paper: answers Hello by `welcome`, keeps what it hears, sends one Release for
// each EpochReady.
class PaperCoordinator final : public v1::AgentService::Service {
 public:
  grpc::Status Session(grpc::ServerContext*, ServerStream* stream) override {
    v1::AgentMessage message;
    if (!stream->Read(&message)) return grpc::Status::OK;
    hellos.Add(message.hello());
    if (!refusal.ok()) return ToGrpcStatus(refusal);
    if (welcomes) {
      v1::CoordinatorMessage first;
      first.mutable_welcome()->set_heartbeat_seconds(heartbeat_seconds);
      first.mutable_welcome()->set_lease_seconds(5);
      first.mutable_welcome()->set_coordinator_incarnation(99);
      stream->Write(first);
    }
    while (stream->Read(&message)) {
      heard.Add(message);
      if (message.has_epoch_ready()) {
        v1::CoordinatorMessage release;
        release.mutable_release()->set_job(message.epoch_ready().job());
        stream->Write(release);
      }
      if (message.has_job_ended()) return grpc::Status(grpc::UNAVAILABLE, "going down");
    }
    return grpc::Status::OK;
  }

  absl::Status refusal;
  bool welcomes = true;
  double heartbeat_seconds = 60;
  Seen<v1::Hello> hellos;
  Seen<v1::AgentMessage> heard;
};

class AgentSessionTest : public testing::Test {
 protected:
  void StartServer(const std::string& listen = "127.0.0.1:0") {
    auto server = RpcServer::Start({.listen = listen}, {&coordinator_});
    ASSERT_OK(server);
    server_ = *std::move(server);
    options_.coordinator = server_->address();
  }

  void StartSession() {
    AgentSessionCallbacks callbacks;
    callbacks.hello = [this] {
      v1::Hello hello;
      hello.set_agent("w0");
      hello.set_step(step_++);
      return hello;
    };
    callbacks.heartbeat = [] { return v1::Heartbeat(); };
    callbacks.on_message = [this](const v1::CoordinatorMessage& message) {
      received_.Add(message);
    };
    callbacks.on_connected = [this](const v1::Welcome& welcome) { connected_.Add(welcome); };
    callbacks.on_disconnected = [this](const absl::Status& status) { disconnected_.Add(status); };
    auto session = AgentSession::Start(options_, std::move(callbacks));
    ASSERT_OK(session);
    session_ = *std::move(session);
  }

  static v1::AgentMessage Ready(const std::string& job) {
    v1::AgentMessage message;
    message.mutable_epoch_ready()->set_job(job);
    return message;
  }

  PaperCoordinator coordinator_;
  std::unique_ptr<RpcServer> server_;
  AgentSessionOptions options_{
      .backoff = {.initial = absl::Milliseconds(5), .max = absl::Milliseconds(50)}, .seed = 1};
  int64_t step_ = 10;
  Seen<v1::CoordinatorMessage> received_;
  Seen<v1::Welcome> connected_;
  Seen<absl::Status> disconnected_;
  std::unique_ptr<AgentSession> session_;
};

TEST_F(AgentSessionTest, SaysHelloThenExchangesMessagesInOrder) {
  StartServer();
  StartSession();
  ASSERT_TRUE(connected_.WaitFor(1));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(session_->Send(Ready(absl::StrCat("job-", i))));
  ASSERT_TRUE(received_.WaitFor(100));
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(received_.values()[i].release().job(), absl::StrCat("job-", i));
  EXPECT_EQ(coordinator_.hellos.values()[0].agent(), "w0");
  EXPECT_TRUE(session_->info().connected);
  EXPECT_EQ(session_->info().coordinator_incarnation, 99u);
  EXPECT_EQ(session_->info().lease, absl::Seconds(5));
}

TEST_F(AgentSessionTest, BeatsAtTheIntervalOfTheWelcome) {
  coordinator_.heartbeat_seconds = 0.01;
  StartServer();
  StartSession();
  ASSERT_TRUE(coordinator_.heard.WaitFor(5));
  for (const auto& message : coordinator_.heard.values()) EXPECT_TRUE(message.has_heartbeat());
}

TEST_F(AgentSessionTest, ConnectsAgainWithAFreshHelloWhenTheCoordinatorComesBack) {
  StartServer();
  const std::string address = server_->address();
  StartSession();
  ASSERT_TRUE(connected_.WaitFor(1));
  server_->Shutdown(absl::ZeroDuration());
  ASSERT_TRUE(disconnected_.WaitFor(1));
  EXPECT_FALSE(session_->Send(Ready("lost")));
  EXPECT_FALSE(session_->info().connected);
  EXPECT_GT(session_->info().last_connected, absl::InfinitePast());

  StartServer(address);
  ASSERT_TRUE(connected_.WaitFor(2));
  EXPECT_EQ(session_->info().connects, 2);
  const auto hellos = coordinator_.hellos.values();
  EXPECT_LT(hellos[0].step(), hellos[1].step());
  EXPECT_TRUE(session_->Send(Ready("again")));
  EXPECT_TRUE(received_.WaitFor(1));
}

TEST_F(AgentSessionTest, GoesOnTryingWhileNobodyAnswers) {
  StartServer();
  const std::string address = server_->address();
  server_.reset();
  StartSession();
  ASSERT_TRUE(disconnected_.WaitFor(1));
  EXPECT_THAT(disconnected_.values()[0], StatusIs(absl::StatusCode::kUnavailable));
  StartServer(address);
  EXPECT_TRUE(connected_.WaitFor(1));
}

TEST_F(AgentSessionTest, TellsTheStatusWithWhichTheCoordinatorEndedIt) {
  StartServer();
  StartSession();
  ASSERT_TRUE(connected_.WaitFor(1));
  v1::AgentMessage ended;
  ended.mutable_job_ended();
  ASSERT_TRUE(session_->Send(ended));
  ASSERT_TRUE(disconnected_.WaitFor(1));
  EXPECT_THAT(disconnected_.values()[0], StatusIs(absl::StatusCode::kUnavailable, "going down"));
  EXPECT_TRUE(connected_.WaitFor(2));
}

TEST_F(AgentSessionTest, GivesUpWhenToldThatItIsWrong) {
  coordinator_.refusal =
      MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kProtocolViolation, "bad name");
  StartServer();
  StartSession();
  ASSERT_TRUE(disconnected_.WaitFor(1));
  session_->Stop("", absl::ZeroDuration());
  EXPECT_TRUE(session_->info().ended);
  EXPECT_THAT(session_->info().last_error,
              StatusIs(absl::StatusCode::kInvalidArgument, "bad name"));
  EXPECT_EQ(coordinator_.hellos.values().size(), 1u);
}

TEST_F(AgentSessionTest, TriesAgainWhileItsNameIsTaken) {
  coordinator_.refusal = absl::AlreadyExistsError("another process holds w0");
  StartServer();
  StartSession();
  ASSERT_TRUE(coordinator_.hellos.WaitFor(3));
  EXPECT_EQ(disconnected_.values().size(), 1u) << "the same reason is told once";
}

TEST_F(AgentSessionTest, GivesUpAConnectionThatIsNotWelcomedInTime) {
  coordinator_.welcomes = false;
  options_.connect_timeout = absl::Milliseconds(50);
  StartServer();
  StartSession();
  EXPECT_TRUE(coordinator_.hellos.WaitFor(2));
  EXPECT_TRUE(connected_.values().empty());
}

TEST_F(AgentSessionTest, DropsWhatTheOutboxCannotHold) {
  options_.outbox_messages = 0;
  StartServer();
  StartSession();
  ASSERT_TRUE(connected_.WaitFor(1));
  EXPECT_FALSE(session_->Send(Ready("a")));
}

TEST_F(AgentSessionTest, SaysGoodbyeAfterWhatWasQueued) {
  StartServer();
  StartSession();
  ASSERT_TRUE(connected_.WaitFor(1));
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(session_->Send(Ready("a")));
  session_->Stop("SIGTERM", absl::Seconds(10));
  EXPECT_FALSE(session_->Send(Ready("late")));
  std::vector<v1::AgentMessage> ready;
  for (const auto& message : coordinator_.heard.values()) {
    if (!message.has_heartbeat()) ready.push_back(message);
  }
  ASSERT_EQ(ready.size(), 51u);
  EXPECT_EQ(ready.back().goodbye().reason(), "SIGTERM");
}

TEST_F(AgentSessionTest, StopsInTimeWhenTheCoordinatorDoesNotListen) {
  coordinator_.welcomes = false;
  StartServer();
  StartSession();
  ASSERT_TRUE(coordinator_.hellos.WaitFor(1));
  session_->Stop("", absl::Milliseconds(10));
  EXPECT_TRUE(session_->info().ended);
}

TEST_F(AgentSessionTest, RefusesOptionsThatCannotWork) {
  options_.coordinator = "nowhere";
  EXPECT_THAT(AgentSession::Start(options_, {}), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace leap
