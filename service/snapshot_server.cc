#include "service/snapshot_server.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "grpcpp/alarm.h"
#include "leap/v1/snapshot.grpc.pb.h"
#include "service/rpc_status.h"
#include "service/snapshot_wire.h"

namespace leap {
namespace {

using ListCallback =
    v1::SnapshotService::WithCallbackMethod_ListHoldings<v1::SnapshotService::Service>;
using FetchRaw = v1::SnapshotService::WithRawCallbackMethod_Fetch<ListCallback>;

constexpr absl::string_view kFetch = "/leap.v1.SnapshotService/Fetch";
constexpr absl::string_view kListHoldings = "/leap.v1.SnapshotService/ListHoldings";

absl::Status CheckRequest(const v1::FetchRequest& request) {
  const auto wrong = [](absl::string_view what) {
    return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kProtocolViolation, what);
  };
  if (request.job().empty() || request.job().size() > 128)
    return wrong("job: expected 1 to 128 characters");
  if (!v1::Buffer_IsValid(request.buffer()) || request.buffer() == v1::BUFFER_UNSPECIFIED) {
    return wrong("buffer: expected one of leap.v1.Buffer");
  }
  if (request.begin() < 0 || request.end() <= request.begin()) {
    return wrong(
        absl::StrCat("expected 0 <= begin < end, saw ", request.begin(), " and ", request.end()));
  }
  return absl::OkStatus();
}

// A refusal: a stream that ends before it began.
class Refusal final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit Refusal(const absl::Status& status) { Finish(ToGrpcStatus(status)); }
  void OnDone() override { delete this; }
};

// One fetch: writes chunk after chunk of its pinned range. Deletes itself when both gRPC and the
// alarm are done with it.
class FetchStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  FetchStream(PinnedRange pinned, absl::Time deadline, grpc::CallbackServerContext* context,
              std::atomic<int>* streams, FetchObserver* observer)
      : pinned_(std::move(pinned)),
        next_(pinned_.range.begin),
        context_(context),
        streams_(streams),
        observer_(observer) {
    alarm_.Set(absl::ToChronoTime(deadline), [this](bool expired) {
      if (expired && !done_.load()) context_->TryCancel();
      Unref();
    });
    Next();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      Finish(grpc::Status(grpc::CANCELLED, "the reader went away or took too long"));
      return;
    }
    if (next_ == pinned_.range.end) {
      complete_ = true;
      Finish(grpc::Status::OK);
      return;
    }
    Next();
  }

  void OnDone() override {
    if (observer_ != nullptr) {
      observer_->OnFetch((next_ - pinned_.range.begin) * static_cast<int64_t>(sizeof(float)),
                         complete_);
    }
    streams_->fetch_sub(1);
    done_.store(true);
    pinned_ = {};  // the ring may have its memory back, also if the alarm is late
    alarm_.Cancel();
    Unref();
  }

 private:
  void Next() {
    const int64_t floats = std::min(kChunkFloats, pinned_.range.end - next_);
    const auto values = pinned_.values.subspan(static_cast<size_t>(next_ - pinned_.range.begin),
                                               static_cast<size_t>(floats));
    chunk_ = EncodeChunk(next_, values, pinned_.keep_alive);
    next_ += floats;
    StartWrite(&chunk_);
  }

  void Unref() {
    if (users_.fetch_sub(1) == 1) delete this;
  }

  PinnedRange pinned_;
  int64_t next_;
  grpc::ByteBuffer chunk_;
  grpc::CallbackServerContext* const context_;  // valid until OnDone
  std::atomic<int>* const streams_;
  FetchObserver* const observer_;
  grpc::Alarm alarm_;
  bool complete_ = false;
  std::atomic<bool> done_{false};
  std::atomic<int> users_{2};
};

class SnapshotServiceImpl final : public FetchRaw {
 public:
  SnapshotServiceImpl(SnapshotSource* source, const Authenticator* auth,
                      const SnapshotServerOptions& options)
      : source_(source), auth_(auth), options_(options) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Fetch(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* message) override {
    if (streams_.fetch_add(1) >= options_.max_streams) {
      return Refuse(MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kQuotaExceeded,
                              absl::StrCat("already serves ", options_.max_streams,
                                           " streams; ask another holder, or later")));
    }
    absl::StatusOr<PinnedRange> pinned = Pin(*context, *message);
    if (!pinned.ok()) return Refuse(pinned.status());
    return new FetchStream(*std::move(pinned), RealClock().Now() + options_.max_stream, context,
                           &streams_, options_.observer);
  }

  grpc::ServerUnaryReactor* ListHoldings(grpc::CallbackServerContext* context,
                                         const v1::ListHoldingsRequest* request,
                                         v1::ListHoldingsResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const auto caller = auth_->Check(*context, kListHoldings);
    if (caller.ok()) {
      for (v1::Holding& holding : source_->ListHoldings(request->job())) {
        *response->add_holdings() = std::move(holding);
      }
    }
    reactor->Finish(ToGrpcStatus(caller.status()));
    return reactor;
  }

 private:
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Refuse(const absl::Status& status) {
    streams_.fetch_sub(1);
    return new Refusal(status);
  }

  absl::StatusOr<PinnedRange> Pin(const grpc::CallbackServerContext& context,
                                  grpc::ByteBuffer message) {
    LEAP_RETURN_IF_ERROR(auth_->Check(context, kFetch).status());
    LEAP_ASSIGN_OR_RETURN(v1::FetchRequest request, DecodeFetchRequest(&message));
    LEAP_RETURN_IF_ERROR(CheckRequest(request));
    LEAP_ASSIGN_OR_RETURN(PinnedRange pinned, source_->Pin(request));
    const FlatRange asked{request.begin(), request.end()};
    if (pinned.range != asked || static_cast<int64_t>(pinned.values.size()) != asked.size()) {
      return absl::InternalError("the ring pinned another range than was asked for");
    }
    return pinned;
  }

  SnapshotSource* const source_;
  const Authenticator* const auth_;
  const SnapshotServerOptions options_;
  std::atomic<int> streams_{0};
};

}  // namespace

std::unique_ptr<grpc::Service> MakeSnapshotService(SnapshotSource* source,
                                                   const Authenticator* auth,
                                                   const SnapshotServerOptions& options) {
  return std::make_unique<SnapshotServiceImpl>(source, auth, options);
}

}  // namespace leap
