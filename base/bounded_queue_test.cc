#include "base/bounded_queue.h"

#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::Optional;

TEST(BoundedQueue, PopsInTheOrderOfPushing) {
  BoundedQueue<int> queue(2);

  EXPECT_TRUE(queue.TryPush(1));
  EXPECT_TRUE(queue.TryPush(2));

  EXPECT_THAT(queue.Pop(absl::ZeroDuration()), Optional(1));
  EXPECT_THAT(queue.Pop(absl::ZeroDuration()), Optional(2));
}

TEST(BoundedQueue, RefusesWhatDoesNotFit) {
  BoundedQueue<int> queue(1);
  ASSERT_TRUE(queue.TryPush(1));

  EXPECT_FALSE(queue.TryPush(2));
  EXPECT_FALSE(queue.Push(2, absl::Milliseconds(1)));

  EXPECT_EQ(queue.size(), 1u);
}

TEST(BoundedQueue, PopGivesUpAfterItsTimeout) {
  BoundedQueue<int> queue(1);

  EXPECT_EQ(queue.Pop(absl::Milliseconds(1)), std::nullopt);
}

TEST(BoundedQueue, CloseRefusesNewItemsAndHandsOutOldOnes) {
  BoundedQueue<int> queue(2);
  ASSERT_TRUE(queue.TryPush(1));

  queue.Close();

  EXPECT_FALSE(queue.TryPush(2));
  EXPECT_THAT(queue.Pop(absl::InfiniteDuration()), Optional(1));
  EXPECT_EQ(queue.Pop(absl::InfiniteDuration()), std::nullopt);
  EXPECT_TRUE(queue.closed());
}

TEST(BoundedQueue, CloseWakesAWaitingPopAndPush) {
  BoundedQueue<int> empty(1), full(1);
  ASSERT_TRUE(full.TryPush(1));
  std::thread popper([&] { EXPECT_EQ(empty.Pop(absl::InfiniteDuration()), std::nullopt); });
  std::thread pusher([&] { EXPECT_FALSE(full.Push(2, absl::InfiniteDuration())); });

  empty.Close();
  full.Close();

  popper.join();
  pusher.join();
}

TEST(BoundedQueue, HandsEveryItemToExactlyOneReader) {
  constexpr int kItems = 2000;
  BoundedQueue<int> queue(3);
  std::vector<int> sums(2);
  std::vector<std::thread> readers;
  for (int& sum : sums) {
    readers.emplace_back([&queue, &sum] {
      while (const auto item = queue.Pop(absl::InfiniteDuration())) sum += *item;
    });
  }

  for (int i = 1; i <= kItems; ++i) ASSERT_TRUE(queue.Push(i, absl::InfiniteDuration()));
  queue.Close();
  for (std::thread& reader : readers) reader.join();

  EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), 0), kItems * (kItems + 1) / 2);
}

TEST(BoundedQueue, HoldsWhatCanOnlyBeMoved) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  ASSERT_TRUE(queue.TryPush(std::make_unique<int>(7)));

  const auto item = queue.Pop(absl::ZeroDuration());

  ASSERT_TRUE(item.has_value());
  EXPECT_EQ(**item, 7);
}

}  // namespace
}  // namespace leap
