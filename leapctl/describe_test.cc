#include "leapctl/describe.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "leapctl/test_jobs.h"

namespace leap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(kTestTime);

v1::LeapSummary Leaps(int committed, bool known, double equivalent) {
  v1::LeapSummary leaps;
  leaps.set_candidates(9);
  leaps.set_committed(committed);
  leaps.set_equivalent_known(known);
  leaps.set_equivalent_steps(equivalent);
  return leaps;
}

TEST(DescribeTest, SaysWhatTheJobWaitsForAndSinceWhen) {
  v1::Job job = RunningJob();
  job.set_state(v1::Job::QUEUED);
  job.set_state_reason("waits for 2 main workers, 1 is free; start one more leap-worker");

  const std::string text = DescribeJob(job, {}, kNow);

  EXPECT_THAT(text,
              HasSubstr("demo-7f3a2c: queued since 2027-01-15 07:58:30 UTC (1 min 30 s ago)\n"));
  EXPECT_THAT(text, HasSubstr("waits for 2 main workers, 1 is free; start one more leap-worker"));
  EXPECT_THAT(text, HasSubstr("leapctl workers"));
}

TEST(DescribeTest, ShowsEveryWaitWithItsTimesAndWhatHelps) {
  v1::Job job = RunningJob();
  v1::Wait* forever = job.add_waits();
  forever->set_what("pause");
  forever->set_reason("paused by a person");
  forever->set_resolution("leapctl resume demo-7f3a2c");
  forever->mutable_since()->set_seconds(kTestTime - 200);

  EXPECT_THAT(DescribeJob(job, {}, kNow),
              HasSubstr("\nWaits for\n"
                        "  votes         leap 5 from step 300 waits for the votes of rank 1 "
                        "(worker-1)\n"
                        "                since 2027-01-15 07:59:57 UTC (3 s ago), until 2027-01-15 "
                        "08:00:27 UTC\n"
                        "                helps: they vote\n"
                        "  pause         paused by a person\n"
                        "                since 2027-01-15 07:56:40 UTC (3 min 20 s ago)\n"
                        "                helps: leapctl resume demo-7f3a2c\n"));
  job.clear_waits();
  EXPECT_THAT(DescribeJob(job, {}, kNow), HasSubstr("Waits for\n  nothing\n"));
  EXPECT_THAT(DescribeJob(EndedJob(v1::Job::SUCCEEDED), {}, kNow), Not(HasSubstr("Waits for")));
}

TEST(DescribeTest, ShowsRegionsLadderPolicyAndMembers) {
  const std::string text = DescribeJob(RunningJob(), {}, kNow);

  EXPECT_THAT(text, HasSubstr("[970000, 980000)  10.0 k decide about leaps"));
  EXPECT_THAT(
      text,
      HasSubstr(
          "lease 5 s < collective 20 s < commit 30 s < epoch formation 60 s < job start 600 s"));
  EXPECT_THAT(text, HasSubstr("outer-nesterov eta=0.8 mu=0.5"));
  EXPECT_THAT(text, HasSubstr("guard: finite, at most 5% worse"));
  EXPECT_THAT(text, HasSubstr("rebase, moments kept, step counter stays"));
  EXPECT_THAT(text,
              HasSubstr("Members (epoch 1)\n  AGENT     ROLE    RANK  STATE     STEP  ADDRESS\n"));
  EXPECT_THAT(text, HasSubstr("300 of 600, about 45 s left"));
}

TEST(DescribeTest, EventsStandInOrder) {
  v1::Event event;
  event.set_kind("epoch-formed");
  event.set_sentence("epoch 1 has 2 main workers");
  event.mutable_create_time()->set_seconds(kTestTime);

  EXPECT_THAT(DescribeJob(RunningJob(), {event}, kNow),
              HasSubstr("2027-01-15 08:00:00 UTC  epoch-formed: epoch 1 has 2 main workers\n"));
}

TEST(DescribeTest, AnUnreadableSpecLosesOnlyWhatItWouldTell) {
  v1::Job job = RunningJob();
  job.set_spec_yaml("[");

  const std::string text = DescribeJob(job, {}, kNow);

  EXPECT_THAT(text, HasSubstr("Members"));
  EXPECT_THAT(text, Not(HasSubstr("Policy")));
}

TEST(DescribeTest, TextFromTheWireIsCleaned) {
  v1::Job job = RunningJob();
  job.set_state_reason("\x1b[31mred");
  job.mutable_waits(0)->set_reason("\x1b[31mred");
  job.mutable_members(0)->set_agent("evil\x1b[2J");

  EXPECT_THAT(DescribeJob(job, {}, kNow), Not(HasSubstr("\x1b")));
}

TEST(SavingsSentenceTest, SavesWordsForEveryCase) {
  EXPECT_EQ(SavingsSentence({}), "nothing yet: no candidate was tried");
  EXPECT_THAT(SavingsSentence(Leaps(0, false, 0)), HasSubstr("no leap was committed"));
  EXPECT_THAT(SavingsSentence(Leaps(3, false, 0)), HasSubstr("not known yet"));
  EXPECT_THAT(SavingsSentence(Leaps(3, true, 31)),
              HasSubstr("as if 31 more steps had been trained"));
  EXPECT_THAT(SavingsSentence(Leaps(3, true, 0.1)), HasSubstr("the saving is nil"));
  EXPECT_THAT(SavingsSentence(Leaps(3, true, -12)), HasSubstr("the saving is negative"));
  EXPECT_THAT(SavingsSentence(Leaps(3, true, -12)), HasSubstr("as if 12 steps had been lost"));
}

TEST(NextCommandsTest, FitTheState) {
  EXPECT_THAT(NextCommands(RunningJob()), HasSubstr("leapctl watch demo-7f3a2c"));
  EXPECT_THAT(NextCommands(EndedJob(v1::Job::SUCCEEDED)),
              HasSubstr("leapctl checkpoint export demo-7f3a2c --out DIR"));
  EXPECT_THAT(NextCommands(EndedJob(v1::Job::SUCCEEDED)), Not(HasSubstr("cancel")));
  EXPECT_THAT(NextCommands(EndedJob(v1::Job::FAILED)), HasSubstr("leapctl events"));
  v1::Job paused = RunningJob();
  paused.set_state(v1::Job::PAUSED);
  EXPECT_THAT(NextCommands(paused), HasSubstr("leapctl resume"));
}

}  // namespace
}  // namespace leap
