// Every state in which a job does not get on says what it waits for, since when, and what would
// resolve it: each is reached, with agents of paper, and read off the view that describe shows.
#include <algorithm>
#include <functional>
#include <ostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "coordinator/paper_cluster.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

struct Case {
  const char* name;
  const char* what;
  std::function<void(PaperCluster&)> reach;  // the wait began within it
  const char* reason;
  const char* resolution;
  bool until = false;  // it ends by itself
  PaperJobOptions job = {};
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class Waits : public testing::TestWithParam<Case> {};

TEST_P(Waits, AreSaid) {
  const Case& c = GetParam();
  PaperCluster cluster(1, c.job);
  const absl::Time before = cluster.now();
  c.reach(cluster);
  std::string seen;
  for (const machine::Wait& wait : cluster.job().waits) {
    absl::StrAppend(&seen, wait.what, ": ", wait.Sentence(), "\n");
    if (wait.what != c.what) continue;
    EXPECT_THAT(wait.reason, HasSubstr(c.reason));
    EXPECT_THAT(wait.resolution, HasSubstr(c.resolution));
    EXPECT_GE(wait.since, before);
    EXPECT_LE(wait.since, cluster.now());
    EXPECT_EQ(wait.until != absl::InfiniteFuture(), c.until);
    EXPECT_GT(wait.until, cluster.now() - absl::Seconds(1));
    return;
  }
  ADD_FAILURE() << "no wait '" << c.what << "' among:\n" << seen;
}

// The coordinator does not hear this kind of message, from anybody or from one.
PaperCluster::Ears Deaf(bool (v1::AgentMessage::*kind)() const, const std::string& whose = "") {
  return [=](const std::string& agent, const v1::AgentMessage& message) {
    const bool heard = !(message.*kind)() || (!whose.empty() && whose != agent);
    return heard ? PaperCluster::Said{{agent, message}} : PaperCluster::Said{};
  };
}

void Train(PaperCluster& cluster) { cluster.Play(45); }

// Both ranks have trained to the end.
void End(PaperCluster& cluster) {
  for (int rank = 0; rank < 2; ++rank) {
    v1::AgentMessage message;
    v1::JobEnded* ended = message.mutable_job_ended();
    ended->set_job("a-1");
    ended->set_epoch(1);
    ended->set_rank(rank);
    ended->set_ok(true);
    cluster.Hear(absl::StrCat("w", rank), message);
  }
}

PaperJobOptions With(const std::string& leap, std::function<void(JobSpec&)> change = nullptr) {
  PaperJobOptions options;
  if (!leap.empty()) options.leap = leap;
  if (change) options.change = std::move(change);
  return options;
}

PaperJobOptions Agents(int workers, int verifiers) {
  PaperJobOptions options;
  options.workers = workers;
  options.verifiers = verifiers;
  return options;
}

PaperJobOptions NeedsBoth() {
  PaperJobOptions options = Agents(2, 0);
  options.change = [](JobSpec& spec) { spec.workers.min_replicas = 2; };
  return options;
}

constexpr char kLinear[] = "predictors: [{name: linear, horizons_steps: [5]}]";

const Case kCases[] = {
    // In the queue.
    {"NotEnoughWorkers", "workers", [](auto& c) { c.Play(2); },
     "waits for 1 more main worker: 1 of 2 is here (w0 is free)", "start leap-worker", false,
     Agents(1, 0)},
    {"NoWorkers", "workers", [](auto& c) { c.Play(2); }, "no other leap-worker is known",
     "start leap-worker", false, Agents(0, 0)},
    {"NotEnoughVerifiers", "verifiers", [](auto& c) { c.Play(2); },
     "waits for 1 more verifiers (verifiers.min_replicas is 3)", "start leap-verifier", false,
     With("", [](JobSpec& spec) { spec.verifiers.min_replicas = 3; })},
    {"EpochThatCannotBeWritten", "ledger",
     [](auto& c) {
       c.set_ledger_error("disk full");
       c.Play(2);
     },
     "no epoch begins that is not in it", "mend its disk", true},
    // No group.
    {"RanksThatHaveNotJoined", "ranks",
     [](auto& c) {
       c.set_ears(Deaf(&v1::AgentMessage::has_epoch_ready, "w1"));
       c.Play(3);
     },
     "1 of 2 ranks are ready, not rank 1 (w1)", "the job fails if it does not start", true},
    {"AMemberToReconnect", "members",
     [](auto& c) {
       Train(c);
       c.Kill("w1");
       c.Play(30);
       c.Kill("w0");
       c.Play(1);
     },
     "waits for w0 to reconnect", "its lease decides", false, NeedsBoth()},
    {"TooFewToGoOn", "members",
     [](auto& c) {
       Train(c);
       v1::AgentMessage failed;
       failed.mutable_collective_failed()->set_job("a-1");
       failed.mutable_collective_failed()->set_epoch(1);
       c.Hear("w0", failed);
       c.Stop("w0");
       c.Stop("w1");
       c.Play(30);
     },
     "only 0 of 2 main workers can be reached, too few to go on without w0, w1",
     "stay silent for as long as timeouts.job_start_seconds", false},
    {"AReplacement", "workers",
     [](auto& c) {
       Train(c);
       c.Kill("w1");
       c.Play(30);
     },
     "waits for 1 more main worker: 1 of 2 is here (w1 is lost)", "start leap-worker", false,
     NeedsBoth()},
    {"APauseBeforeTheNextTry", "retry",
     [](auto& c) {
       c.set_ears(Deaf(&v1::AgentMessage::has_epoch_ready));
       for (int i = 0; i < 400; ++i) {
         c.Play(1);
         if (!c.job().waits.empty() && c.job().waits.front().what == "retry") return;
       }
     },
     "did not form within timeouts.epoch_formation_seconds; not ready: w0, w1", "tried by itself",
     true, With("", [](JobSpec& spec) { spec.timeouts.job_start_seconds = 600; })},
    // The group is there.
    {"APerson", "pause",
     [](auto& c) {
       Train(c);
       c.Pause();
       c.Play(1);
     },
     "paused by a person", "leapctl resume a-1"},
    {"ARankOutOfReach", "group",
     [](auto& c) {
       Train(c);
       c.Kill("w1");
       c.Play(1);
     },
     "the session of w1 is closed", "its lease is over"},
    {"TheLargerPartOutOfReach", "group",
     [](auto& c) {
       Train(c);
       c.Stop("w1");
       c.Stop("w2");
       c.Play(30);
     },
     "cannot reach w1, w2, the larger part of the group", "its machines are started again", false,
     [] {
       PaperJobOptions options = Agents(3, 2);
       options.change = [](JobSpec& spec) { spec.workers.replicas = 3; };
       return options;
     }()},
    {"NoStep", "training",
     [](auto& c) {
       Train(c);
       c.set_ears([](const std::string& agent, const v1::AgentMessage& message) {
         v1::AgentMessage said = message;
         if (said.has_heartbeat()) said.mutable_heartbeat()->set_step(40);
         return said.has_snapshot_taken() ? PaperCluster::Said{}
                                          : PaperCluster::Said{{agent, said}};
       });
       c.Play(60);
     },
     "no rank has reported a new step; training is at step 4",
     "see the logs of rank 0 (w0), rank 1"},
    {"FewerThanAskedFor", "replicas",
     [](auto& c) {
       Train(c);
       c.Kill("w1");
       c.Play(60);
     },
     "trains with 1 of 2 main workers", "when the group changes next", false,
     [] {
       PaperJobOptions options = Agents(2, 0);
       options.change = [](JobSpec& spec) {
         spec.workers.min_replicas = 1;
         spec.failure = {{.role = "worker", .cause = "lost", .action = "shrink", .budget = 9}};
       };
       return options;
     }()},
    {"TheEndOfTheOthers", "end",
     [](auto& c) {
       Train(c);
       v1::AgentMessage ended;
       ended.mutable_job_ended()->set_job("a-1");
       ended.mutable_job_ended()->set_epoch(1);
       ended.mutable_job_ended()->set_ok(true);
       c.Hear("w0", ended);
       c.Play(1);
     },
     "waits for the result of rank 1 (w1)", "they report it"},
    {"ACheckpoint", "checkpoint", [](auto& c) { c.Play(100); },
     "steps old, and one is due every 20", "the disk of rank 0 (w0) gets faster", false,
     With("", [](JobSpec& spec) { spec.checkpoint.every_steps = 20; })},
    {"ACheckpointThatCannotBeWritten", "checkpoint",
     [](auto& c) {
       Train(c);
       v1::AgentMessage failed;
       failed.mutable_checkpoint_written()->set_job("a-1");
       failed.mutable_checkpoint_written()->set_epoch(1);
       failed.mutable_checkpoint_written()->set_step(40);
       failed.mutable_checkpoint_written()->set_error("cannot write /x: No space left on device");
       c.Hear("w0", failed);
       c.Play(1);
     },
     "the checkpoint of step 40: cannot write /x: No space left on device",
     "rank 0 (w0) writes the next one when it is due"},
    {"TheLedger", "ledger",
     [](auto& c) {
       Train(c);
       c.set_ledger_error("database is locked");
       c.Play(20);
     },
     "the ledger cannot be written: database is locked", "training goes on"},
    {"TheLastScores", "wind-down",
     [](auto& c) {
       Train(c);
       c.set_ears(Deaf(&v1::AgentMessage::has_task_result));
       c.Play(6);
       End(c);
       c.Play(1);
     },
     "training has ended; waits for v0 at the baseline of step 50", "it ends without them", true},
    {"AnEndThatCannotBeWritten", "ledger",
     [](auto& c) {
       Train(c);
       c.set_ledger_error("disk full");
       End(c);
       c.Play(3);
     },
     "the job's end (reached step 0) is not in the ledger yet", "it is tried again", true},
    // Leaps.
    {"NoVerifier", "verifiers", Train, "no verifier scores for this job", "start leap-verifier",
     false, Agents(2, 0)},
    {"TheFirstSnapshot", "snapshot", [](auto& c) { c.Play(5); },
     "one is taken every 10 steps; training is at step", "by itself"},
    {"AnIncompleteSnapshot", "snapshot",
     [](auto& c) {
       Train(c);
       c.set_ears(Deaf(&v1::AgentMessage::has_snapshot_taken, "w1"));
       c.Play(20);
     },
     "is not complete: waits for the shard of rank 1 (w1)", "the next snapshot takes its place"},
    {"BusyVerifiers", "scores",
     [](auto& c) {
       Train(c);
       c.set_ears(Deaf(&v1::AgentMessage::has_task_result));
       c.Play(6);
     },
     "v0 at the baseline of step 50", "a task past its deadline goes to another", true},
    {"Votes", "votes",
     [](auto& c) {
       Train(c);
       c.set_ears(Deaf(&v1::AgentMessage::has_prepare_vote, "w1"));
       c.Play(6);
     },
     "waits for the votes of rank 1 (w1)", "the leap is aborted", true},
    {"TheOutcome", "outcome",
     [](auto& c) {
       Train(c);
       c.set_ears(Deaf(&v1::AgentMessage::has_leap_outcome, "w1"));
       c.Play(6);
     },
     "is decided; waits to hear at which boundary rank 1 (w1) applied it", "said again", true},
    {"WarmUp", "policy", [](auto& c) { c.Play(15); }, "every predictor of the policy needs more",
     "training gets there by itself"},
    {"AnotherRegime", "policy", Train, "this policy leaps in: stable", "the regime changes", false,
     With(absl::StrCat(kLinear), [](JobSpec& spec) { spec.leap.regimes = {"stable"}; })},
    {"PolicySwitchedOff", "policy-off",
     [](auto& c) {
       Train(c);
       c.set_ears([](const std::string& agent, const v1::AgentMessage& message) {
         v1::AgentMessage said = message;
         if (said.has_prepare_vote()) said.mutable_prepare_vote()->set_shard_digest(1);
         return PaperCluster::Said{{agent, said}};
       });
       c.Play(50);
     },
     "leaps are switched off: the ranks contradict verifier", "training goes on without leaps"},
    {"OnlyObserving", "observing", Train, "leap.commit is false", "leap.commit: true", false,
     With(absl::StrCat(kLinear, ", commit: false"))},
};

INSTANTIATE_TEST_SUITE_P(All, Waits, testing::ValuesIn(kCases),
                         [](const auto& c) { return c.param.name; });

TEST(WaitsSince, OneOfTheQueueSaysBehindWhom) {
  PaperCluster cluster(1, Agents(1, 0));
  cluster.Submit("b-2", {});
  cluster.Play(3);
  const machine::JobView second = cluster.job("b-2");
  ASSERT_EQ(second.waits.size(), 1u);
  EXPECT_EQ(second.waits[0].what, "queue");
  EXPECT_THAT(second.waits[0].Sentence(), HasSubstr("behind a-1"));
  EXPECT_EQ(second.record.state_reason, second.waits[0].Sentence());
}

TEST(WaitsSince, OneForWorkersSaysWhereTheyAre) {
  PaperCluster cluster(1);
  cluster.Play(45);
  cluster.Submit("b-2", {});
  cluster.Play(1);
  EXPECT_THAT(cluster.job("b-2").waits.front().reason,
              HasSubstr("0 of 2 are here (w0 works for a-1, w1 works for a-1)"));
}

TEST(WaitsSince, TheFirstTickThatSawItStaysTheSame) {
  PaperCluster cluster(1);
  cluster.Play(45);
  cluster.set_ledger_error("database is locked");
  cluster.Play(1);
  const auto since = [&] {
    for (const machine::Wait& wait : cluster.job().waits) {
      if (wait.what == "ledger") return wait.since;
    }
    return absl::InfinitePast();
  };
  cluster.Play(10);
  const absl::Time first = since();
  ASSERT_NE(first, absl::InfinitePast());
  cluster.Play(100);
  EXPECT_EQ(since(), first);
  cluster.set_ledger_error("");
  cluster.Play(30);
  EXPECT_EQ(since(), absl::InfinitePast()) << "it is over";
}

TEST(WaitsSince, ACheckpointThatCannotBeWrittenIsAnEventOnceAndOverWithTheNext) {
  PaperCluster cluster(1);
  cluster.Play(45);
  const auto say = [&](int64_t step, const std::string& path, const std::string& error) {
    v1::AgentMessage message;
    v1::CheckpointWritten* const written = message.mutable_checkpoint_written();
    written->set_job("a-1");
    written->set_epoch(1);
    written->set_step(step);
    written->set_path(path);
    written->set_error(error);
    cluster.Hear("w0", message);
  };
  const auto waits = [&] {
    return std::ranges::count(cluster.job().waits, "checkpoint", &machine::Wait::what);
  };
  say(20, "", "disk full");
  say(40, "", "disk full");
  EXPECT_EQ(waits(), 1);
  EXPECT_EQ(std::ranges::count(cluster.events(), "checkpoint-failed: step 20: disk full"), 1);
  EXPECT_THAT(cluster.events(), testing::Not(testing::Contains(HasSubstr("step 40: disk full"))));
  EXPECT_EQ(cluster.job().record.checkpoint_path, "");
  say(40, "/state/checkpoints/a-1/step-40", "");
  EXPECT_EQ(waits(), 0);
  EXPECT_EQ(cluster.job().record.checkpoint_step, 40);
}

TEST(WaitsSince, AJobThatHasEndedWaitsForNothing) {
  PaperCluster cluster(1, Agents(0, 0));
  cluster.Cancel();
  EXPECT_TRUE(cluster.job().waits.empty());
}

}  // namespace
}  // namespace leap
