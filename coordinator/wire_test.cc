#include "coordinator/wire.h"

#include <functional>
#include <limits>
#include <random>

#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "google/protobuf/stubs/logging.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

v1::AgentMessage Hello() {
  v1::AgentMessage message;
  v1::Hello* hello = message.mutable_hello();
  hello->set_agent("w-1");
  hello->set_incarnation(7);
  hello->set_role(v1::ROLE_WORKER);
  hello->set_data_address("127.0.0.1:1");
  return message;
}

TEST(WireTest, AHelloKeepsItsIdentity) {
  ASSERT_OK_AND_ASSIGN(const machine::AgentMessage message, FromWire(Hello()));
  const auto& hello = std::get<machine::Hello>(message);
  EXPECT_EQ(hello.agent, "w-1");
  EXPECT_EQ(hello.incarnation, 7u);
  EXPECT_EQ(hello.role, machine::Role::kWorker);
}

TEST(WireTest, WhatCannotBeMeantIsRefusedWithTheFieldsName) {
  struct Case {
    const char* field;
    std::function<void(v1::AgentMessage&)> spoil;
  };
  const Case cases[] = {
      {"kind", [](auto& m) { m.Clear(); }},
      {"hello.agent", [](auto& m) { m.mutable_hello()->set_agent("a b"); }},
      {"hello.agent", [](auto& m) { m.mutable_hello()->set_agent(std::string(65, 'a')); }},
      {"hello.role", [](auto& m) { m.mutable_hello()->set_role(v1::ROLE_UNSPECIFIED); }},
      {"hello.incarnation", [](auto& m) { m.mutable_hello()->set_incarnation(0); }},
      {"hello.data_address", [](auto& m) { m.mutable_hello()->clear_data_address(); }},
      {"rank", [](auto& m) { m.mutable_prepare_vote()->set_rank(-1); }},
      {"snapshot_taken.others",
       [](auto& m) {
         for (int i = 0; i < 9; ++i) m.mutable_snapshot_taken()->add_others();
       }},
      {"snapshot_taken.begin", [](auto& m) { m.mutable_snapshot_taken()->set_begin(-4); }},
      {"task_result.gate_losses",
       [](auto& m) { m.mutable_task_result()->mutable_gate_losses()->Resize(70000, 0); }},
      {"task_result.scales",
       [](auto& m) { m.mutable_task_result()->mutable_scales()->Resize(70000, 0); }},
      {"snapshot_taken.state_digests",
       [](auto& m) { m.mutable_snapshot_taken()->mutable_state_digests()->Resize(9, 0); }},
      {"snapshot_taken.begin", [](auto& m) { m.mutable_snapshot_taken()->set_end(kHuge); }},
      {"job", [](auto& m) { m.mutable_prepare_vote()->set_job(std::string(257, 'j')); }},
      {"hello.step", [](auto& m) { m.mutable_hello()->set_step(-1); }},
      {"hello.store_address",
       [](auto& m) { m.mutable_hello()->set_store_address(std::string(257, 's')); }},
      {"heartbeat.step", [](auto& m) { m.mutable_heartbeat()->set_trained_steps(kHuge); }},
      {"epoch_ready.step", [](auto& m) { m.mutable_epoch_ready()->set_leaps_applied(-1); }},
      {"epoch_ready.last_leap", [](auto& m) { m.mutable_epoch_ready()->set_last_leap(~0ull); }},
      {"collective_failed.step", [](auto& m) { m.mutable_collective_failed()->set_step(-1); }},
      {"snapshot_taken.step", [](auto& m) { m.mutable_snapshot_taken()->set_step(kHuge); }},
      {"snapshot_taken.step",
       [](auto& m) { m.mutable_snapshot_taken()->set_data_position(kHuge); }},
      {"task_result.base_step", [](auto& m) { m.mutable_task_result()->set_base_step(-1); }},
      {"leap_outcome.step", [](auto& m) { m.mutable_leap_outcome()->set_boundary_step(-9); }},
      {"checkpoint_written.step", [](auto& m) { m.mutable_checkpoint_written()->set_step(kHuge); }},
      {"job_ended.result.step",
       [](auto& m) { m.mutable_job_ended()->mutable_result()->set_step(-1); }},
      {"training_started.data",
       [](auto& m) { m.mutable_training_started()->mutable_data()->set_tokens(-1); }},
  };
  for (const Case& c : cases) {
    v1::AgentMessage message = Hello();
    c.spoil(message);
    const absl::Status status = FromWire(message).status();
    EXPECT_EQ(ReasonOf(status), ErrorReason::kProtocolViolation) << c.field;
    EXPECT_NE(status.message().find(c.field), status.message().npos) << status;
  }
}

TEST(WireTest, AMeasureThatCannotBeCountsAsNothing) {
  for (const double bad : {-1.0, -1e300, kNan, kInf}) {
    v1::AgentMessage message;
    message.mutable_heartbeat()->set_busy_seconds(bad);
    message.mutable_heartbeat()->set_train_loss(bad);
    ASSERT_OK_AND_ASSIGN(const machine::AgentMessage out, FromWire(message));
    EXPECT_EQ(std::get<machine::Heartbeat>(out).busy_seconds, 0) << bad;
    EXPECT_THAT(std::get<machine::Heartbeat>(out).train_loss, testing::NanSensitiveDoubleEq(bad))
        << "a loss may be anything";
  }
}

TEST(WireTest, LongTextIsCutBetweenCharacters) {
  v1::AgentMessage message;
  message.mutable_goodbye()->set_reason(std::string(4095, 'a') + "\xCE\xB8");
  ASSERT_OK_AND_ASSIGN(const machine::AgentMessage out, FromWire(message));
  EXPECT_EQ(std::get<machine::Goodbye>(out).reason, std::string(4095, 'a'));
}

TEST(WireTest, BytesOfAnyKindAreRefusedOrUnderstoodButNeverFatal) {
  google::protobuf::LogSilencer silencer;
  std::mt19937 random(20261123);
  v1::AgentMessage full = Hello();
  full.mutable_task_result()->add_gate_losses(1);
  std::string seed = full.SerializeAsString();
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = seed;
    for (int n = random() % 4; n >= 0; --n) bytes[random() % bytes.size()] = random();
    v1::AgentMessage message;
    if (message.ParseFromString(bytes)) FromWire(message).status().IgnoreError();
  }
}

TEST(WireTest, ATaskArrivesAsItWasMeant) {
  machine::Task task{.job = "j", .epoch = 2, .task = 9};
  task.kind = machine::Task::Kind::kCandidate;
  task.snapshots = {{.step = 50, .weights_digest = ~0ull, .sources = {{"h:1", 0, 10, 0}}}};
  task.applied = {.leap = 4, .base_step = 0, .predictor = 0, .horizon_steps = 0, .scales = {0.5}};
  const v1::CoordinatorMessage message = ToWire(task);
  ASSERT_TRUE(message.has_task());
  EXPECT_EQ(message.task().kind(), v1::Task::CANDIDATE);
  EXPECT_EQ(message.task().snapshots(0).weights_digest(), ~0ull);
  EXPECT_EQ(message.task().snapshots(0).sources(0).end(), 10);
  EXPECT_EQ(message.task().applied().scales(0), 0.5);
}

}  // namespace
}  // namespace leap
