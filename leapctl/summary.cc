#include "leapctl/summary.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/job_spec.h"
#include "core/savings.h"

namespace leap {
namespace {

constexpr double kNilShare = 1e-3;  // of the baseline's loss

std::string Loss(double loss) {
  return std::isfinite(loss) && loss != 0 ? absl::StrFormat("%.4f", loss) : "-";
}

std::string Steps(double steps) { return absl::StrFormat("%+.1f", steps); }

std::string Seconds(double seconds) {
  if (seconds < 120) return absl::StrFormat("%.1f s", seconds);
  const int64_t whole = std::llround(seconds);
  return absl::StrFormat("%d min %d s", whole / 60, whole % 60);
}

// " after 80.0 s"; empty while it is not over.
std::string Duration(const v1::Job& job) {
  if (!job.has_start_time() || !job.has_end_time()) return "";
  const double seconds =
      static_cast<double>(job.end_time().seconds() - job.start_time().seconds()) +
      1e-9 * (job.end_time().nanos() - job.start_time().nanos());
  return absl::StrCat(" after ", Seconds(seconds));
}

// The parts of the spec that the header names; an unreadable one leaves them at zero.
JobSpec SpecOf(const v1::Job& job) {
  absl::StatusOr<JobSpec> spec = ParseJobSpec(job.spec_yaml());
  return spec.ok() ? *std::move(spec) : JobSpec();
}

absl::string_view RunLabel(const v1::Job& job) {
  return SpecOf(job).leap.enabled ? "with leaps" : "without leaps";
}

std::string Header(const RunRecord& run) {
  const JobSpec spec = SpecOf(run.job);
  const std::string model = spec.model.preset.empty() ? spec.model.config : spec.model.preset;
  std::string out = absl::StrFormat("%s (%s): %s%s, step %d of %d\n", run.job.name(), run.job.job(),
                                    v1::Job::State_Name(run.job.state()), Duration(run.job),
                                    run.job.progress().step(), run.job.progress().steps());
  absl::StrAppendFormat(
      &out, "  %s, %.1f M parameters, on %d tokens of text; %d main workers, policy %s\n", model,
      1e-6 * static_cast<double>(run.job.data().parameters()), run.job.data().tokens(),
      spec.workers.replicas, spec.leap.policy);
  return out;
}

std::string Regimes(const RunRecord& run) {
  std::string out = "\nRegimes through time\n";
  if (run.snapshots.empty()) return out + "  no snapshot was taken\n";
  absl::StrAppendFormat(&out, "  %6s  %10s  %-12s %10s  %11s\n", "step", "similarity", "regime",
                        "gate loss", "report loss");
  for (const v1::Snapshot& snapshot : run.snapshots) {
    const std::string similarity = std::isfinite(snapshot.similarity()) && snapshot.scored()
                                       ? absl::StrFormat("%.6f", snapshot.similarity())
                                       : "-";
    const std::string regime =
        !snapshot.scored()
            ? "not scored"
            : absl::StrCat(snapshot.regime(), snapshot.regime_confirmed() ? "*" : "");
    absl::StrAppendFormat(&out, "  %6d  %10s  %-12s %10s  %11s\n", snapshot.step(), similarity,
                          regime, Loss(snapshot.gate_loss()), Loss(snapshot.report_loss()));
  }
  return out + "  * confirmed: the same regime twice in a row\n";
}

std::string Acceptance(const RunRecord& run) {
  struct Count {
    int tried = 0;
    int accepted = 0;
    std::map<std::string, int> reasons;  // of those that were not
  };
  std::map<std::tuple<std::string, std::string, int64_t>, Count> table;
  for (const v1::Candidate& candidate : run.candidates) {
    Count& count = table[{candidate.regime(), candidate.predictor(), candidate.horizon_steps()}];
    ++count.tried;
    if (candidate.accepted()) ++count.accepted;
    if (candidate.reason() != "accepted") ++count.reasons[candidate.reason()];
  }
  std::string out = "\nAcceptance by regime, predictor and K\n";
  if (table.empty()) return out + "  no candidate was tried\n";
  absl::StrAppendFormat(&out, "  %-12s %-18s %5s %6s %9s %6s  %s\n", "regime", "predictor", "K",
                        "tried", "accepted", "share", "otherwise");
  for (const auto& [key, count] : table) {
    std::string reasons;
    for (const auto& [reason, times] : count.reasons) {
      absl::StrAppend(&reasons, reasons.empty() ? "" : ", ", times, " ", reason);
    }
    absl::StrAppendFormat(&out, "  %-12s %-18s %5d %6d %9d %5.0f%%  %s\n", std::get<0>(key),
                          std::get<1>(key), std::get<2>(key), count.tried, count.accepted,
                          100.0 * count.accepted / count.tried, reasons);
  }
  return out;
}

std::string LeapLine(const v1::Leap& leap) {
  const bool applied = leap.state() == v1::Leap::APPLIED || leap.state() == v1::Leap::ROLLED_BACK;
  const std::string at = applied ? absl::StrCat(leap.boundary_step()) : "-";
  const std::string pause = applied ? absl::StrFormat("%.1f ms", 1e3 * leap.pause_seconds()) : "-";
  const std::string equivalent =
      leap.equivalent_known() ? Steps(leap.equivalent_steps()) : "unknown";
  const std::string retained =
      leap.retained_known() ? absl::StrFormat("%+.4f", leap.retained_gain()) : "not audited";
  return absl::StrFormat(
      "  %4d %6d %6s  %-16s %4d %-11s %9s %7s %7s %10s %9s %12s\n", leap.leap(), leap.base_step(),
      at, leap.predictor(), leap.horizon_steps(), v1::Leap::State_Name(leap.state()), pause,
      applied ? Steps(leap.booked_steps()) : "-", applied ? Steps(leap.net_steps()) : "-",
      applied ? equivalent : "-", absl::StrFormat("%+.4f", leap.promised_difference()),
      applied ? retained : "-");
}

std::string Leaps(const RunRecord& run) {
  std::string out = "\nLeaps (steps saved, three ways; promised and retained in nats a token)\n";
  if (run.leaps.empty()) return out + "  no leap was attempted\n";
  absl::StrAppendFormat(&out, "  %4s %6s %6s  %-16s %4s %-11s %9s %7s %7s %10s %9s %12s\n", "leap",
                        "from", "at", "predictor", "K", "state", "pause", "booked", "net",
                        "equivalent", "promised", "retained");
  for (const v1::Leap& leap : run.leaps) out += LeapLine(leap);
  const v1::LeapSummary& sum = run.job.leaps();
  const auto left_out = std::ranges::count_if(run.leaps, [](const v1::Leap& leap) {
    return leap.state() == v1::Leap::APPLIED && !leap.equivalent_known();
  });
  absl::StrAppendFormat(&out, "  in all: %d committed, booked %s, net %s, equivalent %s steps%s\n",
                        sum.committed(), Steps(sum.booked_steps()), Steps(sum.net_steps()),
                        sum.equivalent_known() ? Steps(sum.equivalent_steps()) : "unknown",
                        sum.equivalent_known() && left_out > 0
                            ? absl::StrCat(" without the ", left_out, " of which it is unknown")
                            : "");
  out +=
      "  promised: change of gate loss at once, L^ - L_t; retained: gain over a fork without the "
      "leap\n";
  if (!sum.audit().empty()) absl::StrAppend(&out, "  audit: ", sum.audit(), "\n");
  return out;
}

// Report losses of a run's snapshots, for the slope; gate losses where no report set was scored.
std::vector<LossPoint> CurveOf(const RunRecord& run) {
  std::vector<LossPoint> report, gate;
  for (const v1::Snapshot& snapshot : run.snapshots) {
    if (!snapshot.scored()) continue;
    if (std::isfinite(snapshot.report_loss()) && snapshot.report_loss() > 0) {
      report.push_back({snapshot.step(), snapshot.report_loss()});
    }
    if (std::isfinite(snapshot.gate_loss()))
      gate.push_back({snapshot.step(), snapshot.gate_loss()});
  }
  return report.size() >= 3 ? report : gate;
}

// The verdict in words, and on a second line what it is worth.
std::string SavingSentence(const Saving& saving) {
  const double size = std::abs(saving.difference);
  std::string out;
  switch (saving.verdict) {
    case SavingVerdict::kUnknown:
      return "  The saving is UNKNOWN: both runs must have ended well.\n";
    case SavingVerdict::kNil:
      return absl::StrFormat(
          "  The saving is NIL: a difference of %+.4f nats a token is less than runs differ by "
          "chance.\n",
          saving.difference);
    case SavingVerdict::kPositive:
      out = absl::StrFormat(
          "  The saving is POSITIVE: %.4f nats a token better than without leaps,\n", size);
      break;
    case SavingVerdict::kNegative:
      out = absl::StrFormat(
          "  The saving is NEGATIVE: %.4f nats a token worse than without leaps,\n", size);
      break;
  }
  if (!saving.worth_steps.has_value()) {
    return out + "  worth an unknown number of steps (the loss curve has no falling slope).\n";
  }
  absl::StrAppendFormat(&out,
                        "  worth about %.0f steps by the slope at the end of the loss curve.\n",
                        std::abs(*saving.worth_steps));
  return out;
}

std::string Comparison(const SummaryInputs& inputs) {
  std::string out = "\nReport-set loss (never used to decide), nats a token\n";
  const auto line = [&out](absl::string_view what, const v1::Job& job) {
    absl::StrAppendFormat(&out, "  %-14s %8s after %d trained steps in %s\n", what,
                          Loss(job.result().report_loss()), job.progress().trained_steps(),
                          Seconds(job.result().training_seconds()));
  };
  line(RunLabel(inputs.run.job), inputs.run.job);
  if (!inputs.baseline.has_value()) {
    return out +
           "  no run without leaps to compare with, so a saving cannot be told (--baseline JOB)\n";
  }
  line("without leaps", inputs.baseline->job);
  out += SavingSentence(SavingOf(inputs));
  return out +
         "  One pair of runs with one seed: repeat with other values of train.seed before "
         "believing it.\n";
}

std::string DeviceHours(const SummaryInputs& inputs) {
  std::string out = "\nDevice-hours\n";
  const auto line = [&out](absl::string_view what, const v1::Job& job) {
    const v1::LeapSummary& sum = job.leaps();
    absl::StrAppendFormat(&out, "  %-14s main workers %.4f h (%s), verifiers %.4f h (%s)\n", what,
                          sum.worker_device_seconds() / 3600, Seconds(sum.worker_device_seconds()),
                          sum.verifier_device_seconds() / 3600,
                          Seconds(sum.verifier_device_seconds()));
  };
  line(RunLabel(inputs.run.job), inputs.run.job);
  if (inputs.baseline.has_value()) line("without leaps", inputs.baseline->job);
  return out;
}

std::string Places(const RunRecord& run) {
  std::string out = "\nWhere things are\n";
  absl::StrAppendFormat(&out, "  checkpoint  %s\n",
                        run.job.checkpoint_path().empty() ? "none" : run.job.checkpoint_path());
  absl::StrAppendFormat(&out, "  ledger      leapctl leaps|candidates|events %s\n", run.job.job());
  return out;
}

}  // namespace

Saving SavingOf(const SummaryInputs& inputs) {
  if (!inputs.baseline.has_value()) return {};
  const v1::Job& run = inputs.run.job;
  const v1::Job& plain = inputs.baseline->job;
  if (run.state() != v1::Job::SUCCEEDED || plain.state() != v1::Job::SUCCEEDED) return {};
  const double without = plain.result().report_loss();
  const double difference = run.result().report_loss() - without;
  if (!std::isfinite(difference) || !(without > 0)) return {};
  Saving saving;
  saving.difference = difference;
  if (std::abs(difference) < kNilShare * without) {
    saving.verdict = SavingVerdict::kNil;
  } else {
    saving.verdict = difference < 0 ? SavingVerdict::kPositive : SavingVerdict::kNegative;
  }
  std::vector<LossPoint> curve = CurveOf(*inputs.baseline);
  if (curve.size() < 3) curve = CurveOf(inputs.run);
  saving.worth_steps = EquivalentSteps(curve, plain.progress().step(), -difference);
  return saving;
}

std::string RenderSummary(const SummaryInputs& inputs) {
  return absl::StrCat(Header(inputs.run), Regimes(inputs.run), Acceptance(inputs.run),
                      Leaps(inputs.run), Comparison(inputs), DeviceHours(inputs),
                      Places(inputs.run));
}

}  // namespace leap
