// What agents and the coordinator say to each other, as plain values: leap/v1/agent.proto one to
// one (same names, same meaning, same units), plus the parts of leap/v1/job.proto that they carry.
// The skin translates; nothing here knows proto or gRPC.
//
// A session is an ordered stream that may break at any moment; what was on its way is then lost.
// Two rules make that harmless, and the machines rely on both:
//
//   1. Everything the coordinator sends is safe to receive twice. A repeated AssignWorker of the
//      epoch the agent is in is answered with its EpochReady once more (the stored one); a repeated
//      Prepare with the stored vote; a repeated Decide with what became of the leap (a leap that is
//      unknown or expired here: applied = false; whoever has left the epoch cannot know, and says
//      nothing); a repeated Task with its result.
//   2. After a reconnect the agent says Hello with what it holds, then repeats what may have been
//      lost and still stands: CollectiveFailed while its rank is stopped, be it by an error or by
//      AbortEpoch (the coordinator may have forgotten that it said so); JobEnded until it is
//      released; the newest CheckpointWritten; results of tasks not cancelled since.
//
// AssignWorker and AssignVerifier replace whatever the agent was doing; AbortEpoch ends every epoch
// up to and including the one it names. An agent that has been released reports Heartbeat.job = ""
// (or Hello.job = ""); only then is it given to another job.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <variant>
#include <vector>

namespace leap::machine {

inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

// Numbers as in job.proto.
enum class Role { kUnspecified = 0, kWorker = 1, kVerifier = 2 };

// ---- parts (job.proto) ----

// A member of the main group (rank >= 0) or a verifier of the job (rank -1).
// `state` in AssignWorker: "live" (holds the job's state; the newest of these is broadcast) or
// "joining" (whatever it holds is not the job's state).
struct Member {
  std::string agent;
  uint64_t incarnation = 0;
  Role role = Role::kUnspecified;
  int rank = -1;
  std::string data_address;
  std::string state;
  int64_t step = 0;
  bool operator==(const Member&) const = default;
};

// Somebody who holds [begin, end) of a snapshot, in floats.
struct ShardSource {
  std::string data_address;
  int64_t begin = 0;
  int64_t end = 0;
  int rank = -1;  // -1: a verifier
  bool operator==(const ShardSource&) const = default;
};

// Disjoint regions of the corpus, in tokens.
struct Data {
  int64_t tokens = 0;
  int64_t train_begin = 0, train_end = 0;
  int64_t gate_begin = 0, gate_end = 0;
  int64_t report_begin = 0, report_end = 0;
  int64_t parameters = 0;
  std::string content_digest;
  bool operator==(const Data&) const = default;
};

struct Result {
  int64_t step = 0;
  double train_loss = kUnknown;
  double report_loss = kUnknown;
  double gate_loss = kUnknown;
  uint64_t weights_digest = 0;
  double training_seconds = 0;
};

// ---- agent to coordinator ----

struct Hello {
  std::string agent;
  uint64_t incarnation = 0;
  std::string caller;  // not on the wire: whom its certificate or token names; empty: not known
  Role role = Role::kUnspecified;
  std::string data_address;
  std::string store_address;  // empty: cannot be a main worker
  std::string version;
  std::string job;  // empty: idle
  uint64_t epoch = 0;
  int64_t step = 0;
  int64_t leaps_applied = 0;
  uint64_t last_leap = 0;
  uint64_t held_leap = 0;
};

struct Heartbeat {
  std::string job;  // empty: idle
  uint64_t epoch = 0;
  int64_t step = 0;
  int64_t trained_steps = 0;
  double train_loss = 0;
  double tokens_per_second = 0;
  double step_seconds = 0;
  double lr = 0;
  double busy_seconds = 0;
};

struct EpochReady {
  std::string job;
  uint64_t epoch = 0;
  int rank = 0;
  int64_t step = 0;
  int64_t leaps_applied = 0;
  uint64_t weights_digest = 0;
  std::string recovered_from;
  uint64_t last_leap = 0;
  double recovery_seconds = 0;
  std::string undo_problem;  // why AssignWorker.undo_leap is still part of the state
};

struct TrainingStarted {
  std::string job;
  uint64_t epoch = 0;
  Data data;
};

struct CollectiveFailed {
  std::string job;
  uint64_t epoch = 0;
  int64_t step = 0;
  std::string message;
};

// What one rank's replica says of another's shard.
struct ShardDigest {
  int rank = 0;  // whose shard
  uint64_t digest = 0;
};

struct SnapshotTaken {
  std::string job;
  uint64_t epoch = 0;
  int rank = 0;
  int64_t step = 0;
  int64_t data_position = 0;
  int64_t begin = 0;
  int64_t end = 0;
  uint64_t weights_digest = 0;
  std::vector<uint64_t> state_digests;
  uint64_t applied_leap = 0;
  bool has_moments = false;
  double snapshot_seconds = 0;
  int64_t adam_step = 0;
  std::vector<ShardDigest> others;
};

struct TaskResult {
  std::string job;
  uint64_t epoch = 0;
  uint64_t task = 0;
  int64_t base_step = 0;
  bool ok = false;
  std::string error;
  std::vector<float> gate_losses;
  double report_loss = kUnknown;
  double similarity = kUnknown;
  uint64_t digest = 0;
  std::vector<double> scales;
  double seconds = 0;
  double fetch_seconds = 0;
  double busy_seconds = 0;
};

struct PrepareVote {
  std::string job;
  uint64_t epoch = 0;
  uint64_t leap = 0;
  int rank = 0;
  bool ok = false;
  std::string reason;
  uint64_t shard_digest = 0;
};

struct LeapOutcome {
  std::string job;
  uint64_t epoch = 0;
  uint64_t leap = 0;
  int rank = 0;
  bool applied = false;
  int64_t boundary_step = 0;
  int64_t step = 0;
  double pause_seconds = 0;
  uint64_t shard_digest = 0;
  uint64_t weights_digest = 0;
};

struct CheckpointWritten {
  std::string job;
  uint64_t epoch = 0;
  int64_t step = 0;
  std::string path;
  double seconds = 0;
  std::string error;  // not empty: it could not be written; no path
};

struct JobEnded {
  std::string job;
  uint64_t epoch = 0;
  int rank = 0;
  bool ok = false;
  std::string reason;
  std::string cause;
  Result result;
  uint64_t last_leap = 0;
};

struct Goodbye {
  std::string reason;
};

using AgentMessage =
    std::variant<Hello, Heartbeat, EpochReady, CollectiveFailed, SnapshotTaken, TaskResult,
                 PrepareVote, LeapOutcome, CheckpointWritten, JobEnded, Goodbye, TrainingStarted>;

// ---- coordinator to agent ----

struct Welcome {
  uint64_t coordinator_incarnation = 0;
  double heartbeat_seconds = 0;
  double lease_seconds = 0;
};

struct AssignWorker {
  std::string job;
  uint64_t epoch = 0;
  int rank = 0;
  int world_size = 0;
  std::string spec_yaml;
  std::string store_address;
  std::vector<Member> members;
  bool from_checkpoint = false;
  std::string checkpoint_path;
  uint64_t next_leap = 0;
  uint64_t undo_leap = 0;
};

struct AssignVerifier {
  std::string job;
  uint64_t epoch = 0;
  std::string spec_yaml;
};

struct AbortEpoch {
  std::string job;
  uint64_t epoch = 0;
  std::string reason;
};

struct Release {
  std::string job;
  std::string reason;
};

struct RunControl {
  enum class Command { kUnspecified = 0, kPause = 1, kResume = 2, kCheckpoint = 3 };
  std::string job;
  uint64_t epoch = 0;
  Command command = Command::kUnspecified;
};

struct SnapshotRef {
  int64_t step = 0;
  uint64_t weights_digest = 0;
  std::vector<uint64_t> state_digests;
  std::vector<ShardSource> sources;
  bool has_moments = false;
};

struct AppliedLeap {
  uint64_t leap = 0;
  int64_t base_step = 0;
  int predictor = 0;
  int64_t horizon_steps = 0;
  std::vector<double> scales;
};

struct Task {
  enum class Kind { kUnspecified = 0, kBaseline = 1, kCandidate = 2, kAudit = 3 };
  std::string job;
  uint64_t epoch = 0;
  uint64_t task = 0;
  Kind kind = Kind::kUnspecified;
  int64_t base_step = 0;
  int64_t data_position = 0;
  int64_t adam_step = 0;
  std::vector<SnapshotRef> snapshots;
  int predictor = 0;
  int64_t horizon_steps = 0;
  int64_t audit_steps = 0;
  double deadline_seconds = 0;
  AppliedLeap applied;
  bool report = false;
};

struct CancelTask {
  std::string job;
  uint64_t epoch = 0;
  uint64_t task = 0;
  std::string reason;
};

struct Prepare {
  std::string job;
  uint64_t epoch = 0;
  uint64_t leap = 0;
  int64_t base_step = 0;
  int predictor = 0;
  int64_t horizon_steps = 0;
  std::vector<double> scales;
};

struct Decide {
  std::string job;
  uint64_t epoch = 0;
  uint64_t leap = 0;
  bool commit = false;
  std::string reason;
};

struct Stale {
  std::string job;
  uint64_t epoch = 0;
  std::string what;
};

using CoordinatorMessage = std::variant<Welcome, AssignWorker, AssignVerifier, AbortEpoch, Release,
                                        RunControl, Task, CancelTask, Prepare, Decide, Stale>;

}  // namespace leap::machine
