// The agents' sessions over real streams: those that behave, those that lie, flood, stay silent or
// are not let in.
#include "coordinator/agent_service.h"

#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "coordinator/test_cluster.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "leap/v1/agent.grpc.pb.h"
#include "service/rpc_status.h"
#include "service/test_dir.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

// A stream without any manners of its own.
class RawSession {
 public:
  explicit RawSession(const std::string& address, const std::string& token = "") {
    ChannelOptions options{.token = token};
    stub_ = v1::AgentService::NewStub(*MakeChannel(address, options));
    PrepareCall(options, absl::Seconds(20), &context_);
    stream_ = stub_->Session(&context_);
  }
  bool Write(const v1::AgentMessage& message) { return stream_->Write(message); }
  bool Read(v1::CoordinatorMessage* message) { return stream_->Read(message); }
  void Cancel() { context_.TryCancel(); }
  absl::Status End() {
    v1::CoordinatorMessage message;
    while (stream_->Read(&message)) {
    }
    return FromGrpcStatus(stream_->Finish());
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<v1::AgentService::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::AgentMessage, v1::CoordinatorMessage>> stream_;
};

v1::AgentMessage Hello(const std::string& name, uint64_t incarnation = 1) {
  v1::AgentMessage message;
  v1::Hello* hello = message.mutable_hello();
  hello->set_agent(name);
  hello->set_incarnation(incarnation);
  hello->set_role(v1::ROLE_WORKER);
  hello->set_data_address("127.0.0.1:1");
  hello->set_store_address("127.0.0.1:2");
  return message;
}

class AgentServiceTest : public testing::Test {
 protected:
  TestCoordinatorOptions Options() const { return {.state_dir = dir_.path()}; }
  TestDir dir_;
};

TEST_F(AgentServiceTest, WelcomesWithIncarnationBeatAndLease) {
  TestCoordinator coordinator(Options());
  PaperAgent agent(coordinator.address(), "w0", v1::ROLE_WORKER);
  ASSERT_TRUE(agent.WaitConnected());
  EXPECT_NE(agent.info().coordinator_incarnation, 0u);
  EXPECT_GT(agent.info().lease, absl::ZeroDuration());
  EXPECT_EQ(coordinator.runner().sessions(), 1u);
}

TEST_F(AgentServiceTest, TheFirstMessageIsAHelloAndThereIsOne) {
  TestCoordinator coordinator(Options());
  RawSession rude(coordinator.address());
  v1::AgentMessage beat;
  beat.mutable_heartbeat();
  rude.Write(beat);
  EXPECT_THAT(rude.End(), HasReason(ErrorReason::kProtocolViolation));
  RawSession twice(coordinator.address());
  twice.Write(Hello("w0"));
  twice.Write(Hello("w1"));
  EXPECT_THAT(twice.End(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("once")));
}

TEST_F(AgentServiceTest, RefusesFieldsOutOfRangeByName) {
  TestCoordinator coordinator(Options());
  RawSession bad(coordinator.address());
  bad.Write(Hello("a name with spaces"));
  EXPECT_THAT(bad.End(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("hello.agent")));
}

TEST_F(AgentServiceTest, ASecondLiveProcessOfTheSameNameIsTurnedAway) {
  TestCoordinator coordinator(Options());
  PaperAgent agent(coordinator.address(), "w0", v1::ROLE_WORKER);
  ASSERT_TRUE(agent.WaitConnected());
  RawSession twin(coordinator.address());
  twin.Write(Hello("w0", 77));
  EXPECT_THAT(twin.End(), StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("w0")));
  EXPECT_TRUE(agent.info().connected);
}

TEST_F(AgentServiceTest, AStreamThatSaysNothingIsEnded) {
  TestCoordinatorOptions options = Options();
  options.runner.hello_timeout = absl::Milliseconds(50);
  TestCoordinator coordinator(options);
  RawSession silent(coordinator.address());
  EXPECT_THAT(silent.End(), StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("Hello")));
}

TEST_F(AgentServiceTest, ThereAreOnlySoManySessions) {
  TestCoordinatorOptions options = Options();
  options.agents.max_sessions = 1;
  TestCoordinator coordinator(options);
  PaperAgent agent(coordinator.address(), "w0", v1::ROLE_WORKER);
  ASSERT_TRUE(agent.WaitConnected());
  RawSession extra(coordinator.address());
  EXPECT_THAT(extra.End(), HasReason(ErrorReason::kQuotaExceeded));
}

TEST_F(AgentServiceTest, OnlyWorkersGetIn) {
  TestCoordinatorOptions options = Options();
  const std::string ann(32, 'a'), pool(32, 'p');
  options.auth = {.required = true,
                  .token_file = dir_.Write(
                      "tokens", absl::StrCat(ann, " viewer ann\n", pool, " worker pool\n"))};
  TestCoordinator coordinator(options);
  RawSession nobody(coordinator.address()), viewer(coordinator.address(), ann);
  nobody.Write(Hello("w0"));
  viewer.Write(Hello("w0"));
  EXPECT_THAT(nobody.End(), HasReason(ErrorReason::kUnauthenticated));
  EXPECT_THAT(viewer.End(), HasReason(ErrorReason::kPermissionDenied));
  EXPECT_EQ(coordinator.runner().sessions(), 0u);
  PaperAgent agent(coordinator.address(), "w0", v1::ROLE_WORKER, pool);
  EXPECT_TRUE(agent.WaitConnected());
}

TEST_F(AgentServiceTest, ANameBelongsToWhoeverHoldsIt) {
  TestCoordinatorOptions options = Options();
  const std::string pool(32, 'p'), evil(32, 'e');
  options.auth = {.required = true,
                  .token_file = dir_.Write(
                      "tokens", absl::StrCat(pool, " worker pool\n", evil, " worker evil\n"))};
  TestCoordinator coordinator(options);
  PaperAgent agent(coordinator.address(), "w0", v1::ROLE_WORKER, pool);
  ASSERT_TRUE(agent.WaitConnected());
  RawSession impostor(coordinator.address(), evil);
  impostor.Write(Hello("w0", 77));
  EXPECT_THAT(impostor.End(),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("held by 'pool'")));
  EXPECT_TRUE(agent.info().connected);
}

TEST_F(AgentServiceTest, AMessageThatIsTooLongEndsTheStreamOnly) {
  TestCoordinator coordinator(Options());
  PaperAgent agent(coordinator.address(), "w0", v1::ROLE_WORKER);
  ASSERT_TRUE(agent.WaitConnected());
  RawSession giant(coordinator.address());
  v1::AgentMessage hello = Hello("w1");
  hello.mutable_hello()->set_version(std::string(5 << 20, 'x'));
  giant.Write(hello);
  EXPECT_THAT(giant.End(), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_TRUE(agent.info().connected);
}

// A stranger that votes, reports and ends what is not its own, as fast as it can, changes nothing.
TEST_F(AgentServiceTest, AMaliciousAgentMovesNothing) {
  TestCoordinatorOptions options = Options();
  options.agents.unprocessed_messages = 4;
  TestCoordinator coordinator(options);
  TestClient client(coordinator.address());
  PaperAgent worker(coordinator.address(), "w0", v1::ROLE_WORKER);
  ASSERT_OK_AND_ASSIGN(v1::Job job, client.Create(PaperJob("a")));
  ASSERT_OK(client.WaitFor(job.job(), v1::Job::RUNNING));

  RawSession evil(coordinator.address());
  evil.Write(Hello("evil"));
  std::thread reader([&] {
    v1::CoordinatorMessage message;
    while (evil.Read(&message)) {
    }
  });
  for (int i = 0; i < 3000; ++i) {
    v1::AgentMessage lie;
    switch (i % 5) {
      case 0: {
        auto* ended = lie.mutable_job_ended();
        ended->set_job(job.job());
        ended->set_epoch(1);
        break;
      }
      case 1: {
        auto* failed = lie.mutable_collective_failed();
        failed->set_job(job.job());
        failed->set_epoch(1);
        break;
      }
      case 2: {
        auto* taken = lie.mutable_snapshot_taken();
        taken->set_job(job.job());
        taken->set_epoch(1);
        taken->set_step(50);
        taken->set_end(1000);
        break;
      }
      case 3: {
        auto* vote = lie.mutable_prepare_vote();
        vote->set_job(job.job());
        vote->set_epoch(1);
        vote->set_leap(1);
        vote->set_ok(true);
        break;
      }
      case 4: {
        auto* ready = lie.mutable_epoch_ready();
        ready->set_job(job.job());
        ready->set_epoch(2);
        break;
      }
    }
    if (!evil.Write(lie)) break;
  }
  v1::AgentMessage goodbye;
  goodbye.mutable_goodbye();
  evil.Write(goodbye);

  ASSERT_OK_AND_ASSIGN(v1::Job now, client.WaitUntil(job.job(), [](const v1::Job& j) {
    return j.progress().step() > 3;
  }));
  EXPECT_EQ(now.state(), v1::Job::RUNNING);
  EXPECT_EQ(now.epoch(), 1u);
  EXPECT_TRUE(worker.info().connected);
  evil.Cancel();
  reader.join();
}

}  // namespace
}  // namespace leap
