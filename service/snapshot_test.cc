// SnapshotService from end to end on loopback: real server and client; holders that lie are written
// by hand.
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/status_matchers.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "leap/v1/snapshot.grpc.pb.h"
#include "service/rpc_status.h"
#include "service/server.h"
#include "service/snapshot_client.h"
#include "service/snapshot_server.h"
#include "service/snapshot_wire.h"
#include "xxhash.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

// Three chunks and a bit.
constexpr int64_t kSize = 3 * kChunkFloats + 1000;

std::vector<float> Ramp(int64_t size) {
  std::vector<float> values(static_cast<size_t>(size));
  std::iota(values.begin(), values.end(), 1.0f);
  return values;
}

// A ring with one snapshot, step 50 of epoch 2 of "job", of which it holds `range`.
class Ring final : public SnapshotSource, public FetchObserver {
 public:
  explicit Ring(FlatRange range, int64_t size = kSize)
      : range_(range), values_(std::make_shared<std::vector<float>>(Ramp(size))) {}

  absl::StatusOr<PinnedRange> Pin(const v1::FetchRequest& request) override {
    if (request.job() != "job" || request.step() != 50) {
      return MakeError(absl::StatusCode::kNotFound, ErrorReason::kSnapshotNotFound,
                       "not in the ring");
    }
    if (request.epoch() != 2) {
      return MakeError(absl::StatusCode::kAborted, ErrorReason::kStaleEpoch, "the epoch is 2",
                       {{"epoch", "2"}});
    }
    if (request.begin() < range_.begin || request.end() > range_.end) {
      return absl::OutOfRangeError(absl::StrCat("holds ", range_.begin, "..", range_.end));
    }
    return PinnedRange{.range = {request.begin(), request.end()},
                       .values = std::span<const float>(*values_).subspan(
                           static_cast<size_t>(request.begin()),
                           static_cast<size_t>(request.end() - request.begin())),
                       .keep_alive = values_};
  }

  std::vector<v1::Holding> ListHoldings(const std::string& job) override {
    v1::Holding holding;
    holding.set_step(50);
    if (job != "job") return {};
    return {holding};
  }

  void OnFetch(int64_t bytes, bool complete) override {
    MutexLock lock(&mutex_);
    fetches_.emplace_back(bytes, complete);
  }
  bool WaitForFetches(size_t count) {
    MutexLock lock(&mutex_);
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return fetches_.size() >= count;
    };
    return mutex_.AwaitWithTimeout(Condition(&enough), absl::Seconds(10));
  }
  std::vector<std::pair<int64_t, bool>> fetches() {
    MutexLock lock(&mutex_);
    return fetches_;
  }
  // Until nobody but the ring holds the values: gRPC's threads may let go after the stream ended.
  bool WaitUntilReleased() {
    const absl::Time give_up = RealClock().Now() + absl::Seconds(10);
    while (values_.use_count() > 1 && RealClock().Now() < give_up) std::this_thread::yield();
    return values_.use_count() == 1;
  }

 private:
  const FlatRange range_;
  const std::shared_ptr<std::vector<float>> values_;
  Mutex mutex_;
  std::vector<std::pair<int64_t, bool>> fetches_ ABSL_GUARDED_BY(mutex_);
};

// An honest holder of `range`.
struct Holder {
  explicit Holder(FlatRange range, SnapshotServerOptions options = {})
      : ring(range, std::max(range.end, kSize)) {
    options.observer = &ring;
    service = MakeSnapshotService(&ring, auth.get(), options);
    server = *RpcServer::Start({}, {service.get()});
  }
  Ring ring;
  std::unique_ptr<Authenticator> auth = *Authenticator::Create({});
  std::unique_ptr<grpc::Service> service;
  std::unique_ptr<RpcServer> server;
};

using Writer = grpc::ServerWriter<v1::FetchResponse>;

// A holder that answers as the test says, through ordinary proto.
class Scripted final : public v1::SnapshotService::Service {
 public:
  using Script =
      std::function<grpc::Status(const v1::FetchRequest&, grpc::ServerContext*, Writer*)>;
  explicit Scripted(Script script) : script_(std::move(script)) {
    server = *RpcServer::Start({}, {this});
  }
  ~Scripted() override { server->Shutdown(absl::ZeroDuration()); }
  grpc::Status Fetch(grpc::ServerContext* context, const v1::FetchRequest* request,
                     Writer* writer) override {
    ++calls;
    return script_(*request, context, writer);
  }
  std::unique_ptr<RpcServer> server;
  std::atomic<int> calls{0};

 private:
  const Script script_;
};

// The true chunk at `begin`, up to `end`.
v1::FetchResponse Chunk(int64_t begin, int64_t end) {
  static const auto* const values = new std::vector<float>(Ramp(kSize));
  const int64_t floats = std::min(end - begin, kChunkFloats);
  v1::FetchResponse chunk;
  chunk.set_begin(begin);
  chunk.set_data(values->data() + begin, static_cast<size_t>(floats) * sizeof(float));
  chunk.set_checksum(XXH3_64bits(chunk.data().data(), chunk.data().size()));
  return chunk;
}

v1::ShardSource At(const std::string& address, FlatRange range) {
  v1::ShardSource source;
  source.set_data_address(address);
  source.set_begin(range.begin);
  source.set_end(range.end);
  return source;
}
constexpr FlatRange kAll{0, kSize};

class SnapshotTest : public testing::Test {
 protected:
  absl::Status Fetch(const std::vector<v1::ShardSource>& sources) {
    out_.assign(kSize, -1.0f);
    return client_.FetchBuffer(request_, sources, out_, &stats_);
  }
  bool Correct() const { return out_ == Ramp(kSize); }

  v1::FetchRequest Range(int64_t begin, int64_t end) const {
    v1::FetchRequest request;
    request.set_job(request_.job);
    request.set_epoch(request_.epoch);
    request.set_step(request_.step);
    request.set_buffer(request_.buffer);
    request.set_begin(begin);
    request.set_end(end);
    return request;
  }

  BufferRequest request_{
      .job = "job", .epoch = 2, .step = 50, .size = kSize, .timeout = absl::Seconds(20)};
  SnapshotClient client_{{}};
  std::vector<float> out_;
  FetchStats stats_;
};

TEST_F(SnapshotTest, AssemblesTheBufferFromShards) {
  const int64_t cut = kChunkFloats + 17;
  Holder first({0, cut}), second({cut, kSize});
  ASSERT_OK(
      Fetch({At(first.server->address(), {0, cut}), At(second.server->address(), {cut, kSize})}));
  EXPECT_TRUE(Correct());
  EXPECT_EQ(stats_.bytes, kSize * 4);
  EXPECT_EQ(stats_.retries, 0);
  ASSERT_TRUE(first.ring.WaitForFetches(1));
  EXPECT_EQ(first.ring.fetches()[0], std::make_pair(cut * 4, true));
}

TEST_F(SnapshotTest, TakesEachRangeFromTheEarliestHolderOnly) {
  Holder rank({0, kSize}), verifier({0, kSize});
  ASSERT_OK(Fetch({At(rank.server->address(), kAll), At(verifier.server->address(), kAll)}));
  EXPECT_TRUE(verifier.ring.fetches().empty());
}

TEST_F(SnapshotTest, GivesTheMemoryBackWhenTheStreamEnds) {
  Holder holder(kAll);
  ASSERT_OK(Fetch({At(holder.server->address(), kAll)}));
  ASSERT_TRUE(holder.ring.WaitForFetches(1));
  holder.server->Shutdown(absl::Seconds(5));
  EXPECT_TRUE(holder.ring.WaitUntilReleased());
}

TEST_F(SnapshotTest, TakesACorruptChunkFromSomebodyElse) {
  Scripted liar([](const v1::FetchRequest& request, grpc::ServerContext*, Writer* writer) {
    writer->Write(Chunk(0, request.end()));
    v1::FetchResponse chunk = Chunk(kChunkFloats, request.end());
    (*chunk.mutable_data())[5] ^= 1;
    writer->Write(chunk);
    return grpc::Status::OK;
  });
  Holder honest(kAll);
  ASSERT_OK(Fetch({At(liar.server->address(), kAll), At(honest.server->address(), kAll)}));
  EXPECT_TRUE(Correct());
  EXPECT_EQ(stats_.corrupt_chunks, 1);
  ASSERT_TRUE(honest.ring.WaitForFetches(1));
  EXPECT_EQ(honest.ring.fetches()[0].first, (kSize - kChunkFloats) * 4)
      << "what had arrived is kept";
}

TEST_F(SnapshotTest, ReportsDataLossWhenNobodyHasItUncorrupted) {
  Scripted liar([](const v1::FetchRequest& request, grpc::ServerContext*, Writer* writer) {
    v1::FetchResponse chunk = Chunk(request.begin(), request.end());
    chunk.set_checksum(chunk.checksum() + 1);
    writer->Write(chunk);
    return grpc::Status::OK;
  });
  EXPECT_THAT(Fetch({At(liar.server->address(), kAll)}), HasReason(ErrorReason::kWeightsCorrupt));
  EXPECT_EQ(liar.calls, 2);
}

TEST_F(SnapshotTest, TakesUpATruncatedStreamWhereItBrokeOff) {
  Scripted lazy([](const v1::FetchRequest& request, grpc::ServerContext*, Writer* writer) {
    writer->Write(Chunk(request.begin(), request.end()));
    return grpc::Status::OK;  // one chunk a call
  });
  SnapshotClient patient{{.attempts_per_source = 10}};
  out_.assign(kSize, -1.0f);
  ASSERT_OK(
      patient.FetchBuffer(request_, std::vector{At(lazy.server->address(), kAll)}, out_, &stats_));
  EXPECT_TRUE(Correct());
  EXPECT_EQ(lazy.calls, 4);
  EXPECT_EQ(stats_.retries, 3);
}

TEST_F(SnapshotTest, LeavesAHolderThatStallsForAnother) {
  Scripted stuck([](const v1::FetchRequest& request, grpc::ServerContext* context, Writer* writer) {
    writer->Write(Chunk(request.begin(), request.end()));
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  });
  Holder honest(kAll);
  // It may be that honest is late, too, on a busy machine; then it is asked again.
  SnapshotClient impatient{{.attempts_per_source = 10, .stall_timeout = absl::Milliseconds(300)}};
  const std::vector sources = {At(stuck.server->address(), kAll),
                               At(honest.server->address(), kAll)};
  out_.assign(kSize, -1.0f);
  ASSERT_OK(impatient.FetchBuffer(request_, sources, out_, &stats_));
  EXPECT_TRUE(Correct());
}

TEST_F(SnapshotTest, RefusesChunksThatOverlapJumpOrGoOn) {
  const std::vector<std::function<void(const v1::FetchRequest&, Writer*)>> tricks = {
      [](const auto& r, Writer* w) {
        w->Write(Chunk(0, r.end()));
        w->Write(Chunk(0, r.end()));
      },
      [](const auto& r, Writer* w) { w->Write(Chunk(kChunkFloats, r.end())); },
      [](const auto& r, Writer* w) {
        for (int64_t b = 0; b < r.end(); b += kChunkFloats) w->Write(Chunk(b, r.end()));
        w->Write(Chunk(0, 10));
      },
      [](const auto&, Writer* w) { w->Write(v1::FetchResponse()); },
      [](const auto&, Writer* w) {
        v1::FetchResponse big;
        big.set_data(std::string(3 << 20, 'x'));
        w->Write(big);
      },
  };
  for (size_t i = 0; i < tricks.size(); ++i) {
    Scripted trickster([&](const v1::FetchRequest& request, grpc::ServerContext*, Writer* writer) {
      tricks[i](request, writer);
      return grpc::Status::OK;
    });
    out_.assign(kSize, 0);
    EXPECT_FALSE(
        client_.FetchRange(trickster.server->address(), Range(0, kSize), out_, absl::Seconds(5))
            .ok())
        << i;
  }
}

TEST_F(SnapshotTest, AnswersAWrongEpochAsStale) {
  Holder holder(kAll);
  request_.epoch = 1;
  EXPECT_THAT(Fetch({At(holder.server->address(), kAll)}), HasReason(ErrorReason::kStaleEpoch));
}

TEST_F(SnapshotTest, SaysThatASnapshotIsGone) {
  Holder one(kAll), two(kAll);
  request_.step = 49;
  EXPECT_THAT(Fetch({At(one.server->address(), kAll), At(two.server->address(), kAll)}),
              HasReason(ErrorReason::kSnapshotNotFound));
}

TEST_F(SnapshotTest, PassesOverTheUnwillingAndTheDead) {
  Scripted unwilling(
      [](const auto&, auto*, auto*) { return grpc::Status(grpc::PERMISSION_DENIED, "no"); });
  std::string dead;
  {
    Holder gone(kAll);
    dead = gone.server->address();
  }
  Holder partial({0, 10}), honest(kAll);
  ASSERT_OK(Fetch({At(unwilling.server->address(), kAll), At(dead, kAll),
                   At(partial.server->address(), kAll), At(honest.server->address(), kAll)}));
  EXPECT_TRUE(Correct());
  EXPECT_EQ(unwilling.calls, 1) << "asked once";
}

TEST_F(SnapshotTest, NamesTheRangeThatNobodyHolds) {
  Holder half({0, 1000});
  EXPECT_THAT(Fetch({At(half.server->address(), {0, 1000})}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(absl::StrCat("1000..", kSize))));
  EXPECT_THAT(Fetch({}), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Fetch({At(half.server->address(), {-5, -1}), At(half.server->address(), {7, 3})}),
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(SnapshotTest, EndsWhenCancelled) {
  Scripted stuck([](const auto&, grpc::ServerContext* context, Writer*) {
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  });
  std::atomic<bool> cancelled{true};
  request_.cancelled = &cancelled;
  EXPECT_THAT(Fetch({At(stuck.server->address(), kAll)}), StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(SnapshotTest, EndsAtItsDeadline) {
  Scripted stuck([](const auto&, grpc::ServerContext* context, Writer*) {
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  });
  request_.timeout = absl::Milliseconds(50);
  EXPECT_THAT(Fetch({At(stuck.server->address(), kAll)}),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST_F(SnapshotTest, TheServerRefusesRequestsThatMakeNoSense) {
  Holder holder(kAll);
  const auto code = [&](v1::FetchRequest request) {
    std::vector<float> out(10);
    // Past the client's own check, on the raw stub.
    auto channel = *MakeChannel(holder.server->address(), {});
    grpc::ClientContext context;
    PrepareCall({}, absl::Seconds(5), &context);
    auto reader = v1::SnapshotService::NewStub(channel)->Fetch(&context, request);
    v1::FetchResponse chunk;
    while (reader->Read(&chunk)) {
    }
    return FromGrpcStatus(reader->Finish()).code();
  };
  EXPECT_EQ(code(Range(5, 5)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Range(-1, 5)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Range(INT64_MIN, INT64_MAX)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Range(0, INT64_MAX)), absl::StatusCode::kOutOfRange);
  v1::FetchRequest request = Range(0, 5);
  request.set_buffer(v1::BUFFER_UNSPECIFIED);
  EXPECT_EQ(code(request), absl::StatusCode::kInvalidArgument);
  request.set_buffer(static_cast<v1::Buffer>(99));
  EXPECT_EQ(code(request), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Range(0, 5)), absl::StatusCode::kOk);
}

TEST_F(SnapshotTest, TheServerBoundsItsStreamsAndTheirTime) {
  Holder busy(kAll, {.max_streams = 0});
  out_.assign(10, 0);
  EXPECT_THAT(client_.FetchRange(busy.server->address(), Range(0, 10), out_, absl::Seconds(5)),
              HasReason(ErrorReason::kQuotaExceeded));
  // A reader that does not read holds the ring's memory only for so long.
  constexpr int64_t kMuch = 16 << 20;  // floats: more than fits into the windows on the way
  Holder strict({0, kMuch}, {.max_stream = absl::Milliseconds(50)});
  auto channel = *MakeChannel(strict.server->address(), {});
  grpc::ClientContext context;
  auto reader = v1::SnapshotService::NewStub(channel)->Fetch(&context, Range(0, kMuch));
  ASSERT_TRUE(strict.ring.WaitForFetches(1));
  EXPECT_FALSE(strict.ring.fetches()[0].second);
  context.TryCancel();
  reader->Finish();
}

TEST_F(SnapshotTest, RefusesSizesThatCannotBe) {
  for (const int64_t size : {int64_t{0}, int64_t{-1}, int64_t{1} << 41, kSize + 1}) {
    request_.size = size;
    EXPECT_THAT(Fetch({At("127.0.0.1:1", kAll)}), StatusIs(absl::StatusCode::kInvalidArgument))
        << size;
  }
}

TEST_F(SnapshotTest, ListsWhatAHolderHas) {
  Holder holder(kAll);
  ASSERT_OK_AND_ASSIGN(auto holdings,
                       client_.ListHoldings(holder.server->address(), "job", absl::Seconds(5)));
  ASSERT_EQ(holdings.size(), 1u);
  EXPECT_EQ(holdings[0].step(), 50);
}

}  // namespace
}  // namespace leap
