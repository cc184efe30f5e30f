#include "leapctl/watch_view.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "leapctl/exit_code.h"
#include "leapctl/render.h"
#include "leapctl/text.h"

namespace leap {
namespace {

double Share(const v1::Progress& progress) {
  if (progress.steps() <= 0) return 0;
  return std::clamp(static_cast<double>(progress.step()) / static_cast<double>(progress.steps()),
                    0.0, 1.0);
}

std::string Bar(double share, int width) {
  const int full = static_cast<int>(std::floor(share * width));
  std::string bar(full, '=');
  if (full < width) bar += full > 0 || share > 0 ? '>' : ' ';
  bar.resize(width, ' ');
  return absl::StrCat("[", bar, "]");
}

std::string TimeLeft(const v1::Job& job) {
  const v1::Progress& progress = job.progress();
  const int64_t left = progress.steps() - progress.step();
  const bool known = job.state() == v1::Job::RUNNING && left > 0 && progress.step_seconds() > 0;
  return known ? absl::StrCat(SecondsText(static_cast<double>(left) * progress.step_seconds()),
                              " left")
               : "";
}

std::string RegimeText(const v1::Progress& progress) {
  if (progress.regime().empty()) return "unknown";
  return absl::StrCat(progress.regime(), progress.regime_confirmed() ? " (confirmed)" : "");
}

std::string SavedText(const v1::LeapSummary& leaps) {
  return absl::StrCat("booked ", StepsText(leaps.booked_steps()), ", net ",
                      StepsText(leaps.net_steps()), ", equivalent ",
                      leaps.equivalent_known() ? StepsText(leaps.equivalent_steps()) : "unknown");
}

}  // namespace

std::vector<std::string> WatchBlock(const v1::Job& job, absl::Time now, int width,
                                    const std::string& notice) {
  const v1::Progress& progress = job.progress();
  const v1::LeapSummary& leaps = job.leaps();
  const int bar_width = std::clamp(width - 50, 10, 40);
  std::vector<std::string> lines;
  lines.push_back(
      absl::StrCat(job.job(), "  ", StateWord(job.state()), ", ", AgeText(job.state_time(), now),
                   job.state_reason().empty() ? "" : absl::StrCat(": ", job.state_reason())));
  lines.push_back(absl::StrFormat("%s %3.0f %%  step %d of %d  %s", Bar(Share(progress), bar_width),
                                  std::floor(100 * Share(progress)), progress.step(),
                                  progress.steps(), TimeLeft(job)));
  lines.push_back(absl::StrFormat("loss       %s training, %s gate, %s report   %s tokens/s",
                                  LossText(progress.train_loss()), LossText(progress.gate_loss()),
                                  LossText(progress.report_loss()),
                                  CountText(progress.tokens_per_second())));
  lines.push_back(absl::StrCat("regime     ", RegimeText(progress), ", similarity ",
                               SimilarityText(progress.similarity())));
  lines.push_back(
      absl::StrFormat("leaps      %d tried, %d accepted, %d committed   verifiers %d of %d busy",
                      leaps.candidates(), leaps.accepted(), leaps.committed(),
                      leaps.verifiers_busy(), leaps.verifiers()));
  lines.push_back(absl::StrCat("steps saved: ", SavedText(leaps)));
  if (!notice.empty()) lines.push_back(notice);
  for (std::string& line : lines) line = Cut(Clean(line), width);
  return lines;
}

std::string WatchLine(const v1::Job& job) {
  const v1::Progress& progress = job.progress();
  const v1::LeapSummary& leaps = job.leaps();
  std::string line = absl::StrCat(job.job(), " ", StateWord(job.state()));
  const bool training = progress.step() > 0 || job.state() == v1::Job::RUNNING;
  if (training) {
    absl::StrAppendFormat(
        &line,
        ": step %d/%d loss %s gate %s regime %s similarity %s leaps %d/%d/%d verifiers %d/%d",
        progress.step(), progress.steps(), LossText(progress.train_loss()),
        LossText(progress.gate_loss()), RegimeText(progress), SimilarityText(progress.similarity()),
        leaps.candidates(), leaps.accepted(), leaps.committed(), leaps.verifiers_busy(),
        leaps.verifiers());
    absl::StrAppend(&line, " tokens/s ", CountText(progress.tokens_per_second()));
    if (const std::string left = TimeLeft(job); !left.empty()) absl::StrAppend(&line, ", ", left);
  }
  const bool waits = job.state() != v1::Job::RUNNING && !job.state_reason().empty();
  if (waits) absl::StrAppend(&line, training ? "; " : ": ", job.state_reason());
  return Clean(line);
}

std::string EventLine(const v1::Event& event) {
  const std::string clock =
      event.create_time().seconds() == 0
          ? ""
          : absl::FormatTime("%H:%M:%S ", TimeOf(event.create_time()), absl::UTCTimeZone());
  return Clean(absl::StrCat(clock, event.kind(), ": ", event.sentence()));
}

bool WorthALine(const v1::Job& before, const v1::Job& now) {
  if (before.state() != now.state() || before.job() != now.job()) return true;
  if (before.state_reason() != now.state_reason()) return true;
  const int64_t part = std::max<int64_t>(1, now.progress().steps() / 20);
  return before.progress().step() / part != now.progress().step() / part;
}

}  // namespace leap
