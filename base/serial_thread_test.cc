#include "base/serial_thread.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::ElementsAre;

TEST(SerialThread, DoesEachThingInTheOrderItCame) {
  SerialThread thread(8);
  std::vector<int> done;
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(thread.TryPost([&done, i] { done.push_back(i); }));
  EXPECT_TRUE(thread.Drain(absl::Seconds(20)));
  EXPECT_THAT(done, ElementsAre(0, 1, 2, 3));
}

TEST(SerialThread, RefusesWhatIsTooMuchAndWhatComesTooLate) {
  SerialThread thread(1);
  BoundedQueue<int> begun(1), go_on(1);
  ASSERT_TRUE(thread.TryPost([&] {
    (void)begun.TryPush(1);
    (void)go_on.Pop(absl::Seconds(20));
  }));
  ASSERT_TRUE(begun.Pop(absl::Seconds(20)).has_value());
  ASSERT_TRUE(thread.TryPost([] {}));
  EXPECT_FALSE(thread.TryPost([] {}));
  EXPECT_FALSE(thread.Drain(absl::ZeroDuration())) << "it is still at the first";
  (void)go_on.TryPush(1);
  thread.Stop();
  EXPECT_FALSE(thread.TryPost([] {}));
  EXPECT_FALSE(thread.Drain(absl::Seconds(20)));
}

TEST(SerialThread, StopDoesWhatWasPosted) {
  int done = 0;
  {
    SerialThread thread(8);
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(thread.TryPost([&done] { ++done; }));
  }
  EXPECT_EQ(done, 5);
}

}  // namespace
}  // namespace leap
