#include "service/snapshot_client.h"

#include <algorithm>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "leap/v1/snapshot.grpc.pb.h"
#include "service/rpc_status.h"
#include "service/snapshot_stream.h"
#include "service/snapshot_wire.h"

namespace leap {
namespace {

constexpr int64_t kMaxFloats = int64_t{1} << 40;
constexpr size_t kMaxSources = 4096;

absl::Time Now() { return RealClock().Now(); }

// A holder, and how it has behaved in this fetch.
struct Source {
  std::string address;
  FlatRange range;
  int failures = 0;
  absl::Status last_error;
};

// A part of the buffer that one holder can serve, still to be fetched.
struct Piece {
  FlatRange range;
  int tries = 0;
};

// Errors after which asking the same holder again is pointless.
bool IsFinal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kUnimplemented:
      return true;
    default:
      return false;
  }
}

// What is left of what they say once it is cut to the buffer; those with nothing are dropped.
std::vector<Source> UsableSources(std::span<const v1::ShardSource> shards, int64_t size) {
  std::vector<Source> sources;
  for (const v1::ShardSource& shard : shards.first(std::min(shards.size(), kMaxSources))) {
    const FlatRange range{std::max<int64_t>(shard.begin(), 0), std::min(shard.end(), size)};
    if (range.size() > 0) sources.push_back({.address = shard.data_address(), .range = range});
  }
  return sources;
}

// Cuts [0, size) at every boundary of a source, then joins neighbours whose first holder is the
// same. Empty if some range has no holder; `gap` names it.
std::vector<Piece> Cut(const std::vector<Source>& sources, int64_t size, FlatRange* gap) {
  std::vector<int64_t> cuts = {0, size};
  for (const Source& source : sources) {
    cuts.push_back(source.range.begin);
    cuts.push_back(source.range.end);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::vector<Piece> pieces;
  std::string last_address;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    const FlatRange range{cuts[i], cuts[i + 1]};
    const auto holds = [&](const Source& s) {
      return s.range.begin <= range.begin && s.range.end >= range.end;
    };
    const auto first = std::find_if(sources.begin(), sources.end(), holds);
    if (first == sources.end()) {
      *gap = range;
      return {};
    }
    if (!pieces.empty() && first->address == last_address &&
        first->range.begin <= pieces.back().range.begin) {
      pieces.back().range.end = range.end;
    } else {
      pieces.push_back({.range = range});
    }
    last_address = first->address;
  }
  return pieces;
}

// One FetchBuffer: the pieces left, shared by its threads.
class Assembly {
 public:
  using Connect = std::function<absl::StatusOr<std::shared_ptr<grpc::Channel>>(const std::string&)>;

  Assembly(const BufferRequest& request, const SnapshotClientOptions& options, Connect connect,
           std::vector<Source> sources, std::vector<Piece> pieces, std::span<float> out)
      : request_(request),
        options_(options),
        connect_(std::move(connect)),
        out_(out),
        deadline_(Now() + request.timeout),
        sources_(std::move(sources)),
        pieces_(std::move(pieces)) {}

  absl::Status Run(FetchStats* stats) {
    const absl::Time began = Now();
    size_t width = 0;
    {
      MutexLock lock(&mutex_);
      width = std::min(pieces_.size(), static_cast<size_t>(std::max(1, options_.max_parallel)));
    }
    std::vector<std::thread> helpers;
    for (size_t i = 1; i < width; ++i) helpers.emplace_back([this] { Work(); });
    Work();
    for (std::thread& helper : helpers) helper.join();
    MutexLock lock(&mutex_);
    stats_.seconds = absl::ToDoubleSeconds(Now() - began);
    if (stats != nullptr) *stats = stats_;
    return error_;
  }

 private:
  void Work() {
    Piece piece;
    while (Take(&piece)) {
      size_t index = 0;
      if (!ChooseSource(piece, &index)) {
        Fail(Unobtainable(piece));
        return;
      }
      const absl::Status status = FetchFrom(index, &piece);
      if (!Account(index, status, piece)) return;
    }
  }

  // The next piece; waits while others work, for they may give theirs back.
  bool Take(Piece* piece) {
    MutexLock lock(&mutex_);
    const auto settled = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return !error_.ok() || !pieces_.empty() || working_ == 0;
    };
    mutex_.Await(Condition(&settled));  // bounded: those at work end by the deadline
    if (!error_.ok() || pieces_.empty()) return false;
    *piece = pieces_.back();
    pieces_.pop_back();
    ++working_;
    return true;
  }

  // The first holder that has not failed too often; with each try of a piece the fresh ones come
  // first.
  bool ChooseSource(const Piece& piece, size_t* index) {
    MutexLock lock(&mutex_);
    std::optional<size_t> best;
    for (size_t i = 0; i < sources_.size(); ++i) {
      const Source& source = sources_[i];
      if (source.range.begin > piece.range.begin || source.range.end < piece.range.end) continue;
      if (source.failures >= options_.attempts_per_source) continue;
      if (!best || source.failures < sources_[*best].failures) best = i;
    }
    if (best) *index = *best;
    return best.has_value();
  }

  absl::Status FetchFrom(size_t index, Piece* piece) {
    std::string address;
    {
      MutexLock lock(&mutex_);
      address = sources_[index].address;
    }
    LEAP_ASSIGN_OR_RETURN(auto channel, connect_(address));
    v1::FetchRequest request;
    request.set_job(request_.job);
    request.set_epoch(request_.epoch);
    request.set_step(request_.step);
    request.set_buffer(request_.buffer);
    request.set_begin(piece->range.begin);
    request.set_end(piece->range.end);
    StreamLimits limits{.deadline = deadline_,
                        .stall_timeout = options_.stall_timeout,
                        .cancelled = request_.cancelled};
    const auto to = out_.subspan(static_cast<size_t>(piece->range.begin),
                                 static_cast<size_t>(piece->range.size()));
    int64_t done = 0;
    const absl::Status status =
        ReadSnapshotStream(channel, options_.channel, request, limits, to, &done);
    piece->range.begin += done;
    MutexLock lock(&mutex_);
    stats_.bytes += done * static_cast<int64_t>(sizeof(float));
    return status;
  }

  // Books the end of one stream; false: the whole fetch is over.
  bool Account(size_t index, const absl::Status& status, Piece piece) {
    MutexLock lock(&mutex_);
    --working_;
    if (piece.range.size() == 0) return true;
    if (absl::IsCancelled(status) || Now() >= deadline_) {
      if (error_.ok())
        error_ = absl::IsCancelled(status)
                     ? status
                     : absl::DeadlineExceededError(absl::StrCat(
                           "the fetch took longer than ", absl::FormatDuration(request_.timeout),
                           "; last: ", status.message()));
      return false;
    }
    Source& source = sources_[index];
    source.last_error = status;
    source.failures = IsFinal(status) ? options_.attempts_per_source : source.failures + 1;
    if (absl::IsDataLoss(status)) ++stats_.corrupt_chunks;
    ++stats_.retries;
    ++piece.tries;
    pieces_.push_back(piece);
    return true;
  }

  void Fail(absl::Status error) {
    MutexLock lock(&mutex_);
    --working_;
    if (error_.ok()) error_ = std::move(error);
  }

  // Nobody is left to ask for `piece`: in what words, and with which code, depends on what they
  // said.
  absl::Status Unobtainable(const Piece& piece) {
    MutexLock lock(&mutex_);
    std::vector<std::string> said;
    std::optional<absl::Status> first;
    bool same = true;
    for (const Source& source : sources_) {
      if (source.range.begin > piece.range.begin || source.range.end < piece.range.end) continue;
      if (source.last_error.ok()) continue;
      if (absl::IsAborted(source.last_error)) return source.last_error;
      same = same && (!first || first->code() == source.last_error.code());
      if (!first) first = source.last_error;
      if (said.size() < 8)
        said.push_back(absl::StrCat(source.address, ": ", source.last_error.message()));
    }
    const bool telling = first && same && (absl::IsNotFound(*first) || absl::IsDataLoss(*first));
    const std::string message =
        absl::StrCat("nobody gave floats ", piece.range.begin, "..", piece.range.end, " of step ",
                     request_.step, " (", absl::StrJoin(said, "; "), ")");
    if (!telling) return absl::UnavailableError(message);
    return MakeError(
        first->code(),
        absl::IsNotFound(*first) ? ErrorReason::kSnapshotNotFound : ErrorReason::kWeightsCorrupt,
        message);
  }

  const BufferRequest& request_;
  const SnapshotClientOptions& options_;
  const Connect connect_;
  const std::span<float> out_;
  const absl::Time deadline_;

  Mutex mutex_;
  std::vector<Source> sources_ ABSL_GUARDED_BY(mutex_);
  std::vector<Piece> pieces_ ABSL_GUARDED_BY(mutex_);
  int working_ ABSL_GUARDED_BY(mutex_) = 0;
  FetchStats stats_ ABSL_GUARDED_BY(mutex_);
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

class SnapshotClient::Impl {
 public:
  explicit Impl(const SnapshotClientOptions& options) : options_(options) {
    options_.channel.max_receive_bytes = kMaxChunkMessageBytes;
  }

  const SnapshotClientOptions& options() const { return options_; }

  absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(const std::string& address) {
    {
      MutexLock lock(&mutex_);
      const auto found = channels_.find(address);
      if (found != channels_.end()) {
        found->second.used = ++uses_;
        return found->second.channel;
      }
    }
    LEAP_ASSIGN_OR_RETURN(auto channel, MakeChannel(address, options_.channel));
    MutexLock lock(&mutex_);
    channels_[address] = {.channel = channel, .used = ++uses_};
    if (channels_.size() > options_.max_channels) {
      channels_.erase(std::min_element(
          channels_.begin(), channels_.end(),
          [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
    }
    return channel;
  }

 private:
  struct Entry {
    std::shared_ptr<grpc::Channel> channel;  // shared: streams under way keep theirs
    uint64_t used = 0;
  };

  SnapshotClientOptions options_;
  Mutex mutex_;
  std::map<std::string, Entry> channels_ ABSL_GUARDED_BY(mutex_);
  uint64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
};

SnapshotClient::SnapshotClient(const SnapshotClientOptions& options)
    : impl_(std::make_unique<Impl>(options)) {}
SnapshotClient::~SnapshotClient() = default;

absl::Status SnapshotClient::FetchBuffer(const BufferRequest& request,
                                         std::span<const v1::ShardSource> sources,
                                         std::span<float> out, FetchStats* stats) {
  if (request.size <= 0 || request.size > kMaxFloats ||
      static_cast<int64_t>(out.size()) != request.size) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot fetch ", request.size, " floats into ", out.size()));
  }
  std::vector<Source> usable = UsableSources(sources, request.size);
  FlatRange gap;
  std::vector<Piece> pieces = Cut(usable, request.size, &gap);
  if (pieces.empty()) {
    return MakeError(
        absl::StatusCode::kUnavailable, ErrorReason::kSnapshotNotFound,
        absl::StrCat("nobody holds floats ", gap.begin, "..", gap.end, " of step ", request.step));
  }
  Assembly assembly(
      request, impl_->options(), [this](const std::string& a) { return impl_->Connect(a); },
      std::move(usable), std::move(pieces), out);
  return assembly.Run(stats);
}

absl::Status SnapshotClient::FetchRange(const std::string& address, const v1::FetchRequest& request,
                                        std::span<float> out, absl::Duration timeout) {
  if (request.end() - request.begin() != static_cast<int64_t>(out.size()) || out.empty()) {
    return absl::InvalidArgumentError("the range and its destination differ in size");
  }
  LEAP_ASSIGN_OR_RETURN(auto channel, impl_->Connect(address));
  StreamLimits limits{.deadline = Now() + timeout, .stall_timeout = impl_->options().stall_timeout};
  int64_t done = 0;
  return ReadSnapshotStream(channel, impl_->options().channel, request, limits, out, &done);
}

absl::StatusOr<std::vector<v1::Holding>> SnapshotClient::ListHoldings(const std::string& address,
                                                                      const std::string& job,
                                                                      absl::Duration timeout) {
  LEAP_ASSIGN_OR_RETURN(auto channel, impl_->Connect(address));
  grpc::ClientContext context;
  PrepareCall(impl_->options().channel, timeout, &context);
  v1::ListHoldingsRequest request;
  request.set_job(job);
  v1::ListHoldingsResponse response;
  LEAP_RETURN_IF_ERROR(FromGrpcStatus(
      v1::SnapshotService::NewStub(channel)->ListHoldings(&context, request, &response)));
  return std::vector<v1::Holding>(response.holdings().begin(), response.holdings().end());
}

}  // namespace leap
