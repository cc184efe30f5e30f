// The only file that includes Gloo's headers. They are older than the Gloo inside libtorch_cpu, so
// Gloo's types stay opaque here: no inline member of theirs is called, only exported functions that
// take a pointer.

#include "engine/internal/gloo_group.h"

#include <ATen/ops/empty.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "engine/reaper.h"

namespace leap {

struct Ticket::State {
  const char* what = "";
  bool done = false;  // with `status`: under the interrupt's lock
  absl::Status status;
};

namespace {

using WorkPtr = c10::intrusive_ptr<c10d::Work>;
using StorePtr = c10::intrusive_ptr<c10d::Store>;

// c10d records every collective of every group in one map that it changes without a lock, so that
// two groups in one process crash it (PyTorch 2.11). Nobody reads the record: off, before main and
// its threads.
[[maybe_unused]] const int kFlightRecorderOff = setenv("TORCH_FR_BUFFER_SIZE", "0", 0);

constexpr absl::Duration kArrivalPoll = absl::Milliseconds(5);
constexpr absl::Duration kTimeoutSlack =
    absl::Seconds(2);  // Gloo's own time-out names the peer: let it come first
constexpr int kBacklog = 512;

std::chrono::milliseconds ToMilliseconds(absl::Duration duration) {
  return std::chrono::milliseconds(std::max<int64_t>(1, absl::ToInt64Milliseconds(duration)));
}

// The first line of what c10d or Gloo threw; the rest is a stack trace.
std::string FirstLine(const char* what) {
  const char* end = std::strchr(what, '\n');
  return end == nullptr ? std::string(what) : std::string(what, end);
}

std::string Describe(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return FirstLine(e.what());
  } catch (...) {
    return "unknown exception";
  }
}

absl::Status CollectiveError(absl::string_view what, absl::string_view message) {
  return MakeError(absl::StatusCode::kUnavailable, ErrorReason::kCollectiveFailed,
                   absl::StrCat(what, ": ", message));
}

// ProcessGroupGloo with the connections in reach.
class ClosableGloo final : public c10d::ProcessGroupGloo {
 public:
  using ProcessGroupGloo::ProcessGroupGloo;

  // Peers with a collective on these connections fail at once instead of waiting for us. Ours do
  // not notice.
  void CloseConnections() {
    for (const auto& context : contexts_) context->closeConnections();
  }

  // Then fails what is still in flight here: a send that finds its connection closed throws, and
  // signals every wait on that connection.
  void FailPending() {
    for (int peer = 0; peer < getSize(); ++peer) {
      if (peer == getRank()) continue;
      try {
        std::vector<at::Tensor> nothing{at::empty({1})};
        send(nothing, peer, 0);
      } catch (const std::exception&) {  // as meant
      }
    }
  }
};
using GlooPtr = c10::intrusive_ptr<ClosableGloo>;

// Closes `gloo` and destroys it in the background. Returns when the connections are closed.
void BuryGloo(GlooPtr gloo) {
  try {
    gloo->CloseConnections();
  } catch (const std::exception&) {  // nothing to be done: its time-out will end it
  }
  Reaper::Get().Bury([gloo = std::move(gloo)]() mutable {
    gloo->FailPending();
    gloo.reset();
  });
}

class GlooGroup final : public Group {
 public:
  GlooGroup(const GroupOptions& options, GlooPtr gloo, std::shared_ptr<Interrupt> interrupt)
      : Group(options.rank, options.world_size),
        timeout_(options.timeout),
        gloo_(std::move(gloo)),
        interrupt_(std::move(interrupt)) {}

  ~GlooGroup() override {
    // In flight without a wait that ended well: as if given up.
    if (gloo_ != nullptr && in_flight_->load() > 0) Break(absl::CancelledError("group destroyed"));
  }

  Ticket AllReduceSum(const at::Tensor& tensor) override {
    return AllReduce("all-reduce", tensor, c10d::ReduceOp::SUM);
  }

  Ticket AllReduceMin(const at::Tensor& tensor) override {
    return AllReduce("boundary vote", tensor, c10d::ReduceOp::MIN);
  }

  Ticket AllGather(const at::Tensor& all, const at::Tensor& mine) override {
    return Launch("all-gather", [&] {
      c10d::AllgatherOptions options;
      options.timeout = ToMilliseconds(timeout_);
      at::Tensor output = all, input = mine;
      return gloo_->_allgather_base(output, input, options);
    });
  }

  Ticket Broadcast(const at::Tensor& tensor, int source) override {
    return Launch("broadcast", [&] {
      c10d::BroadcastOptions options;
      options.rootRank = source;
      options.timeout = ToMilliseconds(timeout_);
      std::vector<at::Tensor> tensors{tensor};
      return gloo_->broadcast(tensors, options);
    });
  }

  absl::Status Wait(const Ticket& ticket) override {
    if (!broken_.ok()) return broken_;
    Ticket::State& state = *ticket.state();
    absl::Status status =
        interrupt_->Await([&] { return state.done; }, timeout_ + kTimeoutSlack, state.what);
    if (status.ok()) status = state.status;
    if (absl::IsDeadlineExceeded(status)) status = CollectiveError(state.what, status.message());
    if (!status.ok()) Break(status);
    return status;
  }

 private:
  Ticket AllReduce(const char* what, const at::Tensor& tensor, c10d::ReduceOp::RedOpType op) {
    return Launch(what, [&] {
      c10d::AllreduceOptions options;
      options.reduceOp = op;
      options.timeout = ToMilliseconds(timeout_);
      std::vector<at::Tensor> tensors{tensor};
      return gloo_->allreduce(tensors, options);
    });
  }

  Ticket Launch(const char* what, absl::FunctionRef<WorkPtr()> start) {
    auto state = std::make_shared<Ticket::State>();
    state->what = what;
    if (!broken_.ok()) return Ended(state, broken_);
    in_flight_->fetch_add(1);
    try {
      // The callback must not hold the work: the work holds the callback.
      start()->getFuture()->addCallback(
          [state, interrupt = interrupt_, in_flight = in_flight_](c10::ivalue::Future& future) {
            absl::Status status;
            if (future.hasError())
              status = CollectiveError(state->what, Describe(future.exception_ptr()));
            in_flight->fetch_sub(1);
            interrupt->Change([&] {
              state->status = std::move(status);
              state->done = true;
            });
          });
    } catch (const std::exception& e) {
      in_flight_->fetch_sub(1);
      return Ended(state, CollectiveError(what, FirstLine(e.what())));
    }
    return Ticket(std::move(state));
  }

  static Ticket Ended(const std::shared_ptr<Ticket::State>& state, const absl::Status& status) {
    state->status = status;
    state->done = true;
    return Ticket(state);
  }

  void Break(const absl::Status& status) {
    if (!broken_.ok()) return;
    broken_ = status;
    BuryGloo(std::move(gloo_));
  }

  const absl::Duration timeout_;
  GlooPtr gloo_;  // null once broken
  const std::shared_ptr<Interrupt> interrupt_;
  const std::shared_ptr<std::atomic<int>> in_flight_ = std::make_shared<std::atomic<int>>(0);
  absl::Status broken_;
};

// ---- joining ----

struct HostPort {
  std::string host;
  uint16_t port = 0;
};

absl::StatusOr<HostPort> ParseHostPort(const std::string& address) {
  const size_t colon = address.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port == 0 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("store address: expected host:port, saw '", address, "'"));
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return HostPort{std::move(host), static_cast<uint16_t>(port)};
}

// What Join and its connecting thread share. Fields are changed under the interrupt's lock.
struct Connecting {
  bool done = false;
  absl::Status status;
  GlooPtr gloo;
};

std::string ArrivalKey(int rank) { return absl::StrCat("here/", rank); }

// Gloo gives ranks only the group's time-out to find each other, so they first wait here until all
// have come.
absl::Status AwaitArrivals(const GroupOptions& options, const Interrupt& interrupt,
                           const StorePtr& store) {
  store->set(ArrivalKey(options.rank), "1");
  Clock& clock = RealClock();
  const absl::Time deadline = clock.Now() + options.join_timeout;
  for (int rank = 0; rank < options.world_size; ++rank) {
    while (!store->check({ArrivalKey(rank)})) {
      LEAP_RETURN_IF_ERROR(interrupt.status());
      if (clock.Now() > deadline) {
        return CollectiveError(
            "join", absl::StrCat("rank ", rank, " of ", options.world_size, " did not come within ",
                                 absl::FormatDuration(options.join_timeout)));
      }
      clock.SleepFor(kArrivalPoll);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<GlooPtr> Connect(const GroupOptions& options, const HostPort& store_address,
                                const Interrupt& interrupt) {
  try {
    c10d::TCPStoreOptions store_options;
    store_options.port = store_address.port;
    store_options.waitWorkers = false;
    store_options.timeout = ToMilliseconds(options.join_timeout);
    const StorePtr store = c10::make_intrusive<c10d::PrefixStore>(
        options.prefix, c10::make_intrusive<c10d::TCPStore>(store_address.host, store_options));
    LEAP_RETURN_IF_ERROR(AwaitArrivals(options, interrupt, store));
    auto gloo_options = c10d::ProcessGroupGloo::Options::create(ToMilliseconds(options.timeout));
    gloo_options->devices.push_back(
        c10d::ProcessGroupGloo::createDeviceForHostname(options.bind_host));
    return c10::make_intrusive<ClosableGloo>(store, options.rank, options.world_size, gloo_options);
  } catch (const std::exception& e) {
    return CollectiveError("join", FirstLine(e.what()));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Group>> JoinGloo(const GroupOptions& options,
                                                std::shared_ptr<Interrupt> interrupt) {
  LEAP_ASSIGN_OR_RETURN(const HostPort store, ParseHostPort(options.store_address));
  auto connecting = std::make_shared<Connecting>();
  std::thread thread([options, store, interrupt, connecting] {
    absl::StatusOr<GlooPtr> gloo = Connect(options, store, *interrupt);
    interrupt->Change([&] {
      connecting->status = gloo.status();
      if (gloo.ok()) connecting->gloo = *std::move(gloo);
      connecting->done = true;
    });
  });
  const absl::Status waited =
      interrupt->Await([&] { return connecting->done; },
                       options.join_timeout + options.timeout + kTimeoutSlack, "join");
  if (!waited.ok()) {
    Reaper::Get().Bury([thread = std::move(thread), connecting]() mutable {
      thread.join();
      connecting->gloo.reset();
    });
    return absl::IsAborted(waited) ? waited : CollectiveError("join", waited.message());
  }
  thread.join();
  LEAP_RETURN_IF_ERROR(connecting->status);
  return std::make_unique<GlooGroup>(options, std::move(connecting->gloo), std::move(interrupt));
}

// ---- the store ----

namespace {

// Our own socket, because TCPStore would listen on every interface.
absl::StatusOr<int> ListenOn(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), "0", &hints, &found); error != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("rendezvous store: cannot bind '", host, "': ", gai_strerror(error)));
  }
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool bound =
      fd >= 0 && bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, kBacklog) == 0;
  const int error = errno;
  freeaddrinfo(found);
  if (bound) return fd;
  if (fd >= 0) close(fd);
  return absl::FailedPreconditionError(
      absl::StrCat("rendezvous store: cannot bind '", host, "': ", std::strerror(error)));
}

class TcpStoreServer final : public StoreServer {
 public:
  explicit TcpStoreServer(c10::intrusive_ptr<c10d::TCPStore> store) : store_(std::move(store)) {}
  int port() const override { return store_->getPort(); }

 private:
  const c10::intrusive_ptr<c10d::TCPStore> store_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StoreServer>> StoreServer::Start(const std::string& host) {
  LEAP_ASSIGN_OR_RETURN(const int fd, ListenOn(host));
  sockaddr_storage bound{};
  socklen_t length = sizeof(bound);
  getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length);
  const uint16_t port = bound.ss_family == AF_INET6
                            ? ntohs(reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port)
                            : ntohs(reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  try {
    c10d::TCPStoreOptions options;
    options.isServer = true;
    options.waitWorkers = false;
    options.port = port;
    options.masterListenFd = fd;  // taken over
    return std::make_unique<TcpStoreServer>(c10::make_intrusive<c10d::TCPStore>(host, options));
  } catch (const std::exception& e) {
    close(fd);
    return absl::FailedPreconditionError(
        absl::StrCat("rendezvous store on '", host, "': ", FirstLine(e.what())));
  }
}

}  // namespace leap
