// JobService over real sockets, with a real ledger and agents of paper.
#include "coordinator/job_service.h"

#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "coordinator/test_cluster.h"
#include "gtest/gtest.h"
#include "service/rpc_status.h"
#include "service/test_dir.h"

namespace leap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class JobServiceTest : public testing::Test {
 protected:
  TestCoordinatorOptions Options() const { return {.state_dir = dir_.path()}; }

  TestDir dir_;
};

TEST_F(JobServiceTest, QueuesAJobAndSaysWhatItWaitsFor) {
  TestCoordinator coordinator(Options());
  TestClient client(coordinator.address());
  ASSERT_OK_AND_ASSIGN(v1::Job job, client.Create(PaperJob("tiny")));
  EXPECT_THAT(job.job(), ::testing::StartsWith("tiny-"));
  EXPECT_EQ(job.state(), v1::Job::QUEUED);
  EXPECT_THAT(job.spec_yaml(), HasSubstr("interval_steps")) << "resolved";
  EXPECT_EQ(job.submitter(), "local");
  EXPECT_OK(client.WaitUntil(
      job.job(), [](const v1::Job& j) { return absl::StrContains(j.state_reason(), "worker"); }));
}

TEST_F(JobServiceTest, ARepeatedRequestGetsTheSameJob) {
  TestCoordinator coordinator(Options());
  TestClient client(coordinator.address());
  ASSERT_OK_AND_ASSIGN(v1::Job first, client.Create(PaperJob("a"), "request-1"));
  ASSERT_OK_AND_ASSIGN(v1::Job second, client.Create(PaperJob("a"), "request-1"));
  EXPECT_EQ(second.job(), first.job());
  EXPECT_THAT(client.Create(PaperJob("b"), "request-1"),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(client.Create(PaperJob("a"), std::string(65, 'r')),
              StatusIs(absl::StatusCode::kInvalidArgument));
  coordinator.Restart();
  ASSERT_OK_AND_ASSIGN(v1::Job third, client.Create(PaperJob("a"), "request-1"));
  EXPECT_EQ(third.job(), first.job());
}

TEST_F(JobServiceTest, AWrongJobFileIsAnsweredWithAllItsErrors) {
  TestCoordinator coordinator(Options());
  TestClient client(coordinator.address());
  const auto answer = client.Create(PaperJob("a", "  workers: {replicas: 0}\n  verifers: {}\n"));
  EXPECT_THAT(answer, HasReason(ErrorReason::kJobSpecInvalid));
  EXPECT_THAT(answer, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("replicas")));
  EXPECT_THAT(answer,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("did you mean 'verifiers'")));
}

TEST_F(JobServiceTest, ValidatesWithoutQueueing) {
  TestCoordinator coordinator(Options());
  TestClient client(coordinator.address());
  v1::CreateJobRequest request;
  request.set_spec_yaml(PaperJob("a"));
  request.set_validate_only(true);
  grpc::ClientContext context;
  client.Prepare(&context);
  v1::Job job;
  ASSERT_OK(FromGrpcStatus(client.stub().CreateJob(&context, request, &job)));
  EXPECT_EQ(job.job(), "");
  EXPECT_THAT(job.spec_yaml(), HasSubstr("interval_steps"));
  ASSERT_OK_AND_ASSIGN(auto list, client.List(10));
  EXPECT_EQ(list.jobs_size(), 0);
}

TEST_F(JobServiceTest, ListsNewestFirstInPages) {
  TestCoordinator coordinator(Options());
  TestClient client(coordinator.address());
  std::vector<std::string> made;
  for (int i = 0; i < 5; ++i) made.push_back(client.Create(PaperJob(absl::StrCat("j", i)))->job());
  std::vector<std::string> seen;
  std::string token;
  int pages = 0;
  do {
    ASSERT_OK_AND_ASSIGN(auto page, client.List(2, token));
    for (const auto& job : page.jobs()) seen.push_back(job.job());
    token = page.next_page_token();
    ++pages;
  } while (!token.empty());
  EXPECT_EQ(pages, 3);
  EXPECT_EQ(seen, std::vector<std::string>(made.rbegin(), made.rend()));
  EXPECT_THAT(client.List(2, "nonsense"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(client.List(2, "-5"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(JobServiceTest, NamesTheNearestJobWhenThereIsNone) {
  TestCoordinator coordinator(Options());
  TestClient client(coordinator.address());
  ASSERT_OK_AND_ASSIGN(v1::Job job, client.Create(PaperJob("transformer")));
  const std::string wrong = "x" + job.job().substr(1);
  EXPECT_THAT(client.Get(wrong), HasReason(ErrorReason::kJobNotFound));
  EXPECT_THAT(client.Get(wrong), StatusIs(absl::StatusCode::kNotFound, HasSubstr(job.job())));
  EXPECT_THAT(client.Cancel(wrong), HasReason(ErrorReason::kJobNotFound));
  EXPECT_THAT(client.WaitFor(wrong, v1::Job::RUNNING), HasReason(ErrorReason::kJobNotFound));
}

TEST_F(JobServiceTest, AWatchBeginsWithTheStateAsItIsAndEndsWithTheJob) {
  TestCoordinator coordinator(Options());
  TestClient client(coordinator.address());
  ASSERT_OK_AND_ASSIGN(v1::Job job, client.Create(PaperJob("a")));
  grpc::ClientContext context;
  client.Prepare(&context);
  v1::WatchJobRequest request;
  request.set_job(job.job());
  auto reader = client.stub().WatchJob(&context, request);
  v1::WatchJobResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.job().state(), v1::Job::QUEUED);
  ASSERT_OK(client.Cancel(job.job()));
  int64_t last = response.events_size();
  while (reader->Read(&response)) {
    for (const auto& event : response.events()) EXPECT_EQ(event.sequence(), ++last);
  }
  EXPECT_OK(FromGrpcStatus(reader->Finish()));
  EXPECT_GT(last, 0);
  EXPECT_EQ(response.job().state(), v1::Job::CANCELLED);
  EXPECT_THAT(response.job().state_reason(), HasSubstr("the test says so"));
}

TEST_F(JobServiceTest, RunsPausesResumesAndCancelsAJob) {
  TestCoordinator coordinator(Options());
  TestClient client(coordinator.address());
  PaperAgent worker(coordinator.address(), "w0", v1::ROLE_WORKER);
  ASSERT_OK_AND_ASSIGN(v1::Job job, client.Create(PaperJob("a")));
  ASSERT_OK_AND_ASSIGN(job, client.WaitFor(job.job(), v1::Job::RUNNING));
  ASSERT_EQ(job.members_size(), 1);
  EXPECT_EQ(job.members(0).agent(), "w0");
  EXPECT_EQ(job.members(0).role(), v1::ROLE_WORKER);
  ASSERT_OK_AND_ASSIGN(
      job, client.WaitUntil(job.job(), [](const v1::Job& j) { return j.progress().step() > 1; }));
  EXPECT_EQ(job.data().tokens(), 1000);

  ASSERT_OK(client.Pause(job.job()));
  ASSERT_OK(client.WaitFor(job.job(), v1::Job::PAUSED));
  const auto controls = worker.WaitFor(v1::CoordinatorMessage::kRunControl, 2);
  ASSERT_EQ(controls.size(), 2u) << "the epoch's beginning says go, then the pause";
  EXPECT_EQ(controls[0].run_control().command(), v1::RunControl::RESUME);
  EXPECT_EQ(controls[1].run_control().command(), v1::RunControl::PAUSE);
  ASSERT_OK(client.Resume(job.job()));
  ASSERT_OK(client.WaitFor(job.job(), v1::Job::RUNNING));

  ASSERT_OK(client.Cancel(job.job()));
  ASSERT_EQ(worker.WaitFor(v1::CoordinatorMessage::kRelease).size(), 1u);
  EXPECT_OK(client.Cancel(job.job())) << "safe to retry";
  EXPECT_THAT(client.Pause(job.job()), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(JobServiceTest, LeapsThroughTheWholeCycleAndShowsIt) {
  TestCoordinator coordinator(Options());
  TestClient client(coordinator.address());
  PaperAgent worker(coordinator.address(), "w0", v1::ROLE_WORKER);
  PaperAgent verifier(coordinator.address(), "v0", v1::ROLE_VERIFIER);
  const std::string spec =
      PaperJob("a",
               "  verifiers: {min_replicas: 1}\n"
               "  leap: {policy: line-search, interval_steps: 50, warmup_steps: 0,\n"
               "         regimes: [unknown, chaotic, transition, stable]}\n");
  ASSERT_OK_AND_ASSIGN(v1::Job job, client.Create(spec));
  ASSERT_OK(client.WaitFor(job.job(), v1::Job::RUNNING));
  ASSERT_FALSE(verifier.WaitFor(v1::CoordinatorMessage::kAssignVerifier).empty());
  // A snapshot, and what becomes of it, until a leap is committed; each predictor has its own idea
  // of how many it needs.
  for (int64_t step = 50; step <= 500 && job.leaps().committed() == 0; step += 50) {
    const size_t tasks = verifier.WaitFor(v1::CoordinatorMessage::kTask, 0).size();
    worker.Snapshot(step);
    ASSERT_GT(verifier.WaitFor(v1::CoordinatorMessage::kTask, tasks + 1).size(), tasks);
    if (step < 200) continue;
    ASSERT_OK_AND_ASSIGN(job, client.WaitUntil(job.job(), [](const v1::Job& j) {
      return j.leaps().committed() > 0;
    }));
  }
  worker.EndJob(1000);
  ASSERT_OK_AND_ASSIGN(job, client.WaitFor(job.job(), v1::Job::SUCCEEDED, absl::Seconds(40)));
  EXPECT_EQ(job.result().step(), 1000);
  const std::string metrics = coordinator.MetricsText();  // whoever sees the end finds it there
  EXPECT_THAT(metrics, HasSubstr("leap_jobs{state=\"SUCCEEDED\"} 1"));
  EXPECT_THAT(metrics, HasSubstr(absl::StrCat("leap_saved_steps{count=\"booked\"} ",
                                              job.leaps().booked_steps())));
  EXPECT_THAT(metrics, Not(HasSubstr("leap_regime{")));
  EXPECT_THAT(metrics, HasSubstr("leap_candidates_total{horizon_steps=\"10\",predictor=\"linear\","
                                 "reason=\"not-finite\",regime=\"stable\"} 0"));

  const auto rows = [&](auto call, auto request, auto response) {
    request.set_job(job.job());
    request.set_page_size(3);
    int total = 0;
    do {
      grpc::ClientContext context;
      client.Prepare(&context);
      EXPECT_OK(FromGrpcStatus(call(&context, request, &response)));
      request.set_page_token(response.next_page_token());
      total += static_cast<int>(response.ByteSizeLong() > 0);
    } while (!response.next_page_token().empty());
    return total;
  };
  auto& stub = client.stub();
  EXPECT_GE(rows([&](auto* c, auto& q, auto* r) { return stub.ListSnapshots(c, q, r); },
                 v1::ListSnapshotsRequest(), v1::ListSnapshotsResponse()),
            2);
  EXPECT_GE(rows([&](auto* c, auto& q, auto* r) { return stub.ListCandidates(c, q, r); },
                 v1::ListCandidatesRequest(), v1::ListCandidatesResponse()),
            1);
  EXPECT_GE(rows([&](auto* c, auto& q, auto* r) { return stub.ListLeaps(c, q, r); },
                 v1::ListLeapsRequest(), v1::ListLeapsResponse()),
            1);
  EXPECT_GE(rows([&](auto* c, auto& q, auto* r) { return stub.ListEvents(c, q, r); },
                 v1::ListEventsRequest(), v1::ListEventsResponse()),
            2);
  EXPECT_THAT(coordinator.MetricsText(),
              Not(HasSubstr("leap_leaps_total{outcome=\"applied\"} 0\n")));
  EXPECT_THAT(coordinator.MetricsText(), HasSubstr("leap_label_errors_total 0\n"));
  EXPECT_THAT(
      coordinator.MetricsText(),
      HasSubstr("leap_requests_total{code=\"OK\",method=\"leap.v1.JobService/CreateJob\"} 1\n"));
}

TEST_F(JobServiceTest, ARestartKeepsTheJobsAndTheRunningOneGoesOn) {
  TestCoordinator coordinator(Options());
  TestClient client(coordinator.address());
  PaperAgent worker(coordinator.address(), "w0", v1::ROLE_WORKER);
  ASSERT_OK_AND_ASSIGN(v1::Job running, client.Create(PaperJob("a")));
  ASSERT_OK(client.WaitFor(running.job(), v1::Job::RUNNING));
  ASSERT_OK_AND_ASSIGN(v1::Job queued, client.Create(PaperJob("b")));
  ASSERT_OK_AND_ASSIGN(v1::Job ended, client.Create(PaperJob("c")));
  ASSERT_OK(client.Cancel(ended.job()));

  coordinator.Restart();

  ASSERT_TRUE(worker.WaitConnected(2));
  ASSERT_OK_AND_ASSIGN(running, client.WaitFor(running.job(), v1::Job::RUNNING));
  EXPECT_EQ(running.epoch(), 1u) << "the group that trained on is the group";
  EXPECT_EQ(client.Get(queued.job())->state(), v1::Job::QUEUED);
  EXPECT_EQ(client.Get(ended.job())->state(), v1::Job::CANCELLED);
  ASSERT_OK_AND_ASSIGN(auto list, client.List(10));
  EXPECT_EQ(list.jobs_size(), 3);
}

TEST_F(JobServiceTest, AWatchIsToldThatTheCoordinatorGoesDown) {
  TestCoordinator coordinator(Options());
  TestClient client(coordinator.address());
  ASSERT_OK_AND_ASSIGN(v1::Job job, client.Create(PaperJob("a")));
  grpc::ClientContext context;
  client.Prepare(&context);
  v1::WatchJobRequest request;
  request.set_job(job.job());
  auto reader = client.stub().WatchJob(&context, request);
  v1::WatchJobResponse response;
  ASSERT_TRUE(reader->Read(&response));
  coordinator.Restart();
  while (reader->Read(&response)) {
  }
  EXPECT_THAT(FromGrpcStatus(reader->Finish()), HasReason(ErrorReason::kShuttingDown));
}

TEST_F(JobServiceTest, RolesAreChecked) {
  TestCoordinatorOptions options = Options();
  const std::string ann(32, 'a'), ben(32, 'b'), eve(32, 'e'), cat(32, 'c'), pool(32, 'p');
  options.auth = {
      .required = true,
      .token_file = dir_.Write("tokens", absl::StrCat(ann, " viewer ann\n", ben, " submitter ben\n",
                                                      eve, " submitter eve\n", cat,
                                                      " operator cat\n", pool, " worker pool\n"))};
  TestCoordinator coordinator(options);
  TestClient nobody(coordinator.address()), viewer(coordinator.address(), ann),
      owner(coordinator.address(), ben), other(coordinator.address(), eve),
      chief(coordinator.address(), cat), worker(coordinator.address(), pool);
  ASSERT_OK_AND_ASSIGN(v1::Job job, owner.Create(PaperJob("a")));
  EXPECT_EQ(job.submitter(), "ben");
  EXPECT_THAT(nobody.Get(job.job()), HasReason(ErrorReason::kUnauthenticated));
  EXPECT_OK(viewer.Get(job.job()));
  EXPECT_THAT(viewer.Create(PaperJob("b")), HasReason(ErrorReason::kPermissionDenied));
  EXPECT_THAT(viewer.Cancel(job.job()), HasReason(ErrorReason::kPermissionDenied));
  EXPECT_THAT(worker.Create(PaperJob("b")), HasReason(ErrorReason::kPermissionDenied));
  EXPECT_THAT(worker.Get(job.job()), HasReason(ErrorReason::kPermissionDenied));
  EXPECT_THAT(other.Cancel(job.job()), HasReason(ErrorReason::kPermissionDenied)) << "it is ben's";
  EXPECT_OK(chief.Cancel(job.job()));
  EXPECT_THAT(nobody.WaitFor(job.job(), v1::Job::RUNNING),
              HasReason(ErrorReason::kUnauthenticated));
}

TEST_F(JobServiceTest, ASubmitterHasOnlySoManyOpenJobs) {
  TestCoordinatorOptions options = Options();
  options.jobs.max_open_jobs_per_submitter = 2;
  TestCoordinator coordinator(options);
  TestClient client(coordinator.address());
  ASSERT_OK_AND_ASSIGN(v1::Job first, client.Create(PaperJob("a"), "r1"));
  ASSERT_OK(client.Create(PaperJob("b")));
  EXPECT_THAT(client.Create(PaperJob("c")), HasReason(ErrorReason::kQuotaExceeded));
  EXPECT_OK(client.Create(PaperJob("a"), "r1")) << "a retry is no new job";
  ASSERT_OK(client.Cancel(first.job()));
  EXPECT_OK(client.Create(PaperJob("c")));
}

TEST_F(JobServiceTest, PathsStayBelowTheRoots) {
  TestCoordinatorOptions options = Options();
  options.jobs.path_roots = {"/data/text", "/tmp"};
  TestCoordinator coordinator(options);
  TestClient client(coordinator.address());
  EXPECT_OK(client.Create(PaperJob("a", "  checkpoint: {dir: /tmp/x}\n")));
  for (const char* path : {"/etc", "/tmp/../etc", "/tmpx", "relative", "/data", "~/x"}) {
    const auto answer =
        client.Create(PaperJob("a", absl::StrCat("  checkpoint: {dir: ", path, "}\n")));
    EXPECT_THAT(answer,
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("spec.checkpoint.dir")))
        << path;
  }
}

TEST_F(JobServiceTest, TooManyWatchesAreRefused) {
  TestCoordinatorOptions options = Options();
  options.jobs.max_watches = 0;
  TestCoordinator coordinator(options);
  TestClient client(coordinator.address());
  ASSERT_OK_AND_ASSIGN(v1::Job job, client.Create(PaperJob("a")));
  EXPECT_THAT(client.WaitFor(job.job(), v1::Job::RUNNING), HasReason(ErrorReason::kQuotaExceeded));
}

}  // namespace
}  // namespace leap
