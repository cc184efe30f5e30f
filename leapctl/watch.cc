#include "leapctl/watch.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/status_macros.h"
#include "leapctl/exit_code.h"
#include "leapctl/text.h"
#include "leapctl/watch_view.h"

namespace leap {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(200);
constexpr absl::Duration kRedraw = absl::Seconds(1);

// Shows what comes in, in one of three ways: a redrawn block, plain lines, JSON lines.
class Viewer {
 public:
  Viewer(const WatchOptions& options, Terminal& terminal)
      : options_(options), terminal_(terminal) {}
  ~Viewer() { terminal_.out.flush(); }

  void Show(const v1::WatchJobResponse& response) {
    ++shown_;
    if (options_.output != OutputFormat::kTable) {
      const bool yaml = options_.output == OutputFormat::kYaml;  // a stream of documents
      terminal_.out << (yaml ? "---\n" : "")
                    << RenderMessage(response, yaml ? OutputFormat::kYaml : OutputFormat::kJsonl)
                    << std::flush;
      job_ = response.job();
      return;
    }
    Erase();
    for (const v1::Event& event : response.events()) {
      terminal_.out << EventLine(event) << "\n";
    }
    const v1::Job before = std::exchange(job_, response.job());
    if (terminal_.live) {
      Draw();
    } else if (WorthALine(before, job_)) {
      terminal_.out << WatchLine(job_) << "\n";
    }
    terminal_.out.flush();
  }

  // A sentence about the watch itself; empty takes it back.
  void Notice(const std::string& notice) {
    if (notice == notice_) return;
    notice_ = notice;
    if (terminal_.live && options_.output == OutputFormat::kTable) {
      Erase();
      Draw();
    } else if (!notice.empty()) {
      terminal_.err << notice << std::endl;
    }
  }

  // Ages go on while nothing comes in.
  void Tick(absl::Time now) {
    const bool due = terminal_.live && drawn_lines_ > 0 && now - drawn_at_ > kRedraw;
    if (!due) return;
    Erase();
    Draw();
    terminal_.out.flush();
  }

  const v1::Job& job() const { return job_; }
  int shown() const { return shown_; }

 private:
  void Erase() {
    if (drawn_lines_ == 0) return;
    terminal_.out << "\x1b[" << drawn_lines_ << "A\r\x1b[J";
    drawn_lines_ = 0;
  }
  void Draw() {
    drawn_at_ = RealClock().Now();
    const std::vector<std::string> lines =
        WatchBlock(job_, drawn_at_, terminal_.width - 1, notice_);
    for (const std::string& line : lines) terminal_.out << line << "\n";
    drawn_lines_ = lines.size();
  }

  const WatchOptions& options_;
  Terminal& terminal_;
  v1::Job job_;
  std::string notice_;
  int shown_ = 0;
  size_t drawn_lines_ = 0;
  absl::Time drawn_at_;
};

bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsInternal(status) || absl::IsUnknown(status);
}

// Reads one stream to its end. OutOfRange: it ended well.
absl::Status ReadStream(WatchStream& stream, const WatchOptions& options, StopSignal& stop,
                        Viewer& viewer, Backoff& backoff) {
  for (;;) {
    if (stop.requested()) return absl::CancelledError("interrupted");
    LEAP_RETURN_IF_ERROR(options.check());
    LEAP_ASSIGN_OR_RETURN(const std::optional<v1::WatchJobResponse> response, stream.Next(kTick));
    if (response) {
      backoff.Reset();
      viewer.Notice("");
      viewer.Show(*response);
    }
    viewer.Tick(RealClock().Now());
  }
}

// Waits `delay`, looking at `check` meanwhile.
absl::Status Pause(absl::Duration delay, const WatchOptions& options, StopSignal& stop) {
  for (; delay > absl::ZeroDuration(); delay -= kTick) {
    LEAP_RETURN_IF_ERROR(options.check());
    if (stop.WaitFor(std::min(delay, kTick)).has_value())
      return absl::CancelledError("interrupted");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::Job> WatchJob(Client& client, const std::string& job,
                                 const WatchOptions& options, Terminal& terminal,
                                 StopSignal& stop) {
  Viewer viewer(options, terminal);
  Backoff backoff({.initial = absl::Milliseconds(200), .max = absl::Seconds(5)}, NewIncarnation());
  std::optional<absl::Time> gone;
  for (;;) {
    const int shown = viewer.shown();
    const std::unique_ptr<WatchStream> stream = client.Watch(job);
    const absl::Status status = ReadStream(*stream, options, stop, viewer, backoff);
    const bool answered = !viewer.job().job().empty();
    if (absl::IsOutOfRange(status) && answered && HasEnded(viewer.job().state()))
      return viewer.job();
    const bool again = answered && (MayPass(status) || absl::IsOutOfRange(status));
    if (!again)
      return absl::IsOutOfRange(status) ? absl::UnavailableError("the watch ended without a job")
                                        : status;
    if (!gone || viewer.shown() > shown) gone = RealClock().Now();
    viewer.Notice(absl::StrCat("coordinator unreachable since ",
                               absl::FormatTime("%H:%M:%S", *gone, absl::UTCTimeZone()),
                               " UTC; workers train on without it; trying again"));
    LEAP_RETURN_IF_ERROR(Pause(backoff.Next(), options, stop));
  }
}

}  // namespace leap
