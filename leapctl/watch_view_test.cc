#include "leapctl/watch_view.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "leapctl/test_jobs.h"
#include "leapctl/text.h"

namespace leap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(kTestTime);

TEST(WatchBlockTest, ShowsAllThatChanges) {
  EXPECT_THAT(
      WatchBlock(RunningJob(), kNow, 100),
      ElementsAre("demo-7f3a2c  running, 1 min 30 s ago: 2 of 2 main workers train in epoch 1",
                  "[====================>                   ]  50 %  step 300 of 600  45 s left",
                  "loss       2.4135 training, 2.5000 gate, 2.5100 report   13.4 k tokens/s",
                  "regime     stable (confirmed), similarity 0.999510",
                  "leaps      6 tried, 5 accepted, 4 committed   verifiers 1 of 2 busy",
                  "steps saved: booked 0, net 0, equivalent +31.2"));
}

TEST(WatchBlockTest, FitsTheTerminal) {
  v1::Job job = RunningJob();
  job.set_state_reason(std::string(500, 'x'));

  for (int width : {40, 80, 200}) {
    for (const std::string& line : WatchBlock(job, kNow, width, std::string(300, 'n'))) {
      EXPECT_LE(Width(line), width);
      EXPECT_THAT(line, Not(HasSubstr("\n")));
    }
  }
}

TEST(WatchBlockTest, SurvivesAJobThatKnowsNothingYet) {
  const std::vector<std::string> lines = WatchBlock(v1::Job(), kNow, 80);

  EXPECT_THAT(lines[1], HasSubstr("  0 %  step 0 of 0"));
  EXPECT_THAT(lines[3], HasSubstr("unknown"));
}

TEST(WatchBlockTest, ANoticeIsTheLastLine) {
  EXPECT_EQ(WatchBlock(RunningJob(), kNow, 80, "coordinator unreachable").back(),
            "coordinator unreachable");
}

TEST(WatchLineTest, IsOneLineForLogs) {
  EXPECT_EQ(WatchLine(RunningJob()),
            "demo-7f3a2c running: step 300/600 loss 2.4135 gate 2.5000 regime stable (confirmed) "
            "similarity 0.999510 "
            "leaps 6/5/4 verifiers 1/2 tokens/s 13.4 k, 45 s left");
}

TEST(WatchLineTest, AWaitingJobSaysWhatFor) {
  v1::Job job;
  job.set_job("demo-1");
  job.set_state(v1::Job::QUEUED);
  job.set_state_reason("waits for 2 main workers, 0 are free");

  EXPECT_EQ(WatchLine(job), "demo-1 queued: waits for 2 main workers, 0 are free");
}

TEST(WorthALineTest, NewStatesAndTwentiethsAre) {
  v1::Job before = RunningJob();
  v1::Job now = before;
  EXPECT_FALSE(WorthALine(before, now));
  now.mutable_progress()->set_step(329);
  EXPECT_FALSE(WorthALine(before, now));
  now.mutable_progress()->set_step(330);
  EXPECT_TRUE(WorthALine(before, now));
  now = before;
  now.set_state(v1::Job::PAUSED);
  EXPECT_TRUE(WorthALine(before, now));
  EXPECT_TRUE(WorthALine(v1::Job(), before));
}

}  // namespace
}  // namespace leap
