#include "engine/cuda/nccl_group.h"

#include <ATen/Context.h>
#include <c10/util/env.h>

#include <algorithm>
#include <exception>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "engine/internal/torch_errors.h"

namespace leap {
namespace {

using NcclPtr = c10::intrusive_ptr<c10d::ProcessGroupNCCL>;
using StorePtr = c10::intrusive_ptr<c10d::Store>;
using WorkPtr = c10::intrusive_ptr<c10d::Work>;

constexpr absl::Duration kPoll = absl::Microseconds(50);

std::chrono::milliseconds ToMilliseconds(absl::Duration duration) {
  return std::chrono::milliseconds(std::max<int64_t>(1, absl::ToInt64Milliseconds(duration)));
}

absl::Status CollectiveError(absl::string_view message) {
  return MakeError(absl::StatusCode::kUnavailable, ErrorReason::kCollectiveFailed, message);
}

// The exception that is being handled. Out of memory and a failed device keep their own words.
absl::Status CurrentError(absl::string_view what) {
  const absl::Status status = CurrentTorchError(what);
  return absl::IsInternal(status) ? CollectiveError(status.message()) : status;
}

// What a Ticket of this group points at: a collective of NCCL, one of the host group, or one that
// could not be launched.
struct Launched {
  const char* what = "";
  WorkPtr work;
  Ticket host;
  absl::Status status;
};

// Ticket::State is each group's own business; only the group that made a ticket looks into it.
Ticket ToTicket(Launched launched) {
  auto owner = std::make_shared<Launched>(std::move(launched));
  auto* const state = reinterpret_cast<Ticket::State*>(owner.get());
  return Ticket(std::shared_ptr<Ticket::State>(std::move(owner), state));
}
Launched& FromTicket(const Ticket& ticket) { return *reinterpret_cast<Launched*>(ticket.state()); }

// Ends `nccl` in the background. `clean`: all collectives are done here, but peers may still read
// from this rank's buffers, so it lets them finish. Tensors of `works` are free when it has ended.
void BuryNccl(const CudaHost& host, NcclPtr nccl, std::vector<WorkPtr> works, bool clean) {
  host.bury([nccl = std::move(nccl), works = std::move(works), clean]() mutable {
    try {
      if (clean) nccl->shutdown();
    } catch (const std::exception&) {
      clean = false;
    }
    try {
      if (!clean) nccl->abort();
    } catch (const std::exception&) {  // nothing left to try
    }
    works.clear();
    nccl.reset();
  });
}

class NcclGroup final : public Group {
 public:
  NcclGroup(const CudaHost& host, const GroupOptions& options, NcclPtr nccl,
            std::shared_ptr<Interrupt> interrupt, std::unique_ptr<Group> host_group)
      : Group(options.rank, options.world_size),
        host_(host),
        timeout_(options.timeout),
        interrupt_(std::move(interrupt)),
        nccl_(std::move(nccl)),
        host_group_(std::move(host_group)) {}

  ~NcclGroup() override {
    if (nccl_ == nullptr) return;
    const bool clean = in_flight_.empty();
    BuryNccl(host_, std::move(nccl_), std::move(in_flight_), clean);
  }

  Ticket AllReduceSum(const at::Tensor& tensor) override {
    if (tensor.is_cpu()) return OnHost([&](Group& group) { return group.AllReduceSum(tensor); });
    return AllReduce(tensor, c10d::ReduceOp::SUM);
  }

  Ticket AllReduceMin(const at::Tensor& tensor) override {
    if (tensor.is_cpu()) return OnHost([&](Group& group) { return group.AllReduceMin(tensor); });
    return AllReduce(tensor, c10d::ReduceOp::MIN);
  }

  Ticket AllGather(const at::Tensor& all, const at::Tensor& mine) override {
    if (mine.is_cpu()) return OnHost([&](Group& group) { return group.AllGather(all, mine); });
    return Launch("all-gather", [&](c10d::ProcessGroupNCCL& nccl) {
      at::Tensor output = all, input = mine;
      return nccl._allgather_base(output, input);
    });
  }

  Ticket Broadcast(const at::Tensor& tensor, int source) override {
    if (tensor.is_cpu()) {
      return OnHost([&](Group& group) { return group.Broadcast(tensor, source); });
    }
    return Launch("broadcast", [&](c10d::ProcessGroupNCCL& nccl) {
      std::vector<at::Tensor> tensors{tensor};
      return nccl.broadcast(tensors, {.rootRank = source});
    });
  }

  absl::Status Wait(const Ticket& ticket) override {
    if (!broken_.ok()) return broken_;
    Launched& launched = FromTicket(ticket);
    absl::Status status = launched.status;
    if (status.ok()) {
      status =
          launched.work == nullptr ? host_group_->Wait(launched.host) : WaitForDevice(launched);
    }
    if (!status.ok()) Break(status);
    return status;
  }

 private:
  Ticket AllReduce(const at::Tensor& tensor, c10d::ReduceOp::RedOpType op) {
    return Launch("all-reduce", [&](c10d::ProcessGroupNCCL& nccl) {
      std::vector<at::Tensor> tensors{tensor};
      return nccl.allreduce(tensors, {.reduceOp = op});
    });
  }

  Ticket Launch(const char* what, absl::FunctionRef<WorkPtr(c10d::ProcessGroupNCCL&)> start) {
    Launched launched{.what = what, .status = broken_};
    if (!launched.status.ok()) return ToTicket(std::move(launched));
    try {
      launched.work = start(*nccl_);
      in_flight_.push_back(launched.work);
    } catch (...) {
      launched.status = CurrentError(what);
    }
    return ToTicket(std::move(launched));
  }

  Ticket OnHost(absl::FunctionRef<Ticket(Group&)> launch) {
    if (!broken_.ok()) return ToTicket({.status = broken_});
    return ToTicket({.host = launch(*host_group_)});
  }

  absl::Status WaitForDevice(Launched& launched) {
    Clock& clock = RealClock();
    const absl::Time deadline = clock.Now() + timeout_;
    while (true) {
      LEAP_RETURN_IF_ERROR(interrupt_->status());
      LEAP_ASSIGN_OR_RETURN(const bool done, Finish(launched));
      if (done) return absl::OkStatus();
      if (clock.Now() > deadline) {
        return CollectiveError(
            absl::StrCat(launched.what, ": nothing within ", absl::FormatDuration(timeout_)));
      }
      clock.SleepFor(kPoll);
    }
  }

  // Whether it is done; then lets go of its tensors. An error if it failed. Does not block.
  absl::StatusOr<bool> Finish(Launched& launched) {
    try {
      if (!launched.work->isCompleted()) return false;
      if (launched.work->exception()) std::rethrow_exception(launched.work->exception());
      launched.work->synchronize();  // the streams; nothing is left to wait for
    } catch (...) {
      return CurrentError(launched.what);
    }
    std::erase(in_flight_, launched.work);
    return true;
  }

  void Break(const absl::Status& status) {
    broken_ = status;
    host_group_.reset();
    BuryNccl(host_, std::move(nccl_), std::move(in_flight_), /*clean=*/false);
  }

  const CudaHost& host_;
  const absl::Duration timeout_;
  const std::shared_ptr<Interrupt> interrupt_;
  NcclPtr nccl_;                       // null once broken
  std::unique_ptr<Group> host_group_;  // null once broken
  std::vector<WorkPtr> in_flight_;     // launched and not waited for to a good end
  absl::Status broken_;
};

// ---- joining ----

// How c10d is to behave, which it only reads from the environment.
void TellC10d() {
  // We poll; no watchdog that ends the process when a collective fails or takes long.
  c10::utils::set_env("TORCH_NCCL_BLOCKING_WAIT", "1");
  // No flight recorder: without the watchdog it would keep pointers to events that are gone.
  c10::utils::set_env("TORCH_NCCL_TRACE_BUFFER_SIZE", "0");
}

// Where ranks find NCCL's id: under the epoch's prefix in the store that Gloo has used already.
StorePtr FindStore(const GroupOptions& options) {
  if (options.world_size == 1) return c10::make_intrusive<c10d::HashStore>();
  const size_t colon = options.store_address.rfind(':');
  int port = 0;
  (void)absl::SimpleAtoi(options.store_address.substr(colon + 1), &port);  // Gloo's join checked it
  c10d::TCPStoreOptions store_options;
  store_options.port = static_cast<uint16_t>(port);
  store_options.waitWorkers = false;
  store_options.timeout = ToMilliseconds(options.join_timeout);
  std::string host = options.store_address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  return c10::make_intrusive<c10d::PrefixStore>(
      absl::StrCat(options.prefix, "/nccl"),
      c10::make_intrusive<c10d::TCPStore>(host, store_options));
}

absl::StatusOr<NcclPtr> Connect(const GroupOptions& options, int device) {
  try {
    TellC10d();
    at::globalContext().lazyInitDevice(at::kCUDA);
    auto nccl_options = c10d::ProcessGroupNCCL::Options::create();
    nccl_options->timeout = ToMilliseconds(options.timeout);
    auto nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(FindStore(options), options.rank,
                                                            options.world_size, nccl_options);
    nccl->eagerConnectSingleDevice(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)));
    return nccl;
  } catch (...) {
    return CurrentError("joining over NCCL");
  }
}

// What JoinNccl and its connecting thread share. Changed under the interrupt's lock.
struct Connecting {
  bool done = false;
  absl::StatusOr<NcclPtr> nccl = absl::UnknownError("not yet");
};

}  // namespace

absl::StatusOr<std::unique_ptr<Group>> JoinNccl(const CudaHost& host, const GroupOptions& options,
                                                int device, std::shared_ptr<Interrupt> interrupt,
                                                std::unique_ptr<Group> host_group) {
  auto connecting = std::make_shared<Connecting>();
  std::thread thread([options, device, interrupt, connecting] {
    absl::StatusOr<NcclPtr> nccl = Connect(options, device);
    interrupt->Change([&] {
      connecting->nccl = std::move(nccl);
      connecting->done = true;
    });
  });
  const absl::Status waited =
      interrupt->Await([&] { return connecting->done; }, options.join_timeout, "joining over NCCL");
  if (!waited.ok()) {
    host.bury([&host, thread = std::move(thread), connecting]() mutable {
      thread.join();
      if (connecting->nccl.ok()) BuryNccl(host, *std::move(connecting->nccl), {}, false);
    });
    return absl::IsAborted(waited) ? waited : CollectiveError(waited.message());
  }
  thread.join();
  LEAP_RETURN_IF_ERROR(connecting->nccl.status());
  return std::make_unique<NcclGroup>(host, options, *std::move(connecting->nccl),
                                     std::move(interrupt), std::move(host_group));
}

}  // namespace leap
