// How long a commit holds training up, against a plain copy of the same bytes; and what snapshots
// cost a step.
//
//   commit_pause FOLDER [WORLD=2] [STEPS=60] [DEVICE=cpu] [PRESET=gpt2-tiny] [PRECISION=fp32]
//
// FOLDER holds UTF-8 text; ranks are threads over loopback. All are on one GPU where DEVICE is
// cuda, so WORLD is 1 there.
//
// Goal (issue 3, 7.5): pause <= two plain copies of the weights plus one all-gather.
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/device.h"
#include "engine/trainer.h"

namespace leap {
namespace {

constexpr int kInterval = 4;

double Now() { return absl::ToDoubleSeconds(RealClock().Now() - absl::UnixEpoch()); }
double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void OnEach(int world, const std::function<void(int)>& run) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world; ++rank) threads.emplace_back(run, rank);
  for (std::thread& thread : threads) thread.join();
}

struct Shared {
  Mutex mutex;
  // Per leap, over ranks: the shortest pause is that of the rank that came last, what the commit
  // costs; the longest also waits for that rank, as every step's all-reduce does.
  std::map<uint64_t, std::vector<double>> pauses ABSL_GUARDED_BY(mutex);
  std::vector<double> copies ABSL_GUARDED_BY(mutex);
};

// Trains; with `leaps`, every snapshot is leapt from at once. Returns the median step time of rank
// 0.
double Train(const JobSpec& spec, int world, const std::string& store, int epoch, bool leaps,
             Shared& shared, int64_t* parameters) {
  std::vector<double> seconds;
  OnEach(world, [&](int rank) {
    std::atomic<int64_t> newest = -1;
    TrainerCallbacks callbacks;
    callbacks.on_snapshot = [&](const RingSnapshot& snapshot, FlatRange) {
      MutexLock lock(&shared.mutex);
      shared.copies.push_back(snapshot.copy_seconds);
      newest = snapshot.position.step;
    };
    callbacks.on_vote = [](const PrepareRequest&, const absl::StatusOr<uint64_t>&) {};
    callbacks.on_leap = [&](const LeapReport& report) {
      if (!report.applied) return;
      MutexLock lock(&shared.mutex);
      shared.pauses[report.leap].push_back(report.pause_seconds);
    };
    callbacks.on_checkpoint = [](int64_t, const absl::StatusOr<std::string>&, double) {};
    auto trainer = Trainer::Create(spec, "/tmp/leap-commit-pause", std::move(callbacks));
    if (!trainer.ok())
      std::exit((std::fprintf(stderr, "%s\n", trainer.status().ToString().c_str()), 1));
    const EpochOptions options{.group = {.store_address = store,
                                         .prefix = absl::StrCat("bench/", epoch),
                                         .rank = rank,
                                         .world_size = world},
                               .epoch = 1,
                               .from_checkpoint = true};
    if (!(*trainer)->Join(options, std::make_shared<Interrupt>()).ok()) std::exit(1);
    *parameters = (*trainer)->parameters();
    int64_t leapt = -1;
    while (true) {
      const int64_t base = newest;
      if (leaps && base > leapt) {
        leapt = base;
        (*trainer)->Prepare({.leap = static_cast<uint64_t>(base), .base_step = base});
        (*trainer)->ring()->Drain();
        (*trainer)->Decide(static_cast<uint64_t>(base), true);
      }
      const double start = Now();
      const auto step = (*trainer)->Step();
      if (!step.ok())
        std::exit((std::fprintf(stderr, "%s\n", step.status().ToString().c_str()), 1));
      if (rank == 0) seconds.push_back(Now() - start);
      if (step->done) break;
    }
    (*trainer)->ring()->Drain();
  });
  return Median(seconds);
}

// Seconds that a copy of the weights takes, where they are.
double PlainCopy(const Device& device, int64_t parameters) {
  const at::TensorOptions options = at::TensorOptions().device(device.tensors());
  const at::Tensor from = at::zeros({parameters}, options), to = at::zeros({parameters}, options);
  std::vector<double> seconds;
  for (int i = 0; i < 20; ++i) {
    const double start = Now();
    to.copy_(from);
    (void)to[parameters - 1].item<float>();  // waits for a device
    seconds.push_back(Now() - start);
  }
  return Median(seconds);
}

double PlainGather(Device& device, int64_t parameters, int world, const std::string& store) {
  const at::TensorOptions options = at::TensorOptions().device(device.tensors());
  std::vector<double> seconds;
  OnEach(world, [&](int rank) {
    auto group = device.Join(
        {.store_address = store, .prefix = "bench/gather", .rank = rank, .world_size = world},
        std::make_shared<Interrupt>());
    if (!group.ok()) std::exit(1);
    const at::Tensor mine = at::zeros({parameters / world}, options);
    const at::Tensor all = at::zeros({parameters / world * world}, options);
    for (int i = 0; i < 20; ++i) {
      const double start = Now();
      if (!(*group)->Wait((*group)->AllGather(all, mine)).ok()) std::exit(1);
      if (rank == 0) seconds.push_back(Now() - start);
    }
  });
  return Median(seconds);
}

int Main(int argc, char** argv) {
  if (argc < 2) return std::fprintf(stderr, "usage: commit_pause FOLDER [WORLD] [STEPS]\n"), 2;
  std::signal(SIGPIPE, SIG_IGN);
  const int world = argc > 2 ? std::atoi(argv[2]) : 2;
  const int steps = argc > 3 ? std::atoi(argv[3]) : 60;
  const std::string device_name = argc > 4 ? argv[4] : "cpu";
  const std::string preset = argc > 5 ? argv[5] : "gpt2-tiny";
  const std::string precision = argc > 6 ? argv[6] : "fp32";
  // First: LibTorch takes in a GPU only before it is first used.
  const auto device = Device::Open(device_name);
  if (!device.ok()) return std::fprintf(stderr, "%s\n", device.status().ToString().c_str()), 2;
  const auto spec_of = [&](const std::string& leap) {
    auto spec = ParseJobSpec(
        absl::StrCat("apiVersion: leap/v1\nkind: Job\nmetadata: {name: bench}\nspec:\n"
                     "  model: {preset: ",
                     preset, "}\n  data: {paths: ['", argv[1], "']}\n  train: {steps: ", steps,
                     ", device: ", device_name, ", precision: ", precision, "}\n  leap: ", leap,
                     "\n  checkpoint: {every_steps: 0, resume: never}\n"));
    if (!spec.ok()) std::exit((std::fprintf(stderr, "%s\n", spec.status().ToString().c_str()), 2));
    return *spec;
  };
  const JobSpec leaping =
      spec_of(absl::StrCat("{policy: default, interval_steps: ", kInterval, ", warmup_steps: 1}"));
  const auto server = StoreServer::Start("127.0.0.1");
  if (!server.ok()) return 1;
  const std::string store = absl::StrCat("127.0.0.1:", (*server)->port());
  Shared off, snapshots, leaps;
  int64_t parameters = 0;
  const double plain = Train(spec_of("{policy: 'off'}"), world, store, 1, false, off, &parameters);
  const double taking = Train(leaping, world, store, 2, false, snapshots, &parameters);
  Train(leaping, world, store, 3, true, leaps, &parameters);

  const double copy = PlainCopy(**device, parameters) * 1e3;
  const double gather = PlainGather(**device, parameters, world, store) * 1e3;
  MutexLock lock(&leaps.mutex);
  MutexLock lock2(&snapshots.mutex);
  std::vector<double> shortest, longest;
  for (const auto& [leap, pauses] : leaps.pauses) {
    shortest.push_back(*std::ranges::min_element(pauses));
    longest.push_back(*std::ranges::max_element(pauses));
  }
  std::printf("%s, %s, %s: %ld parameters, %d ranks (threads), medians in ms\n", preset.c_str(),
              precision.c_str(), device_name.c_str(), static_cast<long>(parameters), world);
  std::printf("step, leaps off              %8.3f\n", plain * 1e3);
  std::printf("step, a snapshot every %d    %8.3f\n", kInterval, taking * 1e3);
  std::printf("snapshot, training thread    %8.3f   (%zu taken)\n", Median(snapshots.copies) * 1e3,
              snapshots.copies.size());
  std::printf("plain copy of the weights    %8.3f\n", copy);
  std::printf("all-gather of the weights    %8.3f\n", gather);
  std::printf("pause of a commit            %8.3f   (%zu commits); two copies + all-gather: %.3f\n",
              Median(shortest) * 1e3, shortest.size(), 2 * copy + gather);
  std::printf("the same, first rank to come %8.3f   (waits for the last one, too)\n",
              Median(longest) * 1e3);
  return 0;
}

}  // namespace
}  // namespace leap

int main(int argc, char** argv) { return leap::Main(argc, argv); }
