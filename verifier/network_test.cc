// The verifier's data plane over real sockets: shards pulled from two ranks, a second verifier
// served by the first, and what happens when a holder is gone or wrong.
#include <atomic>

#include "base/clock.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/auth.h"
#include "service/server.h"
#include "service/snapshot_client.h"
#include "service/snapshot_server.h"
#include "verifier/fake_cluster.h"
#include "verifier/holdings.h"
#include "verifier/task_runner.h"

namespace leap {
namespace {

// One rank's ring: its shard of what the cluster holds.
class RankSource final : public SnapshotSource {
 public:
  RankSource(const FakeCluster* cluster, FlatRange shard) : cluster_(cluster), shard_(shard) {}

  absl::StatusOr<PinnedRange> Pin(const v1::FetchRequest& request) override {
    ++pins;
    const FlatRange range{request.begin(), request.end()};
    if (range.begin < shard_.begin || range.end > shard_.end) {
      return absl::OutOfRangeError("not this rank's shard");
    }
    auto values =
        std::make_shared<std::vector<float>>(cluster_->Get(request.step(), request.buffer()));
    const std::span<const float> part = std::span<const float>(*values).subspan(
        static_cast<size_t>(range.begin), static_cast<size_t>(range.size()));
    return PinnedRange{.range = range, .values = part, .keep_alive = values};
  }
  std::vector<v1::Holding> ListHoldings(const std::string&) override { return {}; }

  std::atomic<int> pins = 0;

 private:
  const FakeCluster* const cluster_;
  const FlatRange shard_;
};

// A SnapshotService on a free port of loopback.
class Served {
 public:
  explicit Served(SnapshotSource* source)
      : auth_(*Authenticator::Create({})), service_(MakeSnapshotService(source, auth_.get())) {
    auto server = RpcServer::Start({}, {service_.get()});
    EXPECT_OK(server);
    server_ = *std::move(server);
  }
  const std::string& address() const { return server_->address(); }
  void Stop() { server_->Shutdown(absl::ZeroDuration()); }

 private:
  std::unique_ptr<Authenticator> auth_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<RpcServer> server_;
};

struct NetworkTest : ::testing::Test {
  NetworkTest() {
    cluster.Set(50, v1::BUFFER_WEIGHTS, 1.5f);
    cluster.Set(100, v1::BUFFER_WEIGHTS, 2.5f);
  }
  v1::ShardSource Source(const Served& served, FlatRange range, int rank) {
    v1::ShardSource source;
    source.set_data_address(served.address());
    source.set_begin(range.begin);
    source.set_end(range.end);
    source.set_rank(rank);
    return source;
  }
  // A task whose snapshots come from the two ranks, and from `also`.
  v1::Task Task(v1::Task::Kind kind, const std::vector<int64_t>& steps,
                const std::vector<v1::ShardSource>& also = {}) {
    v1::Task task = cluster.Task(kind, steps);
    for (v1::SnapshotRef& ref : *task.mutable_snapshots()) {
      ref.clear_sources();
      *ref.add_sources() = Source(served0, shard0, 0);
      *ref.add_sources() = Source(served1, shard1, 1);
      for (const v1::ShardSource& source : also) *ref.add_sources() = source;
    }
    return task;
  }
  std::unique_ptr<TaskRunner> Runner(SnapshotStore* store) {
    JobSpec spec;
    spec.train.steps = 1000;
    spec.leap.predictors = {{.name = "linear", .horizons_steps = {50}}};
    return *TaskRunner::Create(
        "job", spec, std::make_unique<FakeScorer>(), store,
        [this](const BufferRequest& request, std::span<const v1::ShardSource> sources,
               std::span<float> out) { return client.FetchBuffer(request, sources, out); },
        0);
  }

  FakeCluster cluster;
  const FlatRange whole{0, SmallLayout().size};
  const FlatRange shard0 = ShardOf(SmallLayout().size, 0, 2),
                  shard1 = ShardOf(SmallLayout().size, 1, 2);
  RankSource rank0{&cluster, shard0}, rank1{&cluster, shard1};
  Served served0{&rank0}, served1{&rank1};
  SnapshotClient client{{}};
  TaskControl control{RealClock(), RealClock().Now() + absl::Seconds(30)};
};

TEST_F(NetworkTest, PutsShardsTogetherAndScoresWhatTheRanksHold) {
  SnapshotStore store;
  const v1::TaskResult result = Runner(&store)->Run(Task(v1::Task::BASELINE, {100, 50}), control);
  EXPECT_TRUE(result.ok()) << result.error();
  EXPECT_EQ(result.digest(), cluster.Digest(100, v1::BUFFER_WEIGHTS));
  EXPECT_EQ(rank0.pins, 2);
  EXPECT_EQ(rank1.pins, 2);
}

TEST_F(NetworkTest, ASecondVerifierIsServedByTheFirst) {
  SnapshotStore first;
  ASSERT_TRUE(Runner(&first)->Run(Task(v1::Task::BASELINE, {100, 50}), control).ok());
  Holdings holdings(&first);
  Served verifier(&holdings);
  SnapshotStore second;
  const v1::TaskResult result = Runner(&second)->Run(
      Task(v1::Task::CANDIDATE, {100, 50}, {Source(verifier, whole, -1)}), control);
  EXPECT_TRUE(result.ok()) << result.error();
  EXPECT_EQ(rank0.pins, 2) << "the ranks uploaded each snapshot once";
}

TEST_F(NetworkTest, AVerifierThatIsGoneOrWrongCostsNothingButAFetch) {
  FakeCluster other;  // a verifier with the weights of some other run
  for (const int64_t step : {50, 100}) other.Set(step, v1::BUFFER_WEIGHTS, -1.0f);
  RankSource wrong_source(&other, whole);
  Served wrong(&wrong_source);
  RankSource gone_source(&cluster, whole);
  Served gone(&gone_source);
  const v1::ShardSource gone_address = Source(gone, whole, -1);
  gone.Stop();
  SnapshotStore store;
  const v1::TaskResult result = Runner(&store)->Run(
      Task(v1::Task::CANDIDATE, {100, 50}, {gone_address, Source(wrong, whole, -1)}), control);
  EXPECT_TRUE(result.ok()) << result.error();
  EXPECT_GE(wrong_source.pins, 1);
  EXPECT_EQ(store.FindStep("job", 100)->weights_digest, cluster.Digest(100, v1::BUFFER_WEIGHTS));
}

}  // namespace
}  // namespace leap
