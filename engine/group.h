// The process group of one epoch: the collectives between main workers, asynchronous and in order,
// over c10d (Gloo on a CPU), in which every wait can be given up at once.
//
// Order: all ranks launch the same collectives in the same order; that is the only thing that
// matches them up. One thread at a time launches (the training thread, or autograd's thread inside
// its backward).
//
// Giving up: Gloo has no abort. A wait that is interrupted (engine/interrupt.h) or fails returns at
// once and *breaks* the group: connections are closed, so that peers do not wait for us, later
// launches fail, and when the object is destroyed c10d's part, which may block until the group's
// time-out, goes to a background reaper. A collective that was given up may still write into its
// tensors, so: a tensor that was launched must not be used again after its wait failed, and nothing
// live (weights, moments) is ever launched. docs/decisions/engine-collectives.md.
//
// LibTorch appears in this header by name only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/interrupt.h"

namespace at {
class Tensor;
}

namespace leap {

// The rendezvous store that every worker process serves; an epoch uses the one of its rank 0. Owns
// its threads.
class StoreServer {
 public:
  // Binds `host` (a name or address of this machine) on a free port. FailedPrecondition: cannot
  // bind.
  static absl::StatusOr<std::unique_ptr<StoreServer>> Start(const std::string& host);
  virtual ~StoreServer() = default;
  virtual int port() const = 0;
};

struct GroupOptions {
  std::string store_address;  // host:port of rank 0's store
  std::string prefix;         // "job/epoch": keeps epochs apart in one store
  int rank = 0;
  int world_size = 1;
  std::string bind_host = "127.0.0.1";              // this rank's end of the connections
  absl::Duration timeout = absl::Seconds(20);       // of a collective whose peer is silent
  absl::Duration join_timeout = absl::Seconds(60);  // until all ranks have come
};

// A collective in flight. Cheap to copy.
class Ticket {
 public:
  struct State;

  Ticket() = default;
  explicit Ticket(std::shared_ptr<State> state) : state_(std::move(state)) {}
  State* state() const { return state_.get(); }

 private:
  std::shared_ptr<State> state_;
};

class Group {
 public:
  // Blocks until every rank has joined. Aborted: interrupted. Unavailable (COLLECTIVE_FAILED): a
  // rank did not come in time, or the store cannot be reached. world_size 1 needs no store and no
  // network.
  static absl::StatusOr<std::unique_ptr<Group>> Join(const GroupOptions& options,
                                                     std::shared_ptr<Interrupt> interrupt);
  virtual ~Group() = default;

  int rank() const { return rank_; }
  int world_size() const { return world_size_; }

  // Launch and return. Tensors are contiguous and on the group's device; c10d holds them until it
  // is done with them. In place, element by element over ranks:
  virtual Ticket AllReduceSum(const at::Tensor& tensor) = 0;
  virtual Ticket AllReduceMin(const at::Tensor& tensor) = 0;
  // all[r * n, (r + 1) * n) = rank r's `mine`, n = mine.numel().
  virtual Ticket AllGather(const at::Tensor& all, const at::Tensor& mine) = 0;
  virtual Ticket Broadcast(const at::Tensor& tensor, int source) = 0;

  // Blocks until the collective is done. Aborted: interrupted. Unavailable (COLLECTIVE_FAILED): it
  // failed, timed out, or the group is broken. An error breaks the group.
  virtual absl::Status Wait(const Ticket& ticket) = 0;

  // Small host values, for agreements: row r is rank r's `mine`; all ranks give equally many.
  absl::StatusOr<std::vector<std::vector<int64_t>>> GatherInts(std::span<const int64_t> mine);

  // Copies floats from rank `source`'s `values` to every other's, in chunks through staging memory.
  // On an error `values` of the receivers are partly written.
  absl::Status BroadcastFloats(std::span<float> values, int source);

 protected:
  Group(int rank, int world_size) : rank_(rank), world_size_(world_size) {}

 private:
  const int rank_;
  const int world_size_;
};

// Blocks until everything that was given up so far has been destroyed, or `timeout` has passed;
// false: some is left. For tests and for the end of a process.
bool DrainGroups(absl::Duration timeout);

}  // namespace leap
