// A registered agent that lies, one lie a case: it is refused, answered as stale, put into
// quarantine, or its own epoch ends, always with a reason; nothing is committed that nobody honest
// scored (PaperCluster watches that); and with honest agents in its place the job leaps on.
//
// Beside this: agent_service_test.cc has who is not let in at all (no role, no Hello, too long, too
// many, a flood on real streams), wire_test.cc every field out of range, session_fuzz_test.cc what
// nobody thought of, tests/sim what the network does.
#include <functional>
#include <limits>
#include <ostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "coordinator/paper_cluster.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;

constexpr int kHonest = 45;  // rounds: a few leaps
constexpr int kLying = 40;
constexpr int kAfter = 600;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

// What becomes of the liar; empty: nothing of the kind.
struct Outcome {
  const char* closed = "";      // why its session is ended
  const char* quarantine = "";  // why it is put aside
  const char* event = "";       // of the job
  bool stale = false;           // it is told so
  const char* off = "";         // why the policy is switched off: leaps end, training goes on
  const char* ends = "";        // how the job ends: a rank may end its own
};

// Plays honestly, then `ears`, then honestly again, and looks.
void Check(const char* liar, const PaperCluster::Ears& ears, const Outcome& expected,
           const char* leap = nullptr) {
  PaperJobOptions options;
  if (leap != nullptr) options.leap = leap;
  PaperCluster cluster(1, options);
  cluster.Play(kHonest);
  ASSERT_GE(cluster.applied().size(), 2u);
  cluster.set_ears(ears);
  cluster.Play(kLying);
  cluster.set_ears({});
  EXPECT_EQ(cluster.stale(liar) > 0, expected.stale);
  EXPECT_THAT(cluster.closed(liar).message(), HasSubstr(expected.closed));
  EXPECT_EQ(cluster.closed(liar).ok(), *expected.closed == 0) << cluster.closed(liar);
  std::string quarantine;
  for (const machine::AgentView& agent : cluster.machine().ListAgents()) {
    if (!agent.reason.empty()) absl::StrAppend(&quarantine, agent.agent, ": ", agent.reason, "\n");
  }
  EXPECT_THAT(quarantine, HasSubstr(expected.quarantine));
  EXPECT_EQ(quarantine.empty(), *expected.quarantine == 0) << quarantine;
  EXPECT_THAT(cluster.events(), Contains(HasSubstr(expected.event)));
  const machine::JobRecord job = cluster.job().record;
  EXPECT_THAT(job.policy_off_reason, HasSubstr(expected.off));
  EXPECT_EQ(job.leaps.policy_off, *expected.off != 0) << job.policy_off_reason;
  if (*expected.ends != 0) {
    EXPECT_EQ(job.state, machine::JobState::kFailed);
    EXPECT_THAT(job.state_reason, HasSubstr(expected.ends));
    return;
  }
  const size_t leaps = cluster.applied().size();
  const int64_t step = job.progress.step;
  for (const char* name : {"w2", "w3"}) cluster.AddAgent(name, v1::ROLE_WORKER);
  cluster.AddAgent("v2", v1::ROLE_VERIFIER);
  const auto goes_on = [&] {
    const machine::JobRecord now = cluster.job().record;
    return now.progress.step > step && (now.leaps.policy_off || cluster.applied().size() > leaps);
  };
  for (int round = 0; round < kAfter && !goes_on(); ++round) cluster.Play(1);
  EXPECT_TRUE(goes_on()) << cluster.job().record.state_reason;
  EXPECT_EQ(cluster.job().record.state, machine::JobState::kRunning);
}

// ---- an honest message with something wrong in it ----

struct Lie {
  const char* name;
  const char* liar;
  // Spoils a message that it picks, and says whether it did.
  std::function<bool(v1::AgentMessage&)> spoil;
  Outcome outcome;
  int times = 1;
  const char* leap = nullptr;  // of the job
};
void PrintTo(const Lie& lie, std::ostream* out) { *out << lie.name; }

class MaliciousAgent : public testing::TestWithParam<Lie> {};

TEST_P(MaliciousAgent, LiesAndTheRestGoesOn) {
  const Lie& lie = GetParam();
  int told = 0;
  Check(
      lie.liar,
      [&](const std::string& agent, const v1::AgentMessage& message) {
        v1::AgentMessage said = message;
        if (agent == lie.liar && told < lie.times && lie.spoil(said)) ++told;
        return PaperCluster::Said{{agent, said}};
      },
      lie.outcome, lie.leap);
  EXPECT_GT(told, 0) << "it never got to lie";
}

// While both are free v0 scores the baseline and v1 the candidate. Candidates are scored below 3
// nats, baselines not (coordinator/paper_mind.cc).
bool IsBaseline(const v1::AgentMessage& m) {
  return m.has_task_result() && m.task_result().gate_losses(0) >= 3;
}
bool IsCandidate(const v1::AgentMessage& m) {
  return m.has_task_result() && m.task_result().gate_losses(0) < 3;
}
// Picks by `is`, spoils by `how`.
template <class Is, class How>
std::function<bool(v1::AgentMessage&)> If(Is is, How how) {
  return [is, how](v1::AgentMessage& m) {
    if (!is(m)) return false;
    how(m);
    return true;
  };
}
auto Has(bool (v1::AgentMessage::*has)() const) {
  return [has](const v1::AgentMessage& m) { return (m.*has)(); };
}
const auto kBeat = Has(&v1::AgentMessage::has_heartbeat);
const auto kVote = Has(&v1::AgentMessage::has_prepare_vote);
const auto kOutcome = Has(&v1::AgentMessage::has_leap_outcome);
const auto kSnapshot = Has(&v1::AgentMessage::has_snapshot_taken);
const auto kResult = Has(&v1::AgentMessage::has_task_result);

constexpr char kWithScales[] = "predictors: [{name: quadratic, form: code, horizons_steps: [5]}]";

const Lie kLies[] = {
    // Who and when.
    {"VoteInAnothersRank",
     "w1",
     If(kVote, [](auto& m) { m.mutable_prepare_vote()->set_rank(0); }),
     {.event = "leap-aborted", .stale = true}},
    {"VoteOfARankThatIsNot",
     "w1",
     If(kVote, [](auto& m) { m.mutable_prepare_vote()->set_rank(60000); }),
     {.event = "leap-aborted", .stale = true}},
    {"VoteInAnotherEpoch",
     "w1",
     If(kVote, [](auto& m) { m.mutable_prepare_vote()->set_epoch(7); }),
     {.event = "leap-aborted", .stale = true}},
    {"VoteOnAnotherJob",
     "w1",
     If(kVote, [](auto& m) { m.mutable_prepare_vote()->set_job("b-2"); }),
     {.event = "leap-aborted", .stale = true}},
    {"VoteOnALeapNeverPrepared",
     "w1",
     If(kVote, [](auto& m) { m.mutable_prepare_vote()->set_leap(999); }),
     {.event = "leap-aborted", .stale = true}},
    {"VoteWithAnotherDigest",
     "w1",
     If(kVote, [](auto& m) { m.mutable_prepare_vote()->set_shard_digest(1234567); }),
     {.quarantine = "digest mismatch", .event = "leap-aborted"}},
    {"VoteWithAnotherDigestForEver",
     "w1",
     If(kVote, [](auto& m) { m.mutable_prepare_vote()->set_shard_digest(1234567); }),
     {.quarantine = "digest mismatch", .event = "leap-aborted", .off = "contradict"},
     1000},
    {"OutcomeAtAnotherBoundary",
     "w1",
     If(kOutcome, [](auto& m) { m.mutable_leap_outcome()->set_boundary_step(1); }),
     {.event = "leap-disagreement", .off = "applied it at step 1"}},
    {"OutcomeThatItDroppedTheLeap",
     "w1",
     If(kOutcome, [](auto& m) { m.mutable_leap_outcome()->set_applied(false); }),
     {.event = "leap-disagreement", .off = "says otherwise"}},
    {"HeartbeatOfAnotherJob",
     "w1",
     If(kBeat, [](auto& m) { m.mutable_heartbeat()->set_job("b"); }),
     {.event = "worker-lost: rank 1 (w1) has dropped the job"}},
    {"HeartbeatOfNoJob",
     "w1",
     If(kBeat, [](auto& m) { m.mutable_heartbeat()->clear_job(); }),
     {.event = "worker-lost: rank 1 (w1) has dropped the job"}},
    // Numbers that cannot be.
    {"StepsBelowZero",
     "w0",
     If(kBeat, [](auto& m) { m.mutable_heartbeat()->set_step(-1); }),
     {.closed = "heartbeat.step"}},
    {"StepsWithoutEnd",
     "w0",
     If(kBeat,
        [](auto& m) {
          m.mutable_heartbeat()->set_trained_steps(std::numeric_limits<int64_t>::max());
        }),
     {.closed = "heartbeat.step"}},
    {"StepsFarAhead",
     "w1",
     If(kBeat, [](auto& m) { m.mutable_heartbeat()->set_step(1LL << 53); }),
     {}},
    {"SecondsWithoutEnd",
     "w0",
     If(kBeat, [](auto& m) { m.mutable_heartbeat()->set_busy_seconds(kInf); }),
     {}},
    {"SnapshotBeforeTheFirstStep",
     "w1",
     If(kSnapshot, [](auto& m) { m.mutable_snapshot_taken()->set_step(-10); }),
     {.closed = "snapshot_taken.step"}},
    {"SnapshotFarAhead",
     "w1",
     If(kSnapshot, [](auto& m) { m.mutable_snapshot_taken()->set_step(1LL << 53); }),
     {}},
    {"SnapshotOfAnothersShard",
     "w1",
     If(kSnapshot, [](auto& m) { m.mutable_snapshot_taken()->set_begin(0); }),
     {.event = "snapshot-refused: shard of rank 1"}},
    {"SnapshotAfterALeapThatNeverWas",
     "w1",
     If(kSnapshot, [](auto& m) { m.mutable_snapshot_taken()->set_applied_leap(999); }),
     {.event = "snapshot-refused: shard of rank 1"}},
    // Scores.
    {"BaselineOfNoNumber",
     "v0",
     If(IsBaseline, [](auto& m) { m.mutable_task_result()->set_gate_losses(0, kNan); }),
     {.quarantine = "not finite"}},
    {"BaselineOfOtherWeights",
     "v0",
     If(IsBaseline, [](auto& m) { m.mutable_task_result()->set_digest(42); }),
     {.quarantine = "scored weights with digest"}},
    {"BaselineOfAnotherStep",
     "v0",
     If(IsBaseline, [](auto& m) { m.mutable_task_result()->set_base_step(3); }),
     {.quarantine = "expected the base at step"}},
    {"SimilarityBeyondOne",
     "v0",
     If(IsBaseline, [](auto& m) { m.mutable_task_result()->set_similarity(1e300); }),
     {.quarantine = "a similarity beyond one"}},
    {"TooManyLosses",
     "v0",
     If(kResult, [](auto& m) { m.mutable_task_result()->mutable_gate_losses()->Resize(60000, 1); }),
     {.quarantine = "expected 4 gate losses, saw 60000"}},
    {"MoreLossesThanAMessageMayHave",
     "v0",
     If(kResult, [](auto& m) { m.mutable_task_result()->mutable_gate_losses()->Resize(70000, 1); }),
     {.closed = "task_result.gate_losses"}},
    {"NoLosses",
     "v0",
     If(kResult, [](auto& m) { m.mutable_task_result()->clear_gate_losses(); }),
     {.quarantine = "expected 4 gate losses, saw 0"}},
    {"LossesBelowZero",
     "v1",
     If(IsCandidate, [](auto& m) { m.mutable_task_result()->set_gate_losses(1, -50); }),
     {.quarantine = "a loss below zero"}},
    {"CandidateOfNoNumber",
     "v1",
     If(IsCandidate, [](auto& m) { m.mutable_task_result()->set_gate_losses(1, kInf); }),
     {}},
    {"CandidateOfOtherWeights",
     "v1",
     If(IsCandidate, [](auto& m) { m.mutable_task_result()->set_digest(42); }),
     {.quarantine = "digest mismatch", .event = "leap-aborted"}},
    {"ScalesNobodyAskedFor",
     "v1",
     If(IsCandidate, [](auto& m) { m.mutable_task_result()->add_scales(0.5); }),
     {.quarantine = "expected no scales"}},
    {"TheScalesThatWereAskedForLeftOut",
     "v1",
     If(IsCandidate, [](auto& m) { m.mutable_task_result()->clear_scales(); }),
     {.quarantine = "expected a scale for each tensor"},
     1,
     kWithScales},
    {"AScaleThatBlowsUp",
     "v1",
     If(IsCandidate, [](auto& m) { m.mutable_task_result()->set_scales(0, 1e30); }),
     {.quarantine = "expected scales from 0 to 1"},
     1,
     kWithScales},
    {"ResultOfAnothersTask",
     "v0",
     If(kResult, [](auto& m) { m.mutable_task_result()->set_task(123456); }),
     {.stale = true}},
    // A rank may end its own job by a loss that is not finite, and it is said which.
    {"TrainingThatFailed",
     "w1",
     If(kBeat,
        [](auto& m) {
          v1::JobEnded* ended = m.mutable_job_ended();
          ended->set_job("a-1");
          ended->set_epoch(1);
          ended->set_rank(1);
          ended->set_cause("nan-loss");
        }),
     {.ends = "rank 1 stopped (nan-loss)"}},
    {"ARankThatCannotGoOn",
     "w1",
     If(kBeat,
        [](auto& m) {
          v1::JobEnded* ended = m.mutable_job_ended();
          ended->set_job("a-1");
          ended->set_epoch(1);
          ended->set_rank(1);
          ended->set_cause("internal");
        }),
     {.quarantine = "w1: rank 1 stopped (internal)"}},
};

INSTANTIATE_TEST_SUITE_P(All, MaliciousAgent, testing::ValuesIn(kLies),
                         [](const auto& lie) { return lie.param.name; });

// ---- messages that it makes up ----

std::vector<v1::AgentMessage> EveryKindAbout(const std::string& job, uint64_t epoch, int rank,
                                             uint64_t leap) {
  std::vector<v1::AgentMessage> said;
  const auto label = [&](auto* body) {
    body->set_job(job);
    body->set_epoch(epoch);
  };
  const auto ranked = [&](auto* body) {
    label(body);
    body->set_rank(rank);
  };
  ranked(said.emplace_back().mutable_epoch_ready());
  label(said.emplace_back().mutable_training_started());
  label(said.emplace_back().mutable_collective_failed());
  ranked(said.emplace_back().mutable_snapshot_taken());
  said.back().mutable_snapshot_taken()->set_step(50);
  label(said.emplace_back().mutable_task_result());
  said.back().mutable_task_result()->set_ok(true);
  ranked(said.emplace_back().mutable_prepare_vote());
  said.back().mutable_prepare_vote()->set_ok(true);
  said.back().mutable_prepare_vote()->set_leap(leap);
  ranked(said.emplace_back().mutable_leap_outcome());
  said.back().mutable_leap_outcome()->set_leap(leap);
  said.back().mutable_leap_outcome()->set_applied(true);
  label(said.emplace_back().mutable_checkpoint_written());
  said.back().mutable_checkpoint_written()->set_path("/etc");
  ranked(said.emplace_back().mutable_job_ended());
  said.back().mutable_job_ended()->set_ok(true);
  return said;
}

TEST(MaliciousStranger, SaysEverythingAboutAJobOfOthersAndChangesNothing) {
  for (const v1::Role role : {v1::ROLE_WORKER, v1::ROLE_VERIFIER}) {
    PaperCluster cluster(1);
    cluster.AddAgent("x-evil", role);
    cluster.Play(kHonest);
    const std::vector<std::string> events = cluster.events();
    for (int flood = 0; flood < 1000; ++flood) {
      for (const uint64_t epoch : {0, 1, 2}) {
        for (const auto& lie : EveryKindAbout("a-1", epoch, flood % 3, flood % 7)) {
          cluster.Hear("x-evil", lie);
        }
      }
    }
    EXPECT_EQ(cluster.events(), events) << "a flood of lies fills no ledger";
    EXPECT_EQ(cluster.job().record.state, machine::JobState::kRunning);
    EXPECT_EQ(cluster.job().record.epoch, 1u);
    const size_t leaps = cluster.applied().size();
    cluster.Play(kLying);
    EXPECT_GT(cluster.applied().size(), leaps);
    EXPECT_GT(cluster.stale("x-evil"), 0);
  }
}

TEST(MaliciousRank, SaysWhatOnlyOthersOfItsGroupMaySay) {
  PaperCluster cluster(1);
  cluster.Play(kHonest);
  const machine::JobRecord before = cluster.job().record;
  for (auto& lie : EveryKindAbout("a-1", 1, /*rank=*/0, 3)) {
    if (lie.has_collective_failed()) continue;  // any rank may
    cluster.Hear("w1", lie);
  }
  EXPECT_FALSE(cluster.job().record.has_result);
  EXPECT_EQ(cluster.job().record.data, before.data);
  cluster.Play(kLying);
  EXPECT_EQ(cluster.job().record.epoch, 1u);
  EXPECT_GT(cluster.stale("w1"), 0);
}

TEST(MaliciousRank, NamesAFolderThatIsNotOfTheJobsCheckpoints) {
  PaperCluster cluster(1);
  cluster.Play(kHonest);
  v1::AgentMessage lie;
  v1::CheckpointWritten* const written = lie.mutable_checkpoint_written();
  written->set_job("a-1");
  written->set_epoch(1);
  written->set_step(20);
  const auto say = [&](const std::string& agent, const std::string& path) {
    written->set_path(path);
    cluster.Hear(agent, lie);
    return cluster.job().record.checkpoint_path;
  };
  EXPECT_EQ(say("w0", "/etc"), "");
  EXPECT_EQ(say("w0", "/state/checkpoints/a-2/step-20"), "");
  EXPECT_EQ(say("w0", "/state/checkpoints/a-1/step-21"), "");
  EXPECT_EQ(say("w1", "/state/checkpoints/a-1/step-20"), "");
  EXPECT_THAT(
      cluster.events(),
      IsSupersetOf({"checkpoint-refused: w0: expected the checkpoint at step 20 in a folder "
                    "that ends with /checkpoints/a-1/step-20, saw '/etc'",
                    "checkpoint-refused: w1: only rank 0 writes checkpoints"}));
  EXPECT_EQ(say("w0", "/state/checkpoints/a-1/step-20"), "/state/checkpoints/a-1/step-20");
}

TEST(MaliciousRank, SaysThatItHasFinishedLongBeforeTheRest) {
  PaperCluster cluster(1);
  cluster.Play(kHonest);
  for (auto& lie : EveryKindAbout("a-1", 1, /*rank=*/1, 3)) {
    if (lie.has_job_ended()) cluster.Hear("w1", lie);
  }
  cluster.Play(kLying);
  EXPECT_EQ(cluster.job().record.state, machine::JobState::kRunning);
  EXPECT_FALSE(cluster.job().record.has_result);
}

TEST(MaliciousRank, CannotSpendSecondsWithoutEnd) {
  PaperCluster cluster(1);
  cluster.Play(kHonest);
  for (const double seconds : {kInf, kNan, -1.0}) {
    v1::AgentMessage beat;
    beat.mutable_heartbeat()->set_job("a-1");
    beat.mutable_heartbeat()->set_epoch(1);
    beat.mutable_heartbeat()->set_busy_seconds(seconds);
    cluster.Hear("w0", beat);
  }
  const double before = cluster.job().record.leaps.worker_device_seconds;
  cluster.Play(kLying);
  EXPECT_GT(cluster.job().record.leaps.worker_device_seconds, before) << "it still counts";
}

TEST(MaliciousVerifier, IsFoundOutThoughItsLieComesWhenTheRingsHaveMovedOn) {
  PaperCluster cluster(1, {.verifiers = 1}, {});
  v1::AgentMessage lie;
  cluster.set_ears([&](const std::string& agent, const v1::AgentMessage& message) {
    if (lie.has_task_result() || !IsBaseline(message)) return PaperCluster::Said{{agent, message}};
    lie = message;
    return PaperCluster::Said{};
  });
  cluster.Play(kHonest + 6 * PaperCluster::kInterval);  // a ring holds four
  ASSERT_TRUE(lie.has_task_result());
  lie.mutable_task_result()->set_digest(42);
  cluster.Hear("v0", lie);
  EXPECT_THAT(
      cluster.events(),
      ::testing::Contains(HasSubstr("verifier-quarantined: v0: scored weights with digest")));
}

// ---- somebody else ----

v1::Hello HelloAs(const PaperCluster& cluster, const std::string& name, uint64_t incarnation) {
  v1::Hello hello = cluster.mind(name).Hello();
  hello.set_incarnation(incarnation);
  return hello;
}

TEST(Impostor, IsTurnedAwayWhileTheNameIsHeld) {
  PaperCluster cluster(1);
  cluster.Play(kHonest);
  const uint64_t own = cluster.mind("w0").Hello().incarnation();
  EXPECT_THAT(cluster.Knock(HelloAs(cluster, "w0", own), "cert-evil"),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("held by 'cert-w0'")))
      << "it has read the incarnation somewhere; its certificate is another's";
  EXPECT_THAT(cluster.Knock(HelloAs(cluster, "w0", 666), "cert-evil"),
              HasReason(ErrorReason::kPermissionDenied));
  EXPECT_THAT(cluster.Knock(HelloAs(cluster, "w0", 666), "cert-w0"),
              HasReason(ErrorReason::kStaleIncarnation))
      << "the same owner, a second process";
  const size_t leaps = cluster.applied().size();
  cluster.Play(kLying);
  EXPECT_EQ(cluster.job().record.epoch, 1u);
  EXPECT_GT(cluster.applied().size(), leaps);
  EXPECT_OK(cluster.closed("w0"));
}

TEST(Impostor, ThatSharesTheCertificateDisturbsButCommitsNothing) {
  PaperCluster cluster(1);
  cluster.Play(kHonest);
  for (int round = 0; round < kLying; ++round) {
    EXPECT_OK(cluster.Knock(cluster.mind("w0").Hello(), "cert-w0"));
    cluster.Play(1);
  }
  const size_t leaps = cluster.applied().size();
  cluster.Play(kAfter);
  EXPECT_GT(cluster.applied().size(), leaps) << cluster.job().record.state_reason;
}

TEST(Flood, OfNamesKeepsNobodyOutForLong) {
  PaperCluster cluster(1);
  v1::Hello hello = cluster.mind("v0").Hello();
  absl::Status full;
  for (int i = 0; full.ok() && i < 20'000; ++i) {
    hello.set_agent(absl::StrCat("evil-", i));
    hello.set_incarnation(i + 1);
    full = cluster.Knock(hello, "cert-evil");
  }
  EXPECT_THAT(full, HasReason(ErrorReason::kQuotaExceeded));
  cluster.Advance(absl::Seconds(machine::ClusterOptions().lease_seconds + 1));
  hello.set_agent("honest");
  EXPECT_OK(cluster.Knock(hello, "cert-honest"));
}

}  // namespace
}  // namespace leap
