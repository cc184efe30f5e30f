#include "leapctl/render.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "leapctl/test_jobs.h"

namespace leap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(kTestTime);

TEST(RenderTest, JobsAreATable) {
  v1::ListJobsResponse jobs;
  *jobs.add_jobs() = RunningJob();

  EXPECT_EQ(JobsTable(jobs, kNow),
            "JOB          STATE    STEP   OF    LOSS  REGIME   LEAPS  AGE\n"
            "demo-7f3a2c  running   300  600  2.4135  stable*      4  1 min 40 s ago\n");
}

TEST(RenderTest, EmptyTablesSaySoAndWhatNext) {
  EXPECT_EQ(JobsTable({}, kNow), "no jobs; leapctl submit JOB.yaml queues one\n");
  EXPECT_THAT(AgentsTable({}, kNow), HasSubstr("start leap-worker"));
  EXPECT_EQ(LeapsTable({}), "no leap was decided yet\n");
  EXPECT_EQ(CandidatesTable({}), "no candidate was tried yet\n");
  EXPECT_EQ(SnapshotsTable({}), "no snapshot was taken yet\n");
  EXPECT_EQ(EventsTable({}), "no events yet\n");
}

TEST(RenderTest, ALeapThatWasNotAppliedHasNoSavings) {
  v1::ListLeapsResponse leaps;
  v1::Leap* applied = leaps.add_leaps();
  applied->set_leap(1);
  applied->set_base_step(100);
  applied->set_boundary_step(109);
  applied->set_predictor("outer-nesterov");
  applied->set_state(v1::Leap::APPLIED);
  applied->set_pause_seconds(0.0123);
  applied->set_commit_rule("rebase");
  applied->set_equivalent_known(true);
  applied->set_equivalent_steps(-7.5);
  applied->set_promised_difference(0.0301);
  v1::Leap* aborted = leaps.add_leaps();
  *aborted = *applied;
  aborted->set_leap(2);
  aborted->set_state(v1::Leap::ABORTED);

  const std::string table = LeapsTable(leaps);

  EXPECT_EQ(table,
            "LEAP  FROM   AT  PREDICTOR       K  RULE    STATE      PAUSE  BOOKED  NET  EQUIVALENT "
            " PROMISED     RETAINED\n"
            "   1   100  109  outer-nesterov  0  rebase  applied  12.3 ms       0    0        -7.5 "
            "  +0.0301  not audited\n"
            "   2   100    -  outer-nesterov  0  rebase  aborted        -       -    -           - "
            "  +0.0301            -\n");
}

TEST(RenderTest, CandidatesShowWhy) {
  v1::ListCandidatesResponse candidates;
  v1::Candidate* candidate = candidates.add_candidates();
  candidate->set_base_step(50);
  candidate->set_predictor("linear");
  candidate->set_horizon_steps(25);
  candidate->set_regime("stable");
  candidate->set_loss(2.6);
  candidate->set_baseline_loss(2.5);
  candidate->set_difference(0.1);
  candidate->set_reason("not-better");
  candidate->set_sentence("loss 2.6000 is not below 2.5000");

  EXPECT_THAT(CandidatesTable(candidates), HasSubstr("not-better"));
  EXPECT_THAT(CandidatesTable(candidates), HasSubstr("loss 2.6000 is not below 2.5000"));
}

TEST(RenderTest, JsonHasTheNamesOfTheProtoAndEveryField) {
  const auto json = nlohmann::json::parse(RenderMessage(RunningJob(), OutputFormat::kJson));

  EXPECT_EQ(json["job"], "demo-7f3a2c");
  EXPECT_EQ(json["state"], "RUNNING");
  EXPECT_EQ(json["state_reason"], "2 of 2 main workers train in epoch 1");
  EXPECT_EQ(json["progress"]["tokens_per_second"], 13400);
  EXPECT_EQ(json["progress"]["step"], "300") << "64-bit numbers are text in proto's JSON";
  EXPECT_EQ(json["leaps"]["rolled_back"], "0") << "zeros are there";
}

TEST(RenderTest, JsonOfNoNumberIsStillJson) {
  v1::Snapshot snapshot;
  snapshot.set_similarity(std::nan(""));

  EXPECT_EQ(nlohmann::json::parse(RenderMessage(snapshot, OutputFormat::kJson))["similarity"],
            "NaN");
}

TEST(RenderTest, JsonlOfAListIsALineAnItem) {
  v1::ListEventsResponse events;
  events.add_events()->set_kind("queued");
  events.add_events()->set_kind("started");
  events.set_next_page_token("never shown");

  const std::string lines = RenderMessage(events, OutputFormat::kJsonl);

  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 2);
  EXPECT_EQ(nlohmann::json::parse(lines.substr(0, lines.find('\n')))["kind"], "queued");
  EXPECT_THAT(lines, Not(HasSubstr("never shown")));
}

TEST(RenderTest, JsonlOfAWatchMessageIsOneLine) {
  v1::WatchJobResponse message;
  *message.mutable_job() = RunningJob();
  message.add_events()->set_kind("queued");

  const std::string lines = RenderMessage(message, OutputFormat::kJsonl);

  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 1);
}

TEST(RenderTest, YamlKeepsTextsNumbersAndLists) {
  v1::Job job;
  job.set_job("demo-1");
  job.set_state_reason("it said: \"no\"");
  job.set_spec_yaml("a: 1\nb:\n  - 2\n");
  job.add_members()->set_agent("worker-0");
  job.add_members()->set_agent("worker-1");
  job.mutable_progress()->set_train_loss(2.5);

  const std::string yaml = RenderMessage(job, OutputFormat::kYaml);

  EXPECT_THAT(yaml, HasSubstr("job: \"demo-1\"\n"));
  EXPECT_THAT(yaml, HasSubstr("state_reason: \"it said: \\\"no\\\"\"\n"));
  EXPECT_THAT(yaml, HasSubstr("spec_yaml: |\n  a: 1\n  b:\n    - 2\n"));
  EXPECT_THAT(yaml, HasSubstr("members:\n  - agent: \"worker-0\"\n    incarnation: \"0\"\n"));
  EXPECT_THAT(yaml, HasSubstr("\n  - agent: \"worker-1\"\n"));
  EXPECT_THAT(yaml, HasSubstr("  train_loss: 2.5\n"));
}

TEST(RenderTest, FormatsAreNamed) {
  EXPECT_THAT(ParseOutputFormat("yaml"), IsOkAndHolds(OutputFormat::kYaml));
  EXPECT_THAT(ParseOutputFormat("jsom"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("did you mean 'json'?")));
}

}  // namespace
}  // namespace leap
