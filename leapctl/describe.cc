#include "leapctl/describe.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/job_spec.h"
#include "leapctl/exit_code.h"
#include "leapctl/render.h"
#include "leapctl/text.h"

namespace leap {
namespace {

// "  label      text\n"
void Row(std::string& out, absl::string_view label, absl::string_view text) {
  absl::StrAppendFormat(&out, "  %-13s %s\n", label, Clean(text));
}

std::string StateSection(const v1::Job& job, absl::Time now) {
  std::string out = absl::StrCat(Clean(job.job()), ": ", StateWord(job.state()));
  if (job.state_time().seconds() != 0) {
    absl::StrAppend(&out, " since ", ClockText(job.state_time()), " (",
                    AgeText(job.state_time(), now), ")");
  }
  out += '\n';
  if (!job.state_reason().empty()) Row(out, "why", job.state_reason());
  Row(out, "name", job.name());
  if (!job.submitter().empty()) Row(out, "submitted by", job.submitter());
  Row(out, "created", ClockText(job.create_time()));
  if (job.has_start_time()) Row(out, "first step", ClockText(job.start_time()));
  if (job.has_end_time()) Row(out, "ended", ClockText(job.end_time()));
  return out;
}

std::string WaitSection(const v1::Job& job, absl::Time now) {
  if (HasEnded(job.state())) return "";
  std::string out = "\nWaits for\n";
  if (job.waits().empty()) return out + "  nothing\n";
  for (const v1::Wait& wait : job.waits()) {
    Row(out, wait.what(), wait.reason());
    std::string times =
        absl::StrCat("since ", ClockText(wait.since()), " (", AgeText(wait.since(), now), ")");
    if (wait.has_until()) absl::StrAppend(&times, ", until ", ClockText(wait.until()));
    Row(out, "", times);
    Row(out, "", absl::StrCat("helps: ", wait.resolution()));
  }
  return out;
}

std::string ProgressSection(const v1::Job& job) {
  const v1::Progress& progress = job.progress();
  std::string out = "\nTraining\n";
  const int64_t left = progress.steps() - progress.step();
  std::string step = absl::StrFormat("%d of %d", progress.step(), progress.steps());
  if (left > 0 && progress.step_seconds() > 0 && !HasEnded(job.state())) {
    absl::StrAppend(&step, ", about ",
                    SecondsText(static_cast<double>(left) * progress.step_seconds()), " left");
  }
  Row(out, "step", step);
  if (progress.trained_steps() != progress.step()) {
    Row(out, "trained", absl::StrCat(progress.trained_steps(), " optimizer updates really done"));
  }
  Row(out, "loss",
      absl::StrCat(LossText(progress.train_loss()), " training, ", LossText(progress.gate_loss()),
                   " gate set, ", LossText(progress.report_loss()), " report set (nats a token)"));
  if (progress.tokens_per_second() > 0) {
    Row(out, "speed",
        absl::StrFormat("%s tokens/s, %.3f s a step, learning rate %.3g",
                        CountText(progress.tokens_per_second()), progress.step_seconds(),
                        progress.lr()));
  }
  if (!progress.regime().empty()) {
    Row(out, "regime",
        absl::StrCat(progress.regime(), progress.regime_confirmed() ? " (confirmed)" : "",
                     ", similarity ", SimilarityText(progress.similarity())));
  }
  if (job.has_result()) {
    const v1::Result& result = job.result();
    Row(out, "result",
        absl::StrFormat("step %d: report-set loss %s, gate %s, weights %016x, %s of training",
                        result.step(), LossText(result.report_loss()), LossText(result.gate_loss()),
                        result.weights_digest(), SecondsText(result.training_seconds())));
  }
  return out;
}

std::string LeapSection(const v1::Job& job) {
  const v1::LeapSummary& leaps = job.leaps();
  std::string out = "\nLeaps\n";
  Row(out, "candidates",
      absl::StrFormat("%d tried, %d accepted, %d rejected", leaps.candidates(), leaps.accepted(),
                      leaps.rejected()));
  Row(out, "leaps",
      absl::StrFormat("%d committed, %d aborted, %d rolled back", leaps.committed(),
                      leaps.aborted(), leaps.rolled_back()));
  Row(out, "saved", SavingsSentence(leaps));
  if (!leaps.audit().empty()) Row(out, "audit", leaps.audit());
  if (leaps.policy_off())
    Row(out, "policy off", "switched off by the audit: what leaps retain is below zero");
  std::string verifiers = absl::StrFormat("%d, %d busy", leaps.verifiers(), leaps.verifiers_busy());
  if (leaps.candidates() > 0) {
    absl::StrAppendFormat(&verifiers, "; the newest verdict came %d steps after its snapshot",
                          leaps.verdict_age_steps());
  }
  Row(out, "verifiers", verifiers);
  Row(out, "device time",
      absl::StrCat(SecondsText(leaps.worker_device_seconds()), " of main workers, ",
                   SecondsText(leaps.verifier_device_seconds()), " of verifiers"));
  return out;
}

std::string DataSection(const v1::Job& job) {
  if (!job.has_data()) return "";
  const v1::Data& data = job.data();
  std::string out = "\nData (tokens; the regions are disjoint)\n";
  const auto region = [&](absl::string_view label, int64_t begin, int64_t end,
                          absl::string_view use) {
    Row(out, label,
        absl::StrFormat("[%d, %d)  %s %s", begin, end, CountText(static_cast<double>(end - begin)),
                        use));
  };
  region("train", data.train_begin(), data.train_end(), "are trained on");
  region("gate", data.gate_begin(), data.gate_end(), "decide about leaps");
  region("report", data.report_begin(), data.report_end(), "are only reported");
  Row(out, "in all", absl::StrCat(data.tokens(), " tokens, digest ", data.content_digest()));
  Row(out, "model", absl::StrCat(CountText(static_cast<double>(data.parameters())), " parameters"));
  return out;
}

std::string PredictorText(const PredictorSpec& predictor) {
  std::string text = predictor.name;
  if (!predictor.form.empty()) absl::StrAppend(&text, ":", predictor.form);
  for (const auto& [name, value] : predictor.params)
    absl::StrAppendFormat(&text, " %s=%g", name, value);
  if (!predictor.horizons_steps.empty()) {
    absl::StrAppend(&text, " K=", absl::StrJoin(predictor.horizons_steps, ","));
  }
  return text;
}

std::string CriterionText(const CriterionSpec& criterion) {
  if (criterion.name == "guard")
    return absl::StrFormat("guard: finite, at most %g%% worse", 100 * criterion.bound);
  if (criterion.name == "proximity")
    return absl::StrFormat("proximity: within %g%%", 100 * criterion.bound);
  if (criterion.name == "paired")
    return absl::StrFormat("paired: better by %g standard errors", criterion.z);
  if (criterion.name == "adaptive") {
    return absl::StrFormat("adaptive: within a deviation of the last %d losses", criterion.window);
  }
  return "strict: any lower mean loss";
}

std::string PolicySection(const JobSpec& spec) {
  const LeapSpec& leap = spec.leap;
  std::string out = absl::StrCat("\nPolicy ", leap.policy, leap.enabled ? "" : " (no leaps)", "\n");
  if (!leap.enabled) return out;
  for (const PredictorSpec& predictor : leap.predictors)
    Row(out, "predictor", PredictorText(predictor));
  Row(out, "criterion", CriterionText(leap.criterion));
  Row(out, "when",
      absl::StrFormat("every %d steps from step %d, in regimes %s", leap.interval_steps,
                      leap.warmup_steps, absl::StrJoin(leap.regimes, ", ")));
  Row(out, "commit",
      !leap.commit
          ? "nothing: candidates are verified only"
          : absl::StrCat(
                leap.commit_rule == CommitRule::kRebase ? "rebase" : "replace", ", moments ",
                leap.optimizer == OptimizerRule::kKeep    ? "kept"
                : leap.optimizer == OptimizerRule::kDecay ? "decayed"
                                                          : "reset",
                leap.advance_step ? ", step counter advances by K" : ", step counter stays"));
  if (leap.policy == "line-search") {
    Row(out, "note", "frequent long accepted leaps mean that the learning rate is too small");
  }
  if (leap.policy == "paper") {
    Row(out, "note",
        "the paper counts skipped steps as saved; \"saved\" above says what they were worth");
  }
  return out;
}

std::string MembersSection(const v1::Job& job) {
  if (job.members().empty())
    return absl::StrCat("\nMembers\n  none ", HasEnded(job.state()) ? "any more" : "yet", "\n");
  Table table({"  AGENT", "ROLE", ">RANK", "STATE", ">STEP", "ADDRESS"});
  for (const v1::Member& member : job.members()) {
    table.Add({absl::StrCat("  ", member.agent()), RoleWord(member.role()),
               member.role() == v1::ROLE_WORKER ? absl::StrCat(member.rank()) : "-", member.state(),
               absl::StrCat(member.step()), member.data_address()});
  }
  return absl::StrCat("\nMembers (epoch ", job.epoch(), ")\n", table.ToString());
}

std::string TimeoutSection(const JobSpec& spec) {
  const TimeoutsSpec& t = spec.timeouts;
  return absl::StrFormat(
      "\nTime-outs (each must be longer than the one before)\n  lease %g s < collective %g s < "
      "commit %g s < epoch "
      "formation %g s < job start %g s\n",
      t.lease_seconds, t.collective_seconds, t.commit_seconds, t.epoch_formation_seconds,
      t.job_start_seconds);
}

std::string CheckpointSection(const v1::Job& job) {
  if (job.checkpoint_path().empty()) return "\nCheckpoint\n  none yet\n";
  return absl::StrCat("\nCheckpoint\n  step ", job.checkpoint_step(), ": ",
                      Clean(job.checkpoint_path()), "\n");
}

std::string EventSection(const std::vector<v1::Event>& recent) {
  std::string out = "\nRecent events\n";
  if (recent.empty()) return out + "  none\n";
  for (const v1::Event& event : recent) {
    absl::StrAppend(&out, "  ", ClockText(event.create_time()), "  ", Clean(event.kind()), ": ",
                    Clean(event.sentence()), "\n");
  }
  return out;
}

}  // namespace

std::string SavingsSentence(const v1::LeapSummary& leaps) {
  if (leaps.candidates() == 0) return "nothing yet: no candidate was tried";
  if (leaps.committed() == 0) return "nothing: no leap was committed, training is as without leaps";
  std::string text = absl::StrCat(
      "booked ", StepsText(leaps.booked_steps()), " (as the paper counts), net ",
      StepsText(leaps.net_steps()), ", equivalent ",
      leaps.equivalent_known() ? StepsText(leaps.equivalent_steps()) : "not known yet", " steps: ");
  if (!leaps.equivalent_known())
    return text + "the loss curve has no slope yet to measure a saving by";
  if (leaps.equivalent_steps() >= 0.5) {
    return absl::StrFormat(
        "%sright after the leaps the loss was as if %.0f more steps had been trained; what of it "
        "lasts, "
        "audits and a comparison of whole runs tell",
        text, leaps.equivalent_steps());
  }
  if (leaps.equivalent_steps() > -0.5) return text + "the saving is nil";
  return absl::StrFormat(
      "%sthe saving is negative: right after the leaps the loss was as if %.0f steps had been "
      "lost; "
      "outer momentum does that and may still gain later, audits tell",
      text, -leaps.equivalent_steps());
}

// The commands with what each is for.
std::vector<std::pair<std::string, absl::string_view>> NextRows(const v1::Job& job) {
  const std::string id = Clean(job.job());
  std::vector<std::pair<std::string, absl::string_view>> rows;
  const auto add = [&](absl::string_view command, absl::string_view what) {
    rows.emplace_back(absl::StrCat("leapctl ", command), what);
  };
  if (HasEnded(job.state())) {
    add(absl::StrCat("summary ", id), "what its leaps came to");
    add(absl::StrCat("leaps ", id), "each leap, with what it saved");
    if (!job.checkpoint_path().empty())
      add(absl::StrCat("checkpoint export ", id, " --out DIR"), "its weights");
    if (job.state() == v1::Job::FAILED) add(absl::StrCat("events ", id), "how it came to that");
    return rows;
  }
  if (job.state() == v1::Job::QUEUED) add("workers", "who is there to run it");
  add(absl::StrCat("watch ", id), "live; Ctrl-C leaves the job running");
  add(absl::StrCat("describe ", id), "what it does, what it waits for");
  if (job.leaps().candidates() > 0)
    add(absl::StrCat("candidates ", id), "what was tried, and each verdict");
  if (job.state() == v1::Job::PAUSED) add(absl::StrCat("resume ", id), "let it go on");
  add(absl::StrCat("cancel ", id), "end it; its checkpoint stays");
  return rows;
}

std::string NextCommands(const v1::Job& job) {
  const std::vector<std::pair<std::string, absl::string_view>> rows = NextRows(job);
  int width = 0;
  for (const auto& [command, what] : rows) width = std::max(width, Width(command));
  std::string out;
  for (const auto& [command, what] : rows) {
    absl::StrAppendFormat(&out, "  %-*s  %s\n", width, command, what);
  }
  return out;
}

std::string DescribeJob(const v1::Job& job, const std::vector<v1::Event>& recent, absl::Time now) {
  const absl::StatusOr<JobSpec> spec = ParseJobSpec(job.spec_yaml());
  std::string out = absl::StrCat(StateSection(job, now), WaitSection(job, now),
                                 ProgressSection(job), LeapSection(job), DataSection(job));
  if (spec.ok()) absl::StrAppend(&out, PolicySection(*spec));
  absl::StrAppend(&out, MembersSection(job));
  if (spec.ok()) absl::StrAppend(&out, TimeoutSection(*spec));
  absl::StrAppend(&out, CheckpointSection(job), EventSection(recent), "\nNext\n",
                  NextCommands(job));
  return out;
}

}  // namespace leap
