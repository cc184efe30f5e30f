// The commands against a coordinator of paper: what they print, what they exit with, what they ask
// for.
#include "leapctl/commands.h"

#include <signal.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "leapctl/cli.h"
#include "leapctl/fake_job_service.h"
#include "leapctl/test_jobs.h"

namespace leap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr absl::string_view kJobFile =
    "apiVersion: leap/v1\nkind: Job\nmetadata: {name: demo}\nspec: {data: {paths: [a]}, train: "
    "{steps: 600}}\n";

struct Answer {
  int code = 0;
  std::string out;
  std::string err;
};

class CommandsTest : public testing::Test {
 protected:
  Answer Run(std::vector<std::string> arguments, bool live = false, const std::string& input = "") {
    arguments.insert(arguments.begin(), {"--coordinator", service_.address()});
    return RunAt(std::move(arguments), live, input);
  }
  static Answer RunAt(std::vector<std::string> arguments, bool live = false,
                      const std::string& input = "") {
    std::ostringstream out, err;
    std::istringstream in(input);
    Terminal terminal{.out = out, .err = err, .in = in, .live = live, .width = 100};
    const int code = RunLeapctl(arguments, terminal);
    return {code, out.str(), err.str()};
  }
  std::string WriteJob(absl::string_view text) {
    const std::string path = testing::TempDir() + "/commands-test-job.yaml";
    std::ofstream(path) << text;
    return path;
  }
  static v1::WatchJobResponse Message(const v1::Job& job) {
    v1::WatchJobResponse message;
    *message.mutable_job() = job;
    return message;
  }

  FakeJobService service_;
};

TEST_F(CommandsTest, SubmitPrintsTheJobAndTheNextCommands) {
  const Answer answer = Run({"submit", WriteJob(kJobFile)});

  EXPECT_EQ(answer.code, 0) << answer.err;
  EXPECT_THAT(answer.out,
              HasSubstr("submitted demo-1: queued; waits for 2 main workers, 0 are free\n"));
  EXPECT_THAT(answer.out, HasSubstr("leapctl watch demo-1"));
  EXPECT_THAT(service_.created, ElementsAre(kJobFile)) << "the file travels as written";
}

TEST_F(CommandsTest, SubmitReadsStandardInput) {
  EXPECT_EQ(Run({"submit", "-", "-o", "json"}, false, std::string(kJobFile)).code, 0);
  EXPECT_THAT(service_.created, ElementsAre(kJobFile));
}

TEST_F(CommandsTest, SubmitTriesAgainWithTheSameRequestId) {
  service_.failures_before_create = 2;

  EXPECT_EQ(Run({"submit", WriteJob(kJobFile)}).code, 0);

  ASSERT_THAT(service_.request_ids, SizeIs(3));
  EXPECT_EQ(service_.request_ids[0], service_.request_ids[2]);
  EXPECT_THAT(service_.created, SizeIs(1));
}

TEST_F(CommandsTest, ABadJobFileIsRefusedHereWithEveryLine) {
  const std::string path =
      WriteJob("apiVersion: leap/v1\nkind: Job\nmetadata: {name: X}\nspec: {train: {sede: 1}}\n");

  const Answer answer = Run({"submit", path});

  EXPECT_EQ(answer.code, 3);
  EXPECT_THAT(answer.err, HasSubstr(path + ":3: metadata.name:"));
  EXPECT_THAT(answer.err, HasSubstr("did you mean 'seed'?"));
  EXPECT_THAT(service_.created, IsEmpty());
}

TEST_F(CommandsTest, DryRunPrintsTheResolvedJobAndSubmitsNothing) {
  const Answer answer = Run({"submit", "--dry-run", WriteJob(kJobFile)});

  EXPECT_EQ(answer.code, 0);
  EXPECT_THAT(answer.out, HasSubstr("    lr: 0.001\n"));
  EXPECT_THAT(answer.out, HasSubstr("      - name: outer-nesterov\n"));
  EXPECT_THAT(service_.created, IsEmpty());
}

TEST_F(CommandsTest, AMissingFileIsNotFound) {
  const Answer answer = Run({"submit", "/no/such/job.yaml"});

  EXPECT_EQ(answer.code, 4);
  EXPECT_THAT(answer.err, HasSubstr("cannot read the job file '/no/such/job.yaml'"));
}

TEST_F(CommandsTest, ListFollowsPages) {
  for (int i = 0; i < 5; ++i) {
    v1::Job job = RunningJob();
    job.set_job(absl::StrCat("demo-", i));
    service_.jobs[job.job()] = job;
  }

  const Answer all = Run({"list", "-o", "json"});
  const Answer two = Run({"list", "--last", "2", "-o", "jsonl"});

  EXPECT_THAT(nlohmann::json::parse(all.out)["jobs"], SizeIs(5));
  EXPECT_EQ(std::count(two.out.begin(), two.out.end(), '\n'), 2);
}

TEST_F(CommandsTest, EventsKeepsTheNewest) {
  for (int i = 0; i < 7; ++i) service_.events.add_events()->set_kind(absl::StrCat("kind-", i));

  const Answer answer = Run({"events", "demo-1", "--last", "2"});

  EXPECT_THAT(answer.out, HasSubstr("kind-6"));
  EXPECT_THAT(answer.out, HasSubstr("kind-5"));
  EXPECT_THAT(answer.out, Not(HasSubstr("kind-4")));
}

TEST_F(CommandsTest, AnUnknownJobIsNotFoundInTheCoordinatorsWords) {
  const Answer answer = Run({"get", "nobody"});

  EXPECT_EQ(answer.code, 4);
  EXPECT_EQ(answer.err, "leapctl: there is no job 'nobody'; leapctl list shows them\n");
}

TEST_F(CommandsTest, DescribeAndSummaryReadTheLedger) {
  service_.jobs["demo-7f3a2c"] = EndedJob(v1::Job::SUCCEEDED);

  EXPECT_THAT(Run({"describe", "demo-7f3a2c"}).out, HasSubstr("demo-7f3a2c: succeeded"));
  EXPECT_THAT(Run({"summary", "demo-7f3a2c"}).out, HasSubstr("demo-7f3a2c"));
}

TEST_F(CommandsTest, SteeringSaysWhatItDidAndPassesErrorsOn) {
  service_.jobs["demo-1"] = RunningJob();

  EXPECT_EQ(Run({"cancel", "demo-1", "--reason", "enough"}).code, 0);
  EXPECT_EQ(Run({"pause", "demo-1"}).code, 0);
  const Answer resume = Run({"resume", "demo-1"});

  EXPECT_EQ(resume.code, 5);
  EXPECT_EQ(resume.err, "leapctl: demo-1 is not paused\n");
  EXPECT_THAT(service_.calls,
              ElementsAre("cancel demo-1: enough", "pause demo-1", "resume demo-1"));
}

TEST_F(CommandsTest, AnUnreachableCoordinatorIsOneSentence) {
  const Answer answer = RunAt({"--coordinator", "127.0.0.1:1", "list"});

  EXPECT_EQ(answer.code, 6);
  EXPECT_EQ(answer.err,
            "leapctl: cannot reach the coordinator at 127.0.0.1:1 (connection refused); is "
            "leap-coordinator running "
            "there? --coordinator or LEAP_COORDINATOR name another\n");
}

TEST_F(CommandsTest, AnAddressThatCannotBeIsAUsageError) {
  EXPECT_EQ(RunAt({"--coordinator", "nonsense", "list"}).code, 2);
}

TEST_F(CommandsTest, WatchPrintsPlainLinesAndExitsAsTheJobEnded) {
  v1::WatchJobResponse running = Message(RunningJob());
  v1::Event* event = running.add_events();
  event->set_kind("epoch-formed");
  event->set_sentence("epoch 1 has 2 main workers");
  service_.watches.push_back({.messages = {running, Message(EndedJob(v1::Job::FAILED))}});

  const Answer answer = Run({"watch", "demo-7f3a2c"});

  EXPECT_EQ(answer.code, 1);
  EXPECT_THAT(answer.out, HasSubstr("epoch-formed: epoch 1 has 2 main workers\n"));
  EXPECT_THAT(answer.out, HasSubstr("demo-7f3a2c running: step 300/600"));
  EXPECT_THAT(answer.out, HasSubstr("demo-7f3a2c: failed; trained to the last step\n"));
  EXPECT_THAT(answer.out, Not(HasSubstr("\x1b")));
}

TEST_F(CommandsTest, WatchRedrawsOneBlockOnATerminal) {
  service_.watches.push_back(
      {.messages = {Message(RunningJob()), Message(EndedJob(v1::Job::SUCCEEDED))}});

  const Answer answer = Run({"watch", "demo-7f3a2c"}, /*live=*/true);

  EXPECT_EQ(answer.code, 0);
  EXPECT_THAT(answer.out, HasSubstr("\x1b[6A\r\x1b[J")) << "six lines up, clear, draw again";
}

TEST_F(CommandsTest, WatchAsJsonIsALineAMessage) {
  service_.watches.push_back(
      {.messages = {Message(RunningJob()), Message(EndedJob(v1::Job::CANCELLED))}});

  const Answer answer = Run({"watch", "demo-7f3a2c", "-o", "jsonl"});

  EXPECT_EQ(answer.code, 8);
  EXPECT_EQ(std::count(answer.out.begin(), answer.out.end(), '\n'), 2);
}

TEST_F(CommandsTest, WatchWaitsOutARestartOfTheCoordinator) {
  service_.watches.push_back(
      {.messages = {Message(RunningJob())}, .end = {grpc::StatusCode::UNAVAILABLE, "going down"}});
  service_.watches.push_back({.messages = {Message(EndedJob(v1::Job::SUCCEEDED))}});

  const Answer answer = Run({"watch", "demo-7f3a2c"});

  EXPECT_EQ(answer.code, 0);
  EXPECT_THAT(answer.err, HasSubstr("coordinator unreachable since"));
  EXPECT_THAT(answer.err, HasSubstr("workers train on without it"));
}

TEST_F(CommandsTest, CtrlCOnWatchDetachesSaysSoAndCancelsNothing) {
  service_.watches.push_back(
      {.messages = {Message(RunningJob())}, .then = [] { raise(SIGINT); }, .hang = true});

  const Answer answer = Run({"watch", "demo-7f3a2c"});

  EXPECT_EQ(answer.code, 130);
  EXPECT_THAT(answer.err, HasSubstr("detached; demo-7f3a2c goes on without you"));
  EXPECT_THAT(service_.calls, IsEmpty());
}

TEST_F(CommandsTest, SubmitWithWaitWatchesToTheEnd) {
  v1::Job ended = EndedJob(v1::Job::SUCCEEDED);
  ended.set_job("demo-1");
  service_.watches.push_back({.messages = {Message(ended)}});

  const Answer answer = Run({"submit", "--wait", WriteJob(kJobFile)});

  EXPECT_EQ(answer.code, 0);
  EXPECT_THAT(answer.out, HasSubstr("demo-1: succeeded"));
}

TEST_F(CommandsTest, CheckpointExportCopiesTheFolder) {
  namespace fs = std::filesystem;
  const fs::path root = fs::path(testing::TempDir()) / "checkpoint-export";
  fs::remove_all(root);
  fs::create_directories(root / "step-600");
  std::ofstream(root / "step-600" / "model.safetensors") << "weights";
  v1::Job job = EndedJob(v1::Job::SUCCEEDED);
  job.set_checkpoint_path((root / "step-600").string());
  service_.jobs["demo-1"] = job;

  EXPECT_EQ(Run({"checkpoint", "export", "demo-1", "--out", (root / "out").string()}).code, 0);

  EXPECT_TRUE(fs::exists(root / "out" / "model.safetensors"));
  const Answer again = Run({"checkpoint", "export", "demo-1", "--out", (root / "out").string()});
  EXPECT_EQ(again.code, 5);
  EXPECT_THAT(again.err, HasSubstr("is there already; --force"));
}

TEST_F(CommandsTest, CheckpointExportExplainsWhatItCannotReach) {
  service_.jobs["far"] = EndedJob(v1::Job::SUCCEEDED);
  service_.jobs["none"] = RunningJob();

  const Answer far = Run({"checkpoint", "export", "far", "--out", "/tmp/never"});
  const Answer none = Run({"checkpoint", "export", "none", "--out", "/tmp/never"});

  EXPECT_EQ(far.code, 4);
  EXPECT_THAT(far.err, HasSubstr("is at /state/checkpoints/step-600 where the workers are"));
  EXPECT_EQ(none.code, 4);
  EXPECT_THAT(none.err, HasSubstr("has no checkpoint yet"));
}

TEST_F(CommandsTest, SnapshotExportNamesTheStepsThatAreHeld) {
  service_.jobs["demo-1"] = RunningJob();
  v1::Snapshot* held = service_.snapshots.add_snapshots();
  held->set_step(350);
  held->add_sources()->set_data_address("127.0.0.1:1");
  service_.snapshots.add_snapshots()->set_step(50);

  const Answer answer =
      Run({"snapshot", "export", "demo-1", "--step", "50", "--out", "/tmp/never"});

  EXPECT_EQ(answer.code, 4);
  EXPECT_THAT(answer.err,
              HasSubstr("nobody holds a snapshot of demo-1 at step 50; held are steps 350"));
}

TEST(LocalCommandsTest, NeedNoCoordinator) {
  std::ostringstream out, err;
  std::istringstream in;
  Terminal terminal{.out = out, .err = err, .in = in};

  EXPECT_EQ(RunLeapctl({"version", "-o", "json"}, terminal), 0);
  EXPECT_EQ(RunLeapctl({"docs", "schema"}, terminal), 0);
  EXPECT_EQ(RunLeapctl({"completion", "fish"}, terminal), 0);

  EXPECT_THAT(out.str(), HasSubstr("\"version\""));
  EXPECT_EQ(err.str(), "");
}

}  // namespace
}  // namespace leap
