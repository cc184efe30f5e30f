// Results of verifiers, and the verdict (protocol.md, "The cycle", steps 3 to 5).
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/machine/leap_machine.h"
#include "core/acceptance.h"

namespace leap::machine {
namespace {

constexpr double kRounding = 1e-3;
constexpr double kAgeMemory = 0.8;  // weight of the past in the expected age of a verdict

bool AllFinite(const std::vector<float>& losses) {
  return std::ranges::all_of(losses, [](float loss) { return std::isfinite(loss); });
}

double MeanLoss(const std::vector<float>& losses) {
  double sum = 0;
  for (const float loss : losses) sum += loss;
  return sum / static_cast<double>(losses.size());
}

}  // namespace

const SnapshotRecord* LeapMachine::Taken(int64_t step) const {
  for (auto record = history_.rbegin(); record != history_.rend(); ++record) {
    if (record->step == step && record->epoch == core_.group.epoch()) return &*record;
  }
  return nullptr;
}

// Why a result cannot be counted, empty: it can. `cause` is the label of the quarantine.
std::string LeapMachine::Refusal(const WorkItem& item, const TaskResult& result,
                                 absl::string_view* cause) {
  const size_t expected = static_cast<size_t>(core_.spec().data.gate_sequences);
  if (result.gate_losses.size() != expected) {
    *cause = "length";
    return absl::StrCat("expected ", expected, " gate losses, saw ", result.gate_losses.size());
  }
  if (result.base_step != item.base_step) {
    *cause = "digest";
    return absl::StrCat("expected the base at step ", item.base_step, ", saw ", result.base_step);
  }
  const SnapshotRecord* const base = Taken(item.base_step);  // the rings may have moved on
  if (item.kind == Task::Kind::kBaseline && base != nullptr &&
      result.digest != base->weights_digest) {
    *cause = "digest";
    return absl::StrFormat(
        "scored weights with digest %016x at step %d, where the ranks have %016x", result.digest,
        item.base_step, base->weights_digest);
  }
  // A mean of cross-entropies is not below zero, nor a cosine beyond one, but for rounding.
  const bool below =
      std::ranges::any_of(result.gate_losses, [](float loss) { return loss < -kRounding; });
  if (below || result.report_loss < -kRounding || std::fabs(result.similarity) > 1 + kRounding) {
    *cause = "range";
    return absl::StrCat("a loss below zero or a similarity beyond one at step ", item.base_step);
  }
  const absl::Status scales = item.kind == Task::Kind::kCandidate
                                  ? CheckScales(needs_[item.candidate.predictor], result.scales, 0)
                                  : absl::OkStatus();
  if (!scales.ok()) {
    *cause = "range";
    return std::string(scales.message());
  }
  // A candidate may have any loss; the base may not, unless the training itself has none.
  if (item.kind != Task::Kind::kCandidate && !AllFinite(result.gate_losses) &&
      core_.loss_is_finite) {
    *cause = "nan";
    return absl::StrCat("a gate loss that is not finite at step ", item.base_step);
  }
  return "";
}

void LeapMachine::OnTaskResult(const Agent& agent, const TaskResult& result, Batch& batch) {
  std::optional<WorkItem> item = board_.Finish(agent.name, result.task);
  if (!item.has_value()) {
    batch.SendStale(agent, core_.id(), core_.group.epoch(), "task-result");
    return;
  }
  batch.Changed(core_.id());
  const char* const kind = TaskKindName(item->kind);
  Scorer& scorer = *board_.Find(agent.name);
  if (!result.ok) {
    batch.Count(Metric::kTasks, {kind, "failed"});
    if (++scorer.errors >= batch.options().max_verifier_errors) {
      Quarantine(agent.name, "errors",
                 absl::StrCat("failed ", scorer.errors, " tasks in a row: ", result.error), batch);
    }
    if (!board_.Retry(*item, batch.options().max_task_attempts)) GiveUp(*item, batch);
    return Dispatch(batch);
  }
  absl::string_view cause;
  const std::string refusal = Refusal(*item, result, &cause);
  const bool trusting = cause == "digest" && batch.Planted(Mutation::kTrustEveryDigest);
  if (!refusal.empty() && !trusting) return Refuse(agent, *std::move(item), cause, refusal, batch);
  scorer.errors = 0;
  batch.Count(Metric::kTasks, {kind, "ok"});
  batch.Count(Metric::kVerificationSeconds, {}, result.seconds);
  batch.Count(Metric::kFetchSeconds, {}, result.fetch_seconds);
  book_.AddHolder(item->base_step, scorer.data_address);
  if (item->kind == Task::Kind::kBaseline) {
    ScoreBaseline(agent, result, batch);
  } else if (item->kind == Task::Kind::kCandidate) {
    ScoreCandidate(agent, *item, result, batch);
  } else {
    audits_.ForkScored(item->leap, MeanLoss(result.gate_losses));
    SettleAudits(batch);
    StartAudits(batch);
  }
  Dispatch(batch);
}

void LeapMachine::Refuse(const Agent& agent, WorkItem item, absl::string_view cause,
                         const std::string& why, Batch& batch) {
  batch.Count(Metric::kTasks, {TaskKindName(item.kind), "refused"});
  Quarantine(agent.name, cause, why, batch);
  if (!board_.Retry(item, batch.options().max_task_attempts)) GiveUp(item, batch);
  Dispatch(batch);
}

void LeapMachine::Quarantine(absl::string_view agent, absl::string_view cause,
                             const std::string& why, Batch& batch) {
  core_.Event(batch, "verifier-quarantined", absl::StrCat(agent, ": ", why), Severity::kWarning);
  batch.Count(Metric::kQuarantines, {std::string(cause)});
  Agent* const found = batch.agents().Find(agent);
  if (found == nullptr) return;
  found->quarantine = why;
  batch.Write(AgentRecord{found->name, found->incarnation, why, batch.now()});
  if (board_.Find(agent) != nullptr && !batch.Planted(Mutation::kUseQuarantined)) {
    RemoveVerifier(agent);
    batch.Release(*found, core_.id(), absl::StrCat("in quarantine: ", why));
  }
}

void LeapMachine::ScoreBaseline(const Agent& agent, const TaskResult& result, Batch& batch) {
  if (Taken(result.base_step) == nullptr) return;  // so long ago that nobody knows what it scored
  HeldSnapshot* const held = book_.Find(result.base_step);
  const double loss = MeanLoss(result.gate_losses);
  const RegimeReading reading = regimes_.Observe(result.base_step, result.similarity);
  Progress& progress = core_.record.progress;
  if (result.base_step >= reading.step) {
    progress.regime = RegimeName(reading.regime);
    progress.regime_confirmed = reading.confirmed;
    progress.similarity = result.similarity;
    progress.gate_loss = loss;
    progress.report_loss = result.report_loss;
  }
  for (SnapshotRecord& record : history_) {
    if (record.step != result.base_step || record.epoch != core_.group.epoch()) continue;
    record.scored = true;
    record.gate_loss = loss;
    record.report_loss = result.report_loss;
    record.similarity = result.similarity;
    record.regime = RegimeName(reading.regime);
    record.regime_confirmed = reading.confirmed;
    if (held != nullptr) held->record = record;
    batch.Write(record);
    audits_.MainScored(record.data_position, loss);
  }
  const LossPoint point{result.base_step, loss};
  const auto place = std::ranges::lower_bound(curve_, point.step, {}, &LossPoint::step);
  curve_.insert(place, point);
  batch.WriteJob(core_.id());
  batch.Log(
      {.severity = Severity::kDebug,
       .event = "baseline",
       .job = core_.id(),
       .epoch = core_.group.epoch(),
       .step = result.base_step,
       .sentence = absl::StrFormat("gate loss %.6f by %s: %s", loss, agent.name, reading.reason)});
  if (round_.has_value() && round_->base_step == result.base_step) {
    round_->baseline = result.gate_losses;
    MaybeJudge(batch);
  }
  SettleAudits(batch);
  StartAudits(batch);
}

void LeapMachine::ScoreCandidate(const Agent& agent, const WorkItem& item, const TaskResult& result,
                                 Batch& batch) {
  if (!round_.has_value() || round_->base_step != item.base_step) return;
  round_->results.push_back({.key = item.candidate,
                             .verifier = agent.name,
                             .losses = result.gate_losses,
                             .scales = result.scales,
                             .digest = result.digest,
                             .seconds = result.seconds});
  --round_->outstanding;
  MaybeJudge(batch);
}

// ---- verdict ----

void LeapMachine::MaybeJudge(Batch& batch) {
  if (!round_.has_value() || round_->judged) return;
  if (round_->baseline.empty() || round_->outstanding > 0) return;
  JudgeRound(false, batch);
}

int64_t LeapMachine::VerdictAge() const {
  return std::max<int64_t>(core_.group.step() - round_->base_step, 0);
}

// Every candidate gets its own verdict; of those that passed, the best by loss is committed unless
// something stands against it.
void LeapMachine::JudgeRound(bool superseded, Batch& batch) {
  round_->judged = true;
  if (round_->results.empty()) return;
  expected_age_ = expected_age_ == 0 ? static_cast<double>(VerdictAge())
                                     : kAgeMemory * expected_age_ + (1 - kAgeMemory) * VerdictAge();
  core_.record.leaps.verdict_age_steps = VerdictAge();
  batch.Count(Metric::kVerdictAgeSteps, {}, static_cast<double>(VerdictAge()));
  std::vector<double> history;
  for (const LossPoint& point : curve_) {
    if (point.step < round_->base_step) history.push_back(point.loss);
  }
  Scored* best = nullptr;
  for (Scored& scored : round_->results) {
    JudgeCandidate(scored, history);
    const bool eligible =
        scored.verdict.accepted && scored.verdict.reason == VerdictReason::kAccepted;
    if (eligible && (best == nullptr || scored.verdict.loss < best->verdict.loss)) best = &scored;
  }
  for (Scored& scored : round_->results) {
    if (&scored == best || scored.verdict.reason != VerdictReason::kAccepted) continue;
    scored.verdict.reason = VerdictReason::kSuperseded;
    absl::StrAppend(&scored.verdict.sentence, "; another candidate of the snapshot was better");
  }
  if (best != nullptr) {
    const auto [reason, why] = Objection(superseded, batch);
    if (reason != VerdictReason::kAccepted) {
      best->verdict.reason = reason;
      absl::StrAppend(&best->verdict.sentence, "; ", why);
    }
  }
  for (const Scored& scored : round_->results) WriteCandidate(scored, batch);
  if (best != nullptr && best->verdict.reason == VerdictReason::kAccepted) BeginLeap(*best, batch);
  batch.WriteJob(core_.id());
}

// The criterion, then what the policy says whatever the losses are.
void LeapMachine::JudgeCandidate(Scored& scored, const std::vector<double>& history) {
  const LeapSpec& leap = core_.spec().leap;
  scored.verdict = Judge(leap.criterion, {.candidate_losses = scored.losses,
                                          .baseline_losses = round_->baseline,
                                          .baseline_history = history,
                                          .candidates_tried = round_->planned});
  planner_.Record(round_->regime, scored.key, scored.verdict);
  Verdict& verdict = scored.verdict;
  if (!verdict.accepted) return;
  const std::string& regime = core_.record.progress.regime;
  const auto deny = [&](VerdictReason reason, std::string why) {
    verdict.accepted = false;
    verdict.reason = reason;
    absl::StrAppend(&verdict.sentence, "; ", why);
  };
  if (core_.record.leaps.policy_off) {
    deny(VerdictReason::kPolicyOff,
         absl::StrCat("the policy is off: ", core_.record.policy_off_reason));
  } else if (std::ranges::find(leap.regimes, regime) == leap.regimes.end()) {
    deny(VerdictReason::kRegime, absl::StrCat("the policy does not leap in regime ", regime));
  } else if (leap.commit_rule == CommitRule::kReplace && scored.key.horizon_steps <= VerdictAge()) {
    deny(VerdictReason::kHorizonTooShort,
         absl::StrCat("K = ", scored.key.horizon_steps, " does not reach beyond the ", VerdictAge(),
                      " steps trained since"));
  }
}

// Why the best candidate is not committed although it passed.
std::pair<VerdictReason, std::string> LeapMachine::Objection(bool superseded,
                                                             const Batch& batch) const {
  if (superseded) return {VerdictReason::kSuperseded, "the next snapshot came first"};
  if (round_.has_value() && round_->base_step >= core_.spec().train.steps) {
    return {VerdictReason::kSuperseded, "training ended at this snapshot"};
  }
  if (!core_.spec().leap.commit) return {VerdictReason::kDryRun, "leap.commit is false"};
  if (!core_.group.Formed()) return {VerdictReason::kSuperseded, "no epoch stands"};
  if (flight_.has_value() && !batch.Planted(Mutation::kTwoLeapsInFlight)) {
    return {VerdictReason::kSuperseded,
            absl::StrCat("leap ", flight_->leap().leap, " is still in flight")};
  }
  if (!core_.ledger_ok) {
    return {VerdictReason::kSuperseded, "the ledger cannot be written, so nothing is decided"};
  }
  return {VerdictReason::kAccepted, ""};
}

void LeapMachine::WriteCandidate(const Scored& scored, Batch& batch) {
  const Verdict& verdict = scored.verdict;
  LeapSummary& summary = core_.record.leaps;
  ++summary.candidates;
  ++(verdict.accepted ? summary.accepted : summary.rejected);
  const std::string predictor = PredictorName(scored.key.predictor);
  batch.Count(Metric::kCandidates,
              {RegimeName(round_->regime), core_.spec().leap.predictors[scored.key.predictor].name,
               absl::StrCat(scored.key.horizon_steps), VerdictReasonName(verdict.reason)});
  batch.Write(CandidateRecord{.job = core_.id(),
                              .epoch = core_.group.epoch(),
                              .base_step = round_->base_step,
                              .predictor_index = scored.key.predictor,
                              .predictor = predictor,
                              .horizon_steps = scored.key.horizon_steps,
                              .regime = RegimeName(round_->regime),
                              .loss = verdict.loss,
                              .baseline_loss = verdict.baseline_loss,
                              .difference = verdict.difference,
                              .standard_error = verdict.standard_error,
                              .accepted = verdict.accepted,
                              .reason = VerdictReasonName(verdict.reason),
                              .sentence = verdict.sentence,
                              .digest = scored.digest,
                              .verdict_age_steps = VerdictAge(),
                              .verification_seconds = scored.seconds,
                              .verifier = scored.verifier,
                              .create_time = batch.now()});
}

}  // namespace leap::machine
