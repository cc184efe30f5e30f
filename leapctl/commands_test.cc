// The commands against a coordinator of paper: what they print, what they exit with, what they ask
// for.
#include "leapctl/commands.h"

#include <signal.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>

#include "base/ids.h"
#include "core/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "leapctl/cli.h"
#include "leapctl/fake_job_service.h"
#include "leapctl/test_jobs.h"
#include "service/auth.h"
#include "service/snapshot_server.h"

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

  // At steps 0 to 350, the first two of an epoch that is over.
  void AddSnapshotsOfTwoEpochs() {
    for (int64_t step = 0; step <= 350; step += 50) {
      v1::Snapshot* row = service_.snapshots.add_snapshots();
      row->set_step(step);
      row->set_epoch(step < 100 ? 0 : 1);
      row->add_sources()->set_data_address("127.0.0.1:1");
    }
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

TEST_F(CommandsTest, DryRunAnswersProgramsAsSubmitDoes) {
  const Answer answer = Run({"submit", "--dry-run", WriteJob(kJobFile), "-o", "json"});

  EXPECT_EQ(answer.code, 0);
  const auto job = nlohmann::json::parse(answer.out);
  EXPECT_EQ(job["name"], "demo");
  EXPECT_THAT(std::string(job["spec_yaml"]), HasSubstr("    lr: 0.001\n"));
}

TEST_F(CommandsTest, AFolderIsNoJobFile) {
  const Answer answer = Run({"submit", testing::TempDir()});

  EXPECT_EQ(answer.code, 4);
  EXPECT_THAT(answer.err, HasSubstr("cannot read the job file"));
}

TEST_F(CommandsTest, AnEmptyFileIsABadJob) {
  EXPECT_EQ(Run({"submit", WriteJob("")}).code, 3);
  EXPECT_EQ(Run({"submit", "-"}, false, "").code, 3);
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

TEST_F(CommandsTest, WatchAsYamlIsADocumentAMessage) {
  service_.watches.push_back(
      {.messages = {Message(RunningJob()), Message(EndedJob(v1::Job::SUCCEEDED))}});

  const Answer answer = Run({"watch", "demo-7f3a2c", "-o", "yaml"});

  EXPECT_THAT(answer.out, testing::StartsWith("---\njob:\n"));
  EXPECT_THAT(answer.out, HasSubstr("\n---\njob:\n"));
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
  const Answer forced = Run({"checkpoint", "export", "demo-1", "--out", (root / "out").string(),
                             "--force", "-o", "json"});
  EXPECT_EQ(nlohmann::json::parse(forced.out)["checkpoint_step"], "600");
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
  AddSnapshotsOfTwoEpochs();

  const Answer answer =
      Run({"snapshot", "export", "demo-1", "--step", "50", "--out", "/tmp/never"});

  EXPECT_EQ(answer.code, 4);
  EXPECT_THAT(answer.err,
              testing::EndsWith("nobody holds a snapshot of demo-7f3a2c at step 50; held "
                                "are steps 200, 250, 300, 350\n"))
      << "the ranks keep four, of the running epoch";
}

TEST_F(CommandsTest, SnapshotExportAsksNobodyWhoseEpochHasEnded) {
  service_.jobs["demo-1"] = RunningJob();
  service_.jobs["demo-1"].set_state(v1::Job::RECOVERING);
  AddSnapshotsOfTwoEpochs();

  const Answer answer =
      Run({"snapshot", "export", "demo-1", "--step", "350", "--out", "/tmp/never"});

  EXPECT_EQ(answer.code, 4);
  EXPECT_THAT(answer.err, testing::EndsWith("at step 350; none is held now (ranks drop their "
                                            "rings when an epoch ends)\n"));
}

TEST_F(CommandsTest, SnapshotsTellWhoStillHoldsThem) {
  service_.jobs["demo-1"] = RunningJob();
  AddSnapshotsOfTwoEpochs();

  const Answer running = Run({"snapshots", "demo-1", "-o", "json"});
  service_.jobs["demo-1"] = EndedJob(v1::Job::SUCCEEDED);
  const Answer ended = Run({"snapshots", "demo-1"});

  const auto rows = nlohmann::json::parse(running.out)["snapshots"];
  ASSERT_THAT(rows, SizeIs(8));
  EXPECT_THAT(rows[3]["sources"], IsEmpty());
  EXPECT_THAT(rows[4]["sources"], SizeIs(1));
  EXPECT_THAT(ended.out, Not(HasSubstr("shard")));
}

// Two ranks that hold half of a snapshot each.
class HalfHolder : public SnapshotSource {
 public:
  HalfHolder(std::span<const float> weights, FlatRange range)
      : weights_(weights), range_(range), auth_(Authenticator::Create({})) {
    service_ = MakeSnapshotService(this, auth_->get());
    auto server = RpcServer::Start({.listen = "127.0.0.1:0"}, {service_.get()});
    if (server.ok()) server_ = *std::move(server);
  }
  ~HalfHolder() override { server_->Shutdown(absl::ZeroDuration()); }

  v1::ShardSource source() const {
    v1::ShardSource source;
    source.set_data_address(server_->address());
    source.set_begin(range_.begin);
    source.set_end(range_.end);
    return source;
  }
  absl::StatusOr<PinnedRange> Pin(const v1::FetchRequest& request) override {
    const FlatRange range{request.begin(), request.end()};
    return PinnedRange{range, weights_.subspan(range.begin, range.size()), nullptr};
  }
  std::vector<v1::Holding> ListHoldings(const std::string&) override { return {}; }

 private:
  const std::span<const float> weights_;
  const FlatRange range_;
  const absl::StatusOr<std::unique_ptr<Authenticator>> auth_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<RpcServer> server_;
};

class SnapshotExportTest : public CommandsTest {
 protected:
  // A job whose model has one layer and 2 x kBlockFloats or so of weights, and a snapshot of it at
  // step 400.
  void SetUp() override {
    const std::string config = testing::TempDir() + "/snapshot-export-config.json";
    std::ofstream(config)
        << R"({"vocab_size": 257, "n_positions": 32, "n_embd": 48, "n_layer": 1, "n_head": 4})";
    weights_.resize(257 * 48 + 32 * 48 + 192 + 6912 + 144 + 2304 + 48 + 9216 + 192 + 9216 + 48 +
                    96);
    for (size_t i = 0; i < weights_.size(); ++i) weights_[i] = 0.001f * static_cast<float>(i % 977);
    const int64_t size = static_cast<int64_t>(weights_.size());
    left_ = std::make_unique<HalfHolder>(weights_, FlatRange{0, kBlockFloats});
    right_ = std::make_unique<HalfHolder>(weights_, FlatRange{kBlockFloats, size});
    v1::Job job = RunningJob();
    job.set_spec_yaml(absl::StrCat(
        "apiVersion: leap/v1\nkind: Job\nmetadata: {name: demo}\nspec: {model: {config: '", config,
        "'}, data: {paths: [a]}, train: {steps: 600}}\n"));
    service_.jobs["demo-7f3a2c"] = job;
    v1::Snapshot* snapshot = service_.snapshots.add_snapshots();
    snapshot->set_job("demo-7f3a2c");
    snapshot->set_epoch(1);
    snapshot->set_step(400);
    snapshot->set_weights_digest(DigestOf(weights_, {0, size}));
    *snapshot->add_sources() = left_->source();
    *snapshot->add_sources() = right_->source();
    std::filesystem::remove(out_);
  }
  Answer Export() {
    return Run({"snapshot", "export", "demo-7f3a2c", "--step", "400", "--out", out_});
  }

  std::vector<float> weights_;
  std::unique_ptr<HalfHolder> left_, right_;
  const std::string out_ = testing::TempDir() + "/snapshot-export.safetensors";
};

TEST_F(SnapshotExportTest, PutsShardsTogetherUnderTheNamesOfTheModel) {
  const Answer answer = Export();

  ASSERT_EQ(answer.code, 0) << answer.err;
  EXPECT_EQ(answer.err, "");
  std::ifstream file(out_, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  const std::string text = bytes.str();
  uint64_t length = 0;
  std::memcpy(&length, text.data(), 8);
  const auto header = nlohmann::json::parse(text.substr(8, length));
  EXPECT_EQ(header["transformer.wte.weight"]["shape"], nlohmann::json({257, 48}));
  EXPECT_EQ(header["__metadata__"]["step"], "400");
  EXPECT_EQ(header["__metadata__"]["weights_digest"],
            Hex64(service_.snapshots.snapshots(0).weights_digest()));
  ASSERT_EQ(text.size(), 8 + length + 4 * weights_.size());
  EXPECT_EQ(std::memcmp(text.data() + 8 + length, weights_.data(), 4 * weights_.size()), 0);
}

TEST_F(SnapshotExportTest, WritesNothingIfTheDigestIsNotTheLedgers) {
  service_.snapshots.mutable_snapshots(0)->set_weights_digest(1);

  const Answer answer = Export();

  EXPECT_EQ(answer.code, 1);
  EXPECT_THAT(answer.err, HasSubstr("the ledger says 0000000000000001; nothing was written"));
  EXPECT_FALSE(std::filesystem::exists(out_));
}

TEST_F(SnapshotExportTest, AnUnknownModelIsOneFlatTensor) {
  service_.jobs["demo-7f3a2c"].set_spec_yaml("[");

  const Answer answer = Export();

  EXPECT_EQ(answer.code, 0);
  EXPECT_THAT(answer.err, HasSubstr("one tensor"));
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
