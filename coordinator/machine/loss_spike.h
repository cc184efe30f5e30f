// A loss spike: a training loss far above what it was just before, for longer than an unlucky batch
// lasts. What is looked at is the loss that rank 0 reports with its heartbeats: of its newest step,
// the mean over all ranks.
//
// The limit is the median of the last `window` calm losses plus six robust standard deviations
// (1.4826 times the median absolute deviation, which for normal noise is one standard deviation;
// three are "very conservative" for calling one value an outlier: Leys et al., Detecting outliers,
// J. Exp. Soc. Psychol. 49 (2013), 764-766), and at least five percent above the median, because a
// smooth loss deviates next to nothing (ours). A spike is `in_row` reports above it, none of a step
// that was reported before. It is worth going back for: those of PaLM (Chowdhery et al. 2022,
// section 5.1) were got rid of by restarting from a checkpoint of before.
//
// Pure; one per job, owned by its machine. Not in the ledger: after a restart of the coordinator it
// begins anew.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "absl/time/time.h"

namespace leap::machine {

struct SpikeOptions {
  size_t window = 64;  // reports; at two a second the last half minute
  size_t fewest = 16;  // before there is a limit
  int in_row = 4;
  absl::Duration grace;  // the rule's grace_seconds: how long it may last, to heal by itself
};

class SpikeWatch {
 public:
  // A report; one of the step before, or of a loss that is not finite, is none. Returns why the
  // failure rule is to be carried out; empty: nothing is to be done. Losses above the limit do not
  // move it.
  std::string Observe(absl::Time now, int64_t step, double loss, const SpikeOptions& options);
  // First step above the limit, if the last report was above it.
  std::optional<int64_t> above_since() const { return above_since_; }

 private:
  double Limit(const SpikeOptions& options) const;

  std::deque<double> calm_;  // at most `window`
  int64_t last_step_ = -1;
  std::optional<int64_t> above_since_;
  absl::Time since_ = absl::InfiniteFuture();
  int in_row_ = 0;
};

}  // namespace leap::machine
