// What agents say, made into values: every number and text within bounds, or refused by its name.
#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "coordinator/wire.h"

namespace leap {
namespace {

// More of anything in one message than any job has.
constexpr int kMaxRanks = 65536;
constexpr int kMaxGateLosses = 65536;
constexpr int kMaxScales = 65536;
constexpr int kMaxStateBuffers = 8;
constexpr int kMaxOtherShards = 8;
constexpr size_t kMaxText = 4096;
constexpr size_t kMaxName = 64;
constexpr size_t kMaxAddress = 256;
constexpr int64_t kMaxCount = int64_t{1} << 53;  // steps, tokens, floats: sums of a few still fit
constexpr uint64_t kMaxLeap = uint64_t{1} << 53;
constexpr double kMaxMeasure = 1e15;

absl::Status Violation(absl::string_view field, absl::string_view expected) {
  return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kProtocolViolation,
                   absl::StrCat("agent message, field ", field, ": expected ", expected),
                   {{"field", std::string(field)}});
}

absl::Status CheckName(absl::string_view field, absl::string_view name) {
  bool ok = !name.empty() && name.size() <= kMaxName;
  for (const char c : name) ok = ok && (absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-');
  return ok ? absl::OkStatus() : Violation(field, "1 to 64 of [a-zA-Z0-9._-]");
}

absl::Status CheckRank(int rank) {
  return rank >= 0 && rank < kMaxRanks ? absl::OkStatus() : Violation("rank", "0 to 65535");
}

absl::Status CheckCount(absl::string_view field, int count, int limit) {
  return count <= limit ? absl::OkStatus() : Violation(field, absl::StrCat("at most ", limit));
}

// Steps, positions, sizes.
absl::Status CheckCounts(absl::string_view field, std::initializer_list<int64_t> counts) {
  for (const int64_t count : counts) {
    if (count < 0 || count > kMaxCount) return Violation(field, "0 to 2^53");
  }
  return absl::OkStatus();
}

absl::Status CheckJob(absl::string_view job) {
  return job.size() <= kMaxAddress ? absl::OkStatus() : Violation("job", "at most 256 bytes");
}

// What was measured: seconds, rates. A clock may step back, and nothing is decided by these: what
// cannot be counts as nothing.
double Measured(double value) {
  return std::isfinite(value) && value > 0 ? std::min(value, kMaxMeasure) : 0;
}

// Text for people: cut, never refused.
std::string Cut(const std::string& text, size_t bytes = kMaxText) {
  return std::string(CutUtf8(text, bytes));
}

template <class Repeated>
auto VectorOf(const Repeated& values) {
  return std::vector<typename Repeated::value_type>(values.begin(), values.end());
}

absl::StatusOr<machine::AgentMessage> From(const v1::Hello& in) {
  LEAP_RETURN_IF_ERROR(CheckName("hello.agent", in.agent()));
  if (in.role() != v1::ROLE_WORKER && in.role() != v1::ROLE_VERIFIER) {
    return Violation("hello.role", "ROLE_WORKER or ROLE_VERIFIER");
  }
  if (in.incarnation() == 0) return Violation("hello.incarnation", "a random number, not 0");
  if (in.data_address().empty() || in.data_address().size() > kMaxAddress) {
    return Violation("hello.data_address", "host:port of its SnapshotService");
  }
  if (in.store_address().size() > kMaxAddress) {
    return Violation("hello.store_address", "host:port of its rendezvous store");
  }
  LEAP_RETURN_IF_ERROR(CheckJob(in.job()));
  LEAP_RETURN_IF_ERROR(CheckCounts("hello.step", {in.step(), in.leaps_applied()}));
  return machine::Hello{.agent = in.agent(),
                        .incarnation = in.incarnation(),
                        .role = static_cast<machine::Role>(in.role()),
                        .data_address = in.data_address(),
                        .store_address = in.store_address(),
                        .version = Cut(in.version(), kMaxName),
                        .job = in.job(),
                        .epoch = in.epoch(),
                        .step = in.step(),
                        .leaps_applied = in.leaps_applied(),
                        .last_leap = in.last_leap(),
                        .held_leap = in.held_leap()};
}

absl::StatusOr<machine::AgentMessage> From(const v1::Heartbeat& in) {
  LEAP_RETURN_IF_ERROR(CheckJob(in.job()));
  LEAP_RETURN_IF_ERROR(CheckCounts("heartbeat.step", {in.step(), in.trained_steps()}));
  return machine::Heartbeat{.job = in.job(),
                            .epoch = in.epoch(),
                            .step = in.step(),
                            .trained_steps = in.trained_steps(),
                            .train_loss = in.train_loss(),
                            .tokens_per_second = Measured(in.tokens_per_second()),
                            .step_seconds = Measured(in.step_seconds()),
                            .lr = in.lr(),
                            .busy_seconds = Measured(in.busy_seconds())};
}

absl::StatusOr<machine::AgentMessage> From(const v1::EpochReady& in) {
  LEAP_RETURN_IF_ERROR(CheckJob(in.job()));
  LEAP_RETURN_IF_ERROR(CheckCounts("epoch_ready.step", {in.step(), in.leaps_applied()}));
  if (in.last_leap() > kMaxLeap) return Violation("epoch_ready.last_leap", "0 to 2^53");
  LEAP_RETURN_IF_ERROR(CheckRank(in.rank()));
  return machine::EpochReady{.job = in.job(),
                             .epoch = in.epoch(),
                             .rank = in.rank(),
                             .step = in.step(),
                             .leaps_applied = in.leaps_applied(),
                             .weights_digest = in.weights_digest(),
                             .recovered_from = Cut(in.recovered_from()),
                             .last_leap = in.last_leap(),
                             .recovery_seconds = Measured(in.recovery_seconds()),
                             .undo_problem = Cut(in.undo_problem())};
}

machine::Data DataOf(const v1::Data& in) {
  return machine::Data{.tokens = in.tokens(),
                       .train_begin = in.train_begin(),
                       .train_end = in.train_end(),
                       .gate_begin = in.gate_begin(),
                       .gate_end = in.gate_end(),
                       .report_begin = in.report_begin(),
                       .report_end = in.report_end(),
                       .parameters = in.parameters(),
                       .content_digest = Cut(in.content_digest(), kMaxName)};
}

absl::StatusOr<machine::AgentMessage> From(const v1::TrainingStarted& in) {
  LEAP_RETURN_IF_ERROR(CheckJob(in.job()));
  const v1::Data& data = in.data();
  LEAP_RETURN_IF_ERROR(
      CheckCounts("training_started.data",
                  {data.tokens(), data.train_begin(), data.train_end(), data.gate_begin(),
                   data.gate_end(), data.report_begin(), data.report_end(), data.parameters()}));
  return machine::TrainingStarted{.job = in.job(), .epoch = in.epoch(), .data = DataOf(in.data())};
}

absl::StatusOr<machine::AgentMessage> From(const v1::CollectiveFailed& in) {
  LEAP_RETURN_IF_ERROR(CheckJob(in.job()));
  LEAP_RETURN_IF_ERROR(CheckCounts("collective_failed.step", {in.step()}));
  return machine::CollectiveFailed{
      .job = in.job(), .epoch = in.epoch(), .step = in.step(), .message = Cut(in.message())};
}

absl::StatusOr<machine::AgentMessage> From(const v1::SnapshotTaken& in) {
  LEAP_RETURN_IF_ERROR(CheckJob(in.job()));
  LEAP_RETURN_IF_ERROR(
      CheckCounts("snapshot_taken.step", {in.step(), in.data_position(), in.adam_step()}));
  LEAP_RETURN_IF_ERROR(CheckRank(in.rank()));
  LEAP_RETURN_IF_ERROR(
      CheckCount("snapshot_taken.state_digests", in.state_digests_size(), kMaxStateBuffers));
  if (in.begin() < 0 || in.end() < in.begin() || in.end() > kMaxCount) {
    return Violation("snapshot_taken.begin", "0 <= begin <= end <= 2^53");
  }
  LEAP_RETURN_IF_ERROR(CheckCount("snapshot_taken.others", in.others_size(), kMaxOtherShards));
  std::vector<machine::ShardDigest> others;
  for (const v1::ShardDigest& other : in.others()) {
    LEAP_RETURN_IF_ERROR(CheckRank(other.rank()));
    others.push_back({.rank = other.rank(), .digest = other.digest()});
  }
  return machine::SnapshotTaken{.job = in.job(),
                                .epoch = in.epoch(),
                                .rank = in.rank(),
                                .step = in.step(),
                                .data_position = in.data_position(),
                                .begin = in.begin(),
                                .end = in.end(),
                                .weights_digest = in.weights_digest(),
                                .state_digests = VectorOf(in.state_digests()),
                                .applied_leap = in.applied_leap(),
                                .has_moments = in.has_moments(),
                                .snapshot_seconds = Measured(in.snapshot_seconds()),
                                .adam_step = in.adam_step(),
                                .others = std::move(others)};
}

absl::StatusOr<machine::AgentMessage> From(const v1::TaskResult& in) {
  LEAP_RETURN_IF_ERROR(CheckJob(in.job()));
  LEAP_RETURN_IF_ERROR(CheckCounts("task_result.base_step", {in.base_step()}));
  LEAP_RETURN_IF_ERROR(
      CheckCount("task_result.gate_losses", in.gate_losses_size(), kMaxGateLosses));
  LEAP_RETURN_IF_ERROR(CheckCount("task_result.scales", in.scales_size(), kMaxScales));
  return machine::TaskResult{.job = in.job(),
                             .epoch = in.epoch(),
                             .task = in.task(),
                             .base_step = in.base_step(),
                             .ok = in.ok(),
                             .error = Cut(in.error()),
                             .gate_losses = VectorOf(in.gate_losses()),
                             .report_loss = in.report_loss(),
                             .similarity = in.similarity(),
                             .digest = in.digest(),
                             .scales = VectorOf(in.scales()),
                             .seconds = Measured(in.seconds()),
                             .fetch_seconds = Measured(in.fetch_seconds()),
                             .busy_seconds = Measured(in.busy_seconds())};
}

absl::StatusOr<machine::AgentMessage> From(const v1::PrepareVote& in) {
  LEAP_RETURN_IF_ERROR(CheckJob(in.job()));
  LEAP_RETURN_IF_ERROR(CheckRank(in.rank()));
  return machine::PrepareVote{.job = in.job(),
                              .epoch = in.epoch(),
                              .leap = in.leap(),
                              .rank = in.rank(),
                              .ok = in.ok(),
                              .reason = Cut(in.reason()),
                              .shard_digest = in.shard_digest()};
}

absl::StatusOr<machine::AgentMessage> From(const v1::LeapOutcome& in) {
  LEAP_RETURN_IF_ERROR(CheckJob(in.job()));
  LEAP_RETURN_IF_ERROR(CheckCounts("leap_outcome.step", {in.step(), in.boundary_step()}));
  LEAP_RETURN_IF_ERROR(CheckRank(in.rank()));
  return machine::LeapOutcome{.job = in.job(),
                              .epoch = in.epoch(),
                              .leap = in.leap(),
                              .rank = in.rank(),
                              .applied = in.applied(),
                              .boundary_step = in.boundary_step(),
                              .step = in.step(),
                              .pause_seconds = Measured(in.pause_seconds()),
                              .shard_digest = in.shard_digest(),
                              .weights_digest = in.weights_digest()};
}

absl::StatusOr<machine::AgentMessage> From(const v1::CheckpointWritten& in) {
  LEAP_RETURN_IF_ERROR(CheckJob(in.job()));
  LEAP_RETURN_IF_ERROR(CheckCounts("checkpoint_written.step", {in.step()}));
  return machine::CheckpointWritten{.job = in.job(),
                                    .epoch = in.epoch(),
                                    .step = in.step(),
                                    .path = Cut(in.path()),
                                    .seconds = Measured(in.seconds()),
                                    .error = Cut(in.error())};
}

absl::StatusOr<machine::AgentMessage> From(const v1::JobEnded& in) {
  LEAP_RETURN_IF_ERROR(CheckJob(in.job()));
  LEAP_RETURN_IF_ERROR(CheckCounts("job_ended.result.step", {in.result().step()}));
  LEAP_RETURN_IF_ERROR(CheckRank(in.rank()));
  machine::JobEnded out{.job = in.job(),
                        .epoch = in.epoch(),
                        .rank = in.rank(),
                        .ok = in.ok(),
                        .reason = Cut(in.reason()),
                        .cause = Cut(in.cause(), kMaxName),
                        .result = {},
                        .last_leap = in.last_leap()};
  if (in.has_result()) {
    out.result = machine::Result{.step = in.result().step(),
                                 .train_loss = in.result().train_loss(),
                                 .report_loss = in.result().report_loss(),
                                 .gate_loss = in.result().gate_loss(),
                                 .weights_digest = in.result().weights_digest(),
                                 .training_seconds = Measured(in.result().training_seconds())};
  }
  return out;
}

}  // namespace

absl::StatusOr<machine::AgentMessage> FromWire(const v1::AgentMessage& message) {
  switch (message.kind_case()) {
    case v1::AgentMessage::kHello:
      return From(message.hello());
    case v1::AgentMessage::kHeartbeat:
      return From(message.heartbeat());
    case v1::AgentMessage::kEpochReady:
      return From(message.epoch_ready());
    case v1::AgentMessage::kCollectiveFailed:
      return From(message.collective_failed());
    case v1::AgentMessage::kSnapshotTaken:
      return From(message.snapshot_taken());
    case v1::AgentMessage::kTaskResult:
      return From(message.task_result());
    case v1::AgentMessage::kPrepareVote:
      return From(message.prepare_vote());
    case v1::AgentMessage::kLeapOutcome:
      return From(message.leap_outcome());
    case v1::AgentMessage::kCheckpointWritten:
      return From(message.checkpoint_written());
    case v1::AgentMessage::kJobEnded:
      return From(message.job_ended());
    case v1::AgentMessage::kGoodbye:
      return machine::Goodbye{.reason = Cut(message.goodbye().reason())};
    case v1::AgentMessage::kTrainingStarted:
      return From(message.training_started());
    case v1::AgentMessage::KIND_NOT_SET:
      break;
  }
  return Violation("kind",
                   "one of the kinds of leap.v1.AgentMessage; an agent of another version?");
}

}  // namespace leap
