// What engine/cuda cannot show without a GPU, in one go. Built under preset cuda; no ctest.
//
//   LD_LIBRARY_PATH=build/cuda/engine/cuda build/cuda/engine/cuda/cuda_smoke [RANKS]
//
// RANKS processes (default 1), each on a GPU of its own: NCCL refuses two ranks on one. Loads
// libleap_engine_cuda.so, forms a group, tries the collectives, copies a shard by the side stream
// while the training stream writes, applies a displacement and compares the bits with the CPU's
// formula, and with two ranks or more gives up a collective that a peer never joins. Prints a line
// per check. Exit code 0: all as expected; 1: not; 3: no GPU here, and why.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <spawn.h>
#include <sys/wait.h>

#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "engine/cuda_plugin.h"
#include "engine/internal/torch_errors.h"

extern char** environ;

namespace leap {
namespace {

constexpr int64_t kShardFloats = int64_t{1} << 26;  // 256 MiB
constexpr absl::Duration kPatience = absl::Seconds(60);

struct Place {
  int rank = 0;
  int ranks = 1;
  std::string store;

  at::TensorOptions On(at::ScalarType type) const {
    return at::TensorOptions().dtype(type).device(
        at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(rank)));
  }
};

double Milliseconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - since)
      .count();
}

absl::Status Expect(bool as_expected, absl::string_view what) {
  return as_expected ? absl::OkStatus() : absl::InternalError(absl::StrCat("not so: ", what));
}

// Finite floats of all magnitudes, denormals and both zeros among them.
std::vector<float> AllKinds(int64_t size, uint32_t seed) {
  std::mt19937 bits(seed);
  std::vector<float> values;
  values.reserve(static_cast<size_t>(size));
  while (static_cast<int64_t>(values.size()) < size) {
    const uint32_t drawn = static_cast<uint32_t>(bits());
    if ((drawn & 0x7f000000) != 0x7f000000) values.push_back(std::bit_cast<float>(drawn));
  }
  return values;
}

at::Tensor ToDevice(const std::vector<float>& values, const Place& place) {
  const at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, place.On(at::kFloat));
  tensor.copy_(at::from_blob(const_cast<float*>(values.data()), tensor.sizes(), at::kFloat));
  return tensor;
}

absl::Status Collectives(Group& group, const Place& place) {
  const int n = place.ranks;
  const at::Tensor sum = at::full({1000}, place.rank + 1.0f, place.On(at::kFloat));
  const at::Tensor least = at::full({3}, 10 - place.rank, place.On(at::kLong));
  const at::Tensor mine = at::full({2}, static_cast<float>(place.rank), place.On(at::kFloat));
  const at::Tensor all = at::empty({2 * n}, place.On(at::kFloat));
  const Ticket first = group.AllReduceSum(sum);
  const Ticket second = group.AllReduceMin(least);
  LEAP_RETURN_IF_ERROR(group.Wait(group.AllGather(all, mine)));
  LEAP_RETURN_IF_ERROR(group.Wait(second));
  LEAP_RETURN_IF_ERROR(group.Wait(first));
  LEAP_RETURN_IF_ERROR(group.Wait(group.Broadcast(mine, n - 1)));
  LEAP_ASSIGN_OR_RETURN(const auto rows, group.GatherInts(std::vector<int64_t>{place.rank}));
  LEAP_RETURN_IF_ERROR(Expect(sum[999].item<float>() == n * (n + 1) / 2, "all-reduce sum"));
  LEAP_RETURN_IF_ERROR(Expect(least[2].item<int64_t>() == 10 - (n - 1), "all-reduce min"));
  LEAP_RETURN_IF_ERROR(Expect(all[2 * n - 1].item<float>() == n - 1, "all-gather"));
  LEAP_RETURN_IF_ERROR(Expect(mine[0].item<float>() == n - 1, "broadcast"));
  return Expect(rows.back().front() == n - 1, "gather of ints over the host group");
}

absl::Status SideStreamCopy(const CudaPlugin& cuda, const Place& place) {
  LEAP_ASSIGN_OR_RETURN(const auto copier, cuda.make_copier(place.rank));
  std::vector<float> out(kShardFloats);
  LEAP_ASSIGN_OR_RETURN(const HostPin pin, copier->Pin(out));
  const std::vector<float> values = AllKinds(kShardFloats + 1000, 1);
  const at::Tensor flat = ToDevice(values, place);
  const at::Tensor busy = at::full({8192, 8192}, 1.0f, place.On(at::kFloat));
  at::mm(busy, busy);  // the training stream has something to do before and after
  const auto start = std::chrono::steady_clock::now();
  LEAP_ASSIGN_OR_RETURN(const auto copy, copier->Start(flat.data_ptr<float>(),
                                                       {1000, 1000 + kShardFloats}, out.data()));
  at::mm(busy, busy);
  LEAP_RETURN_IF_ERROR(copier->BeforeWrite());
  flat.fill_(0);  // must come after the copy
  const double launched = Milliseconds(start);
  LEAP_RETURN_IF_ERROR(copy->Wait(kPatience));
  std::printf("rank %d: side-stream copy of %lld MiB: caller held %.3f ms, done after %.3f ms\n",
              place.rank, static_cast<long long>(kShardFloats >> 18), launched,
              Milliseconds(start));
  return Expect(std::memcmp(out.data(), values.data() + 1000, kShardFloats * sizeof(float)) == 0,
                "the copy is what the weights were");
}

absl::Status Displacement(const CudaPlugin& cuda, const Place& place) {
  const std::vector<float> live = AllKinds(kShardFloats, 2);
  const std::vector<float> displacement = AllKinds(kShardFloats, 3);
  const at::Tensor shard = ToDevice(live, place);
  const at::Tensor staged = ToDevice(displacement, place);
  LEAP_RETURN_IF_ERROR(cuda.add_displacement(place.rank, shard.data_ptr<float>(),
                                             staged.data_ptr<float>(), shard.data_ptr<float>(),
                                             kShardFloats));
  const at::Tensor result = shard.cpu();
  int64_t different = 0;
  for (int64_t i = 0; i < kShardFloats; ++i) {
    const size_t at = static_cast<size_t>(i);
    const float expected = live[at] + displacement[at];
    if (std::bit_cast<uint32_t>(expected) !=
        std::bit_cast<uint32_t>(result.const_data_ptr<float>()[i])) {
      ++different;
    }
  }
  return Expect(different == 0, absl::StrCat("live + displacement to the bit (", different, " of ",
                                             kShardFloats, " differ)"));
}

// Rank 0 begins an all-reduce alone; the others come when it is gone. Breaks the group on all.
absl::Status GivingUp(Group& group, Interrupt& interrupt, const Place& place) {
  if (place.ranks == 1) return absl::OkStatus();
  if (place.rank != 0) RealClock().SleepFor(absl::Seconds(1));
  std::thread agent([&interrupt] {
    RealClock().SleepFor(absl::Milliseconds(200));
    interrupt.Raise("epoch 2 begins");
  });
  const at::Tensor tensor = at::full({1000}, 1.0f, place.On(at::kFloat));
  const auto start = std::chrono::steady_clock::now();
  const absl::Status status = group.Wait(group.AllReduceSum(tensor));
  const double held = Milliseconds(start);
  agent.join();
  std::printf("rank %d: gave up after %.1f ms: %s\n", place.rank, held, status.ToString().c_str());
  if (place.rank == 0) {
    LEAP_RETURN_IF_ERROR(Expect(absl::IsAborted(status) && held < 300, "given up at once"));
  }
  LEAP_RETURN_IF_ERROR(Expect(DrainGroups(kPatience), "the aborted communicator has ended"));
  return Expect(at::full({10}, 1.0f, place.On(at::kFloat)).sum().item<float>() == 10,
                "the GPU works on");
}

absl::Status RunRank(const CudaPlugin& cuda, const Place& place) {
  auto interrupt = std::make_shared<Interrupt>();
  const GroupOptions options = {.store_address = place.store,
                                .prefix = "smoke/1",
                                .rank = place.rank,
                                .world_size = place.ranks};
  LEAP_ASSIGN_OR_RETURN(auto group, JoinCuda(cuda, options, place.rank, interrupt));
  using Check = std::pair<const char*, std::function<absl::Status()>>;
  const Check checks[] = {{"collectives", [&] { return Collectives(*group, place); }},
                          {"side-stream copy", [&] { return SideStreamCopy(cuda, place); }},
                          {"displacement", [&] { return Displacement(cuda, place); }},
                          {"giving up", [&] { return GivingUp(*group, *interrupt, place); }}};
  absl::Status worst;
  for (const auto& [name, check] : checks) {
    const absl::Status status = Fenced(name, check);
    std::printf("rank %d: %s: %s\n", place.rank, name, status.ToString().c_str());
    worst.Update(status);
  }
  group.reset();
  worst.Update(Expect(DrainGroups(kPatience), "the group has ended"));
  return worst;
}

int Run(Place place, const char* program) {
  const absl::StatusOr<const CudaPlugin*> cuda = LoadCudaPlugin();
  const absl::StatusOr<int> devices = cuda.ok() ? (*cuda)->device_count() : cuda.status();
  if (!devices.ok() || *devices < place.ranks) {
    std::printf("%s\n", devices.ok() ? absl::StrCat(*devices, " GPUs, fewer than ranks").c_str()
                                     : devices.status().ToString().c_str());
    return 3;
  }
  absl::StatusOr<std::unique_ptr<StoreServer>> store;
  std::vector<pid_t> children;
  if (place.rank == 0) {
    store = StoreServer::Start("127.0.0.1");
    if (store.ok()) place.store = absl::StrCat("127.0.0.1:", (*store)->port());
    for (int rank = 1; rank < place.ranks; ++rank) {
      std::string args[] = {program, absl::StrCat(place.ranks), absl::StrCat(rank), place.store};
      char* argv[] = {args[0].data(), args[1].data(), args[2].data(), args[3].data(), nullptr};
      pid_t child = 0;
      if (posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, argv, environ) == 0) {
        children.push_back(child);
      }
    }
  }
  const absl::Status status = RunRank(**cuda, place);
  int code = status.ok() ? 0 : 1;
  std::printf("rank %d of %d: %s\n", place.rank, place.ranks, status.ToString().c_str());
  for (const pid_t child : children) {
    int ended = 0;
    if (waitpid(child, &ended, 0) != child || ended != 0) code = 1;
  }
  return code;
}

}  // namespace
}  // namespace leap

int main(int argc, char** argv) {
  leap::Place place;
  if ((argc > 1 && !absl::SimpleAtoi(argv[1], &place.ranks)) || place.ranks < 1) {
    std::printf("usage: %s [RANKS]\n", argv[0]);
    return 2;
  }
  if (argc == 4 && absl::SimpleAtoi(argv[2], &place.rank)) place.store = argv[3];
  return leap::Run(place, argv[0]);
}
