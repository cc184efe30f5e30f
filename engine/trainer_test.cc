// One rank's training, several ranks as threads over loopback: the same training whatever happens
// to the group, and leaps that are exact and at one boundary.
#include "engine/trainer_testing.h"

namespace leap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

TEST_F(TrainerTest, SameWorldSizeTrainsTheSameBits) {
  const JobSpec spec = Spec();
  const uint64_t first = Undisturbed(2, spec);
  EXPECT_EQ(Undisturbed(2, spec), first);
  EXPECT_EQ(Undisturbed(2, Spec("{policy: \"off\"}")), first);  // snapshots change nothing
}

TEST_F(TrainerTest, ShardDigestsAddUp) {
  StartAll(3, Spec());
  JoinAll(true);
  Train(8);
  for (const int64_t step : {4, 8}) {
    const uint64_t whole = DigestAll(Whole(step));
    uint64_t sum = 0;
    for (auto& rank : ranks_) {
      MutexLock lock(&rank->mutex);
      sum += rank->snapshots[step].digest;
    }
    EXPECT_EQ(sum, whole);
  }
}

TEST_F(TrainerTest, InterruptedInTheMiddleOfAStepAndGoesOnExactly) {
  const JobSpec spec = Spec();
  const uint64_t expected = Undisturbed(2, spec);
  StartAll(2, spec);
  JoinAll(true);
  Train(5);
  // Rank 1 is stopped; rank 0 hangs in its step until the coordinator's abort.
  absl::Time raised;
  std::thread agent([&] {
    RealClock().SleepFor(absl::Milliseconds(200));
    raised = RealClock().Now();
    ranks_[0]->interrupt->Raise("epoch 2");
  });
  EXPECT_THAT(ranks_[0]->trainer->Step(), StatusIs(absl::StatusCode::kAborted));
  agent.join();
  EXPECT_LT(absl::ToDoubleSeconds(RealClock().Now() - raised), 1);
  EXPECT_EQ(ranks_[0]->trainer->position().data_position, 5);
  for (auto& rank : ranks_) rank->trainer->Leave();
  JoinAll(false);
  EXPECT_EQ(ranks_[0]->joined.recovered_from, "");
  Train(spec.train.steps);
  EXPECT_EQ(FinalDigests(), std::vector<uint64_t>(2, expected));
}

TEST_F(TrainerTest, NewcomerGetsTheStateOfAPeer) {
  const JobSpec spec = Spec();
  const uint64_t expected = Undisturbed(2, spec);
  for (const size_t lost : {size_t{0}, size_t{1}}) {
    StartAll(2, spec);
    JoinAll(true);
    Train(5);
    ranks_[1 - lost]->interrupt->Raise("peer lost");
    Start(lost, spec);
    JoinAll(false);
    EXPECT_EQ(ranks_[lost]->joined.recovered_from, absl::StrCat("peer rank ", 1 - lost));
    EXPECT_EQ(ranks_[0]->joined.weights_digest, ranks_[1]->joined.weights_digest);
    EXPECT_EQ(ranks_[lost]->joined.position.data_position, 5);
    Train(spec.train.steps);
    EXPECT_EQ(FinalDigests(), std::vector<uint64_t>(2, expected)) << "rank " << lost << " was lost";
    std::filesystem::remove_all(folder_ + "/checkpoints");
  }
}

TEST_F(TrainerTest, NewestStateWins) {
  const JobSpec spec = Spec();
  const uint64_t expected = Undisturbed(2, spec);
  // Rank 0 is at batch 3, rank 1 at batch 6 of the same training (as ranks of one are).
  StartAll(2, spec);
  JoinAll(true);
  Train(3);
  auto behind = std::move(ranks_[0]);
  Start(0, spec);
  JoinAll(false);
  Train(6);
  ranks_[0] = std::move(behind);
  JoinAll(false);
  EXPECT_EQ(ranks_[0]->joined.recovered_from, "peer rank 1");
  EXPECT_EQ(ranks_[0]->joined.position.data_position, 6);
  Train(spec.train.steps);
  EXPECT_EQ(FinalDigests(), std::vector<uint64_t>(2, expected));
}

TEST_F(TrainerTest, WhoComesAfterTheLastStepKnowsItsLoss) {
  const JobSpec spec = Spec("{enabled: false}", 4, 4);
  StartAll(2, spec);
  JoinAll(true);
  Train(spec.train.steps);
  const double loss = ranks_[0]->trainer->position().train_loss;
  EXPECT_GT(loss, 0);
  (void)FinalDigests();
  Start(0, spec);
  JoinAll(false);
  EXPECT_EQ(ranks_[0]->joined.recovered_from, "peer rank 1");
  EXPECT_EQ(ranks_[0]->joined.position.train_loss, loss);
  StartAll(1, spec);
  JoinAll(true);
  EXPECT_THAT(ranks_[0]->joined.recovered_from, HasSubstr("step-4"));
  EXPECT_EQ(ranks_[0]->joined.position.train_loss, loss);
}

TEST_F(TrainerTest, ResumesFromACheckpointExactly) {
  const JobSpec spec = Spec("{policy: \"off\"}", 12, 5);
  const uint64_t expected = Undisturbed(2, spec);
  StartAll(2, spec);
  JoinAll(true);
  Train(8);
  Await("checkpoint", [&] {
    MutexLock lock(&ranks_[0]->mutex);
    return !ranks_[0]->checkpoints.empty();
  });
  StartAll(2, spec);  // all workers killed
  JoinAll(true);
  EXPECT_THAT(ranks_[0]->joined.recovered_from, StartsWith("checkpoint "));
  EXPECT_EQ(ranks_[1]->joined.position.data_position, 5);
  Train(spec.train.steps);
  EXPECT_EQ(FinalDigests(), std::vector<uint64_t>(2, expected));
}

TEST_F(TrainerTest, PassesOverADamagedCheckpointAndDoesNotBeginAnewIfAllAre) {
  const JobSpec spec = Spec("{policy: \"off\"}", 12, 5);
  StartAll(1, spec);
  JoinAll(true);
  Train(12);
  FinalDigests();
  const auto damage = [&](int step) {
    const std::string file =
        absl::StrCat(folder_, "/checkpoints/t/step-", step, "/model.safetensors");
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(1000);
    const char byte = static_cast<char>(stream.peek() ^ 1);
    stream.seekp(1000);
    stream.put(byte);
    return file;
  };
  const std::string newest = damage(12);
  StartAll(1, spec);
  JoinAll(true);
  EXPECT_EQ(ranks_[0]->joined.position.step, 10);
  EXPECT_THAT(ranks_[0]->joined.recovered_from,
              AllOf(HasSubstr("step-10; passed over: "), HasSubstr(newest)));
  damage(10);
  StartAll(1, spec);
  ranks_[0]->interrupt = std::make_shared<Interrupt>();
  EXPECT_THAT(ranks_[0]
                  ->trainer
                  ->Join({.group = {.store_address = absl::StrCat("127.0.0.1:", store_->port()),
                                    .prefix = "t/damaged",
                                    .rank = 0,
                                    .world_size = 1,
                                    .timeout = absl::Seconds(20),
                                    .join_timeout = absl::Seconds(20)},
                          .epoch = 99,
                          .from_checkpoint = true},
                         ranks_[0]->interrupt)
                  .status(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr(newest)));
}

TEST_F(TrainerTest, NotANumberEndsAllRanksAlike) {
  JobSpec spec = Spec("{policy: \"off\"}", 40);
  spec.train.lr = 1e30;  // more than the validator lets pass
  StartAll(2, spec);
  JoinAll(true);
  std::vector<int64_t> ended(2);
  OnEach([&](size_t rank) {
    absl::Status status;
    while (status.ok()) {
      const absl::StatusOr<StepReport> step = ranks_[rank]->trainer->Step();
      if (step.ok() && step->done) break;
      status = step.status();
    }
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("is not finite")));
    ended[rank] = ranks_[rank]->trainer->position().step;
  });
  EXPECT_EQ(ended[0], ended[1]);
}

TEST_F(TrainerTest, PausesAndResumesTogether) {
  StartAll(2, Spec());
  JoinAll(true);
  std::thread person([&] {
    ranks_[1]->trainer->SetPaused(true);  // one that has heard of it holds all
    Await("steps", [&] { return ranks_[0]->trainer->position().data_position >= 1; });
    RealClock().SleepFor(absl::Milliseconds(300));
    const int64_t at = ranks_[0]->trainer->position().data_position;
    RealClock().SleepFor(absl::Milliseconds(200));
    EXPECT_EQ(ranks_[0]->trainer->position().data_position, at);
    EXPECT_EQ(ranks_[1]->trainer->position().data_position, at);
    EXPECT_LT(at, 12);
    ranks_[1]->trainer->SetPaused(false);
  });
  Train(12);
  person.join();
  EXPECT_EQ(ranks_[0]->trainer->position().data_position, 12);
}

}  // namespace
}  // namespace leap
