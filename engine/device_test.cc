// A job on a device that is not the host: group, copies and leaps go through the CUDA library.
// Needs no GPU: the library is engine/cuda/host_plugin.cc, which computes as the CPU does and
// copies as late as a GPU may.
#include "engine/device.h"

#include <dlfcn.h>

#include <nlohmann/json.hpp>

#include "engine/cuda_plugin.h"
#include "engine/trainer_testing.h"

namespace leap {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

nlohmann::json Counts() {
  void* library = dlopen(kCudaPluginLibrary, RTLD_NOW | RTLD_LOCAL);
  void* counts = library == nullptr ? nullptr : dlsym(library, "leap_host_plugin_counts");
  EXPECT_NE(counts, nullptr) << "the stand-in of " << kCudaPluginLibrary << " is not loaded";
  if (counts == nullptr) return nlohmann::json::object();
  return nlohmann::json::parse(reinterpret_cast<const char* (*)()>(counts)());
}

// What can be seen of a run with one leap, as digests.
struct Seen {
  uint64_t vote = 0;
  uint64_t after_leap = 0;
  std::map<int64_t, uint64_t> snapshots;
  std::vector<uint64_t> ends;

  bool operator==(const Seen&) const = default;
};

class DeviceTest : public TrainerTest {
 protected:
  // A leap from the snapshot at 4, applied at 6.
  Seen RunOn(const std::string& device, size_t world, const std::string& leap,
             int64_t horizon_steps = 0) {
    JobSpec spec = Spec(leap);
    spec.train.device = device;
    StartAll(world, spec);
    JoinAll(true);
    std::atomic<uint64_t> vote = 0;
    Train(spec.train.steps, [&](size_t rank, int64_t position) {
      if (position != 5) return;
      AwaitSnapshot(rank, 4);
      const absl::StatusOr<uint64_t> mine =
          Prepare(rank, {.leap = 7, .base_step = 4, .horizon_steps = horizon_steps});
      ASSERT_OK(mine);
      vote += *mine;
      EXPECT_TRUE(ranks_[rank]->trainer->Decide(7, true));
    });
    Seen seen{.vote = vote, .ends = FinalDigests()};
    for (size_t rank = 0; rank < world; ++rank) {
      const LeapReport report = Leaps(rank, 1)[0];
      EXPECT_TRUE(report.applied);
      EXPECT_TRUE(rank == 0 || report.weights_digest == seen.after_leap);
      seen.after_leap = report.weights_digest;
      MutexLock lock(&ranks_[rank]->mutex);
      for (const auto& [step, snapshot] : ranks_[rank]->snapshots) {
        seen.snapshots[step] += snapshot.digest;
      }
    }
    ranks_.clear();
    std::filesystem::remove_all(folder_ + "/checkpoints");
    return seen;
  }
};

constexpr char kRebase[] =
    "{policy: default, interval_steps: 4, warmup_steps: 4, audit_every_leaps: 8}";
constexpr char kReplace[] =
    "{policy: default, interval_steps: 2, warmup_steps: 2, commit_rule: replace,"
    " predictors: [{name: linear, horizons_steps: [3]}]}";

TEST_F(DeviceTest, TrainsAndLeapsToTheSameBitsAsOnTheHost) {
  for (const size_t world : {1, 2, 3}) {
    SCOPED_TRACE(world);
    const Seen expected = RunOn("cpu", world, kRebase);
    EXPECT_EQ(expected.snapshots.size(), 3u);
    EXPECT_EQ(RunOn("cuda", world, kRebase), expected);
  }
  const Seen replaced = RunOn("cpu", 2, kReplace, 3);
  EXPECT_EQ(RunOn("cuda", 2, kReplace, 3), replaced);
}

TEST_F(DeviceTest, GroupCopiesAndRebaseAreTheLibrarys) {
  const nlohmann::json before = Counts();
  RunOn("cpu", 2, kRebase);
  EXPECT_EQ(Counts(), before);
  RunOn("cuda", 2, kRebase);
  const nlohmann::json after = Counts();
  const auto more = [&](const char* what) {
    return after[what].get<int64_t>() - before[what].get<int64_t>();
  };
  EXPECT_EQ(more("joins"), 2);
  EXPECT_EQ(more("copiers"), 2);
  EXPECT_EQ(more("rebases"), 2);
  EXPECT_GT(more("collectives"), 2 * 12);  // at least the votes
  // Snapshots at 4, 8 and 12: weights and moments of the rank's shard, weights of the next one's;
  // and the shards of the leap.
  EXPECT_EQ(more("copies"), 2 * (3 * 4 + 1));
  EXPECT_GT(more("early"), 0) << "who writes says so before";
  EXPECT_EQ(after["pinned"], 0) << "memory is unpinned before it is freed";
}

// Rank r is on GPU `gpus[r]`.
TEST_F(DeviceTest, EveryRankHasAGpuOfItsOwn) {
  ASSERT_OK_AND_ASSIGN(const CudaPlugin* loaded, LoadCudaPlugin());
  static thread_local int64_t gpu = 0;
  CudaPlugin plugin = *loaded;
  plugin.identity = [](int) -> absl::StatusOr<CudaIdentity> { return CudaIdentity{0, gpu}; };
  const auto join = [&](const std::string& epoch, std::vector<int64_t> gpus) {
    std::vector<absl::Status> joined(gpus.size());
    std::vector<std::thread> threads;
    const auto interrupt = std::make_shared<Interrupt>();  // as pushed when one has failed
    for (size_t rank = 0; rank < gpus.size(); ++rank) {
      threads.emplace_back([&, rank] {
        gpu = gpus[rank];
        const GroupOptions options{.store_address = absl::StrCat("127.0.0.1:", store_->port()),
                                   .prefix = epoch,
                                   .rank = static_cast<int>(rank),
                                   .world_size = static_cast<int>(gpus.size())};
        auto own = rank == 0 ? interrupt : std::make_shared<Interrupt>();
        joined[rank] = JoinCuda(plugin, options, /*device=*/0, std::move(own)).status();
      });
    }
    for (size_t rank = 1; rank < threads.size(); ++rank) threads[rank].join();
    if (!joined[1].ok()) interrupt->Raise("a new epoch");
    threads[0].join();
    return joined;
  };
  EXPECT_THAT(join("apart", {5, 6, 7}), Each(IsOk()));
  const auto shared = [](const std::string& ranks) {
    return StatusIs(
        absl::StatusCode::kFailedPrecondition,
        AllOf(HasSubstr(ranks + " are on the same GPU"), HasSubstr("CUDA_VISIBLE_DEVICES")));
  };
  EXPECT_THAT(join("shared", {5, 7, 7}),
              ElementsAre(StatusIs(absl::StatusCode::kAborted, HasSubstr("a new epoch")),
                          shared("ranks 1 and 2"), shared("ranks 1 and 2")));
}

TEST_F(DeviceTest, OtherNamesAreRefused) {
  EXPECT_THAT(Device::Open("tpu"), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("expected device cpu or cuda, saw 'tpu'")));
}

}  // namespace
}  // namespace leap
