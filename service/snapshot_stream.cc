#include "service/snapshot_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "grpcpp/generic/generic_stub.h"
#include "service/rpc_status.h"
#include "service/snapshot_wire.h"

namespace leap {
namespace {

constexpr char kFetch[] = "/leap.v1.SnapshotService/Fetch";
constexpr absl::Duration kPoll = absl::Milliseconds(100);

absl::Time Now() { return RealClock().Now(); }

// One call with a completion queue of its own, so that every wait has an end.
class Call {
 public:
  Call(const std::shared_ptr<grpc::Channel>& channel, const ChannelOptions& options,
       const StreamLimits& limits)
      : limits_(limits), stub_(channel) {
    PrepareCall(options, std::max(limits.deadline - Now(), absl::ZeroDuration()), &context_);
    call_ = stub_.PrepareCall(&context_, kFetch, &queue_);
  }

  ~Call() {
    queue_.Shutdown();
    void* tag;
    bool ok;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  bool Start(const v1::FetchRequest& request) {
    call_->StartCall(this);
    if (!Wait()) return false;
    call_->WriteLast(EncodeFetchRequest(request), grpc::WriteOptions(), this);
    return Wait();
  }

  bool Read(grpc::ByteBuffer* message) {
    call_->Read(message, this);
    return Wait();
  }

  // Ends the call; `why`, or what ended it from our side, or what the peer said, in this order.
  absl::Status Finish(absl::Status why) {
    if (!why.ok()) context_.TryCancel();
    grpc::Status end;
    call_->Finish(&end, this);
    Wait();
    if (!why.ok()) return why;
    return given_up_.ok() ? FromGrpcStatus(end) : given_up_;
  }

 private:
  // Waits for the operation under way, looking up now and then whether to give up. One operation at
  // a time.
  bool Wait() {
    const absl::Time stalled = Now() + limits_.stall_timeout;
    void* tag;
    bool ok = false;
    for (;;) {
      const auto until = absl::ToChronoTime(Now() + kPoll);
      const auto next = queue_.AsyncNext(&tag, &ok, until);
      if (next == grpc::CompletionQueue::GOT_EVENT) return ok;
      if (next == grpc::CompletionQueue::SHUTDOWN) return false;
      if (!given_up_.ok()) continue;
      if (limits_.cancelled != nullptr && limits_.cancelled->load()) {
        given_up_ = absl::CancelledError("the fetch was cancelled");
      } else if (Now() >= stalled) {
        given_up_ = absl::DeadlineExceededError(
            absl::StrCat("nothing came for ", absl::FormatDuration(limits_.stall_timeout)));
      } else {
        continue;
      }
      context_.TryCancel();  // and the operation comes back with ok = false
    }
  }

  const StreamLimits limits_;
  grpc::CompletionQueue queue_;
  grpc::ClientContext context_;
  grpc::GenericStub stub_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  absl::Status given_up_;
};

}  // namespace

absl::Status ReadSnapshotStream(const std::shared_ptr<grpc::Channel>& channel,
                                const ChannelOptions& options, const v1::FetchRequest& request,
                                const StreamLimits& limits, std::span<float> out, int64_t* done) {
  const FlatRange range{request.begin(), request.end()};
  int64_t next = range.begin;
  Call call(channel, options, limits);
  absl::Status status;
  bool open = call.Start(request);
  grpc::ByteBuffer message;
  while (open && call.Read(&message)) {
    if (next == range.end) {
      status = MakeError(absl::StatusCode::kDataLoss, ErrorReason::kWeightsCorrupt,
                         "more chunks than asked for");
      break;
    }
    const auto chunk = DecodeChunk(&message, range, next, out);
    if (!chunk.ok()) {
      status = chunk.status();
      break;
    }
    next = chunk->end;
    *done = next - range.begin;
    if (limits.cancelled != nullptr && limits.cancelled->load()) {
      status = absl::CancelledError("the fetch was cancelled");
      break;
    }
  }
  status = call.Finish(std::move(status));
  if (status.ok() && next != range.end) {
    return MakeError(absl::StatusCode::kDataLoss, ErrorReason::kWeightsCorrupt,
                     absl::StrCat("the stream ended at float ", next, ", expected ", range.end));
  }
  return status;
}

}  // namespace leap
