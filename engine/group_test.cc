// The process group: collectives, and above all how they are given up.
#include "engine/group.h"

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The ranks of one epoch as threads of this process, over loopback.
class GroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::signal(SIGPIPE,
                SIG_IGN);  // as StopSignal does in a program: Gloo writes to closed sockets
    ASSERT_OK_AND_ASSIGN(store_, StoreServer::Start("127.0.0.1"));
  }
  void TearDown() override {
    groups_.clear();
    EXPECT_TRUE(DrainGroups(absl::Seconds(15)));
  }

  GroupOptions Options(int rank, int world_size) const {
    return {.store_address = "127.0.0.1:" + std::to_string(store_->port()),
            .prefix = "job/" + std::to_string(epoch_),
            .rank = rank,
            .world_size = world_size,
            .timeout = timeout_,
            .join_timeout = absl::Seconds(10)};
  }

  void JoinAll(int world_size) {
    ++epoch_;
    groups_.clear();
    groups_.resize(static_cast<size_t>(world_size));
    interrupts_.clear();
    for (int i = 0; i < world_size; ++i) interrupts_.push_back(std::make_shared<Interrupt>());
    OnEachRank(world_size, [&](int rank) {
      auto group = Group::Join(Options(rank, world_size), interrupts_[static_cast<size_t>(rank)]);
      ASSERT_OK(group);
      groups_[static_cast<size_t>(rank)] = *std::move(group);
    });
  }

  static void OnEachRank(int world_size, const std::function<void(int)>& run) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < world_size; ++rank) threads.emplace_back([&run, rank] { run(rank); });
    for (std::thread& thread : threads) thread.join();
  }

  Group& group(int rank) { return *groups_[static_cast<size_t>(rank)]; }
  Interrupt& interrupt(int rank) { return *interrupts_[static_cast<size_t>(rank)]; }

  absl::Duration timeout_ = absl::Seconds(10);
  uint64_t epoch_ = 0;
  std::unique_ptr<StoreServer> store_;
  std::vector<std::shared_ptr<Interrupt>> interrupts_;
  std::vector<std::unique_ptr<Group>> groups_;
};

double Since(absl::Time start) { return absl::ToDoubleSeconds(RealClock().Now() - start); }

TEST_F(GroupTest, CollectivesInFlightTogether) {
  for (const int world : {1, 2, 3}) {
    JoinAll(world);
    OnEachRank(world, [&](int rank) {
      const at::Tensor sum = at::full({1000}, rank + 1.0f);
      const at::Tensor least = at::full({3}, 10 - rank, at::kLong);
      const at::Tensor mine = at::full({2}, static_cast<float>(rank));
      const at::Tensor all = at::zeros({2 * world});
      const Ticket first = group(rank).AllReduceMin(least);
      const Ticket second = group(rank).AllReduceSum(sum);
      const Ticket third = group(rank).AllGather(all, mine);
      EXPECT_OK(group(rank).Wait(third));
      EXPECT_OK(group(rank).Wait(second));
      EXPECT_OK(group(rank).Wait(first));
      EXPECT_EQ(sum.data_ptr<float>()[999], static_cast<float>(world * (world + 1) / 2));
      EXPECT_EQ(least.data_ptr<int64_t>()[2], 10 - (world - 1));
      for (int i = 0; i < 2 * world; ++i) EXPECT_EQ(all.data_ptr<float>()[i], i / 2);
    });
  }
}

TEST_F(GroupTest, GathersIntsAndBroadcastsFloats) {
  JoinAll(2);
  OnEachRank(2, [&](int rank) {
    const std::vector<int64_t> mine = {rank, 7};
    ASSERT_OK_AND_ASSIGN(const auto rows, group(rank).GatherInts(mine));
    EXPECT_THAT(rows, ElementsAre(ElementsAre(0, 7), ElementsAre(1, 7)));
    std::vector<float> values(9'000'000, static_cast<float>(rank));  // several chunks
    ASSERT_OK(group(rank).BroadcastFloats(values, 1));
    EXPECT_EQ(values.front(), 1.0f);
    EXPECT_EQ(values.back(), 1.0f);
  });
}

// Rank 2 of 3 never calls, and both of c10d's threads of ranks 0 and 1 hang. Returns how long after
// the interrupt the slower of them was free again, in seconds.
class HungGroupTest : public GroupTest {
 protected:
  double GiveUp() {
    JoinAll(3);
    absl::Time raised;
    std::thread agent([&] {
      RealClock().SleepFor(absl::Milliseconds(100));
      raised = RealClock().Now();
      interrupt(0).Raise("epoch 2 begins");
      interrupt(1).Raise("epoch 2 begins");
    });
    absl::Time free[2];
    OnEachRank(2, [&](int rank) {
      const at::Tensor a = at::ones({100'000}), b = at::ones({10}), c = at::ones({10});
      group(rank).AllReduceSum(a);
      group(rank).AllReduceSum(b);
      const Ticket ticket = group(rank).AllReduceSum(c);
      EXPECT_THAT(group(rank).Wait(ticket),
                  StatusIs(absl::StatusCode::kAborted, HasSubstr("epoch 2 begins")));
      // The group is of no more use, and says so at once.
      EXPECT_FALSE(group(rank).Wait(group(rank).AllReduceSum(c)).ok());
      groups_[static_cast<size_t>(rank)].reset();
      free[rank] = RealClock().Now();
    });
    agent.join();
    return absl::ToDoubleSeconds(std::max(free[0], free[1]) - raised);
  }
};

TEST_F(HungGroupTest, IsGivenUpAtOnce) {
  double best = 1e9;
  for (int round = 0; round < 3 && best > 0.1; ++round) best = std::min(best, GiveUp());
  EXPECT_LT(best, 0.1);
}

TEST_F(HungGroupTest, WhatIsGivenUpIsReapedBeforeItsTimeout) {
  GiveUp();
  EXPECT_TRUE(DrainGroups(absl::Seconds(5)));  // the group's time-out is 10 s
}

TEST_F(GroupTest, LostPeerFailsTheCollective) {
  JoinAll(2);
  std::thread peer([&] {
    RealClock().SleepFor(absl::Milliseconds(100));
    groups_[1].reset();
  });
  const absl::Time start = RealClock().Now();
  const absl::Status status = group(0).Wait(group(0).AllReduceSum(at::ones({10})));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("all-reduce")));
  EXPECT_THAT(status, HasReason(ErrorReason::kCollectiveFailed));
  EXPECT_LT(Since(start), 2);
  peer.join();
}

// Mostly at once; but now and then (1 in 50) this Gloo does not pass a reset connection on to who
// waits, and only the group's time-out ends the wait. The coordinator's abort covers that in a
// cluster.
TEST_F(GroupTest, PeerThatGivesUpInTheMiddleFreesTheOthers) {
  timeout_ = absl::Seconds(2);
  for (int round = 0; round < 10; ++round) {
    JoinAll(2);
    const absl::Time start = RealClock().Now();
    OnEachRank(2, [&](int rank) {
      const Ticket ticket = group(rank).AllReduceSum(at::ones({100'000}));
      if (rank == 1) interrupt(1).Raise("given up");
      group(rank).Wait(ticket).IgnoreError();  // it may have been done before
    });
    EXPECT_LT(Since(start), 5) << round;
  }
}

TEST_F(GroupTest, JoinIsGivenUpAtOnce) {
  auto interrupt = std::make_shared<Interrupt>();
  absl::Time raised;
  std::thread agent([&] {
    RealClock().SleepFor(absl::Milliseconds(100));
    raised = RealClock().Now();
    interrupt->Raise("released");
  });
  EXPECT_THAT(Group::Join(Options(0, 2), interrupt),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("released")));
  EXPECT_LT(Since(raised), 0.1);
  agent.join();
}

TEST_F(GroupTest, JoinNamesWhoDidNotCome) {
  GroupOptions options = Options(0, 2);
  options.join_timeout = absl::Milliseconds(200);
  EXPECT_THAT(Group::Join(options, std::make_shared<Interrupt>()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("rank 1 of 2 did not come")));
}

TEST_F(GroupTest, BadAddressesAreErrors) {
  GroupOptions options = Options(0, 2);
  options.store_address = "nowhere";
  EXPECT_THAT(Group::Join(options, std::make_shared<Interrupt>()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected host:port")));
  EXPECT_THAT(StoreServer::Start("no.such.host.invalid"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cannot bind")));
}

}  // namespace
}  // namespace leap
