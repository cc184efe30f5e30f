// What a run of leaps came to, for people: `leapctl summary JOB [--baseline JOB]`. A pure function
// of what the ledger answers; it says what was gained, and where that is nothing or less than
// nothing, it says so in those words.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "leap/v1/job.pb.h"

namespace leap {

struct RunRecord {
  v1::Job job;
  std::vector<v1::Snapshot> snapshots;  // oldest first, as the ledger pages them
  std::vector<v1::Candidate> candidates;
  std::vector<v1::Leap> leaps;
};

struct SummaryInputs {
  RunRecord run;
  std::optional<RunRecord>
      baseline;  // the same training without leaps; its candidates and leaps are not read
};

// Sections, in order: what ran; regimes through time; acceptance by regime x predictor x K; the
// leaps; report-set loss with and without leaps, with the verdict in words; device-hours by role;
// where things are. Lines end with \n and are at most 120 columns wide.
std::string RenderSummary(const SummaryInputs& inputs);

// How the report-set loss of the run compares to the baseline's. Below zero: better.
enum class SavingVerdict { kUnknown, kPositive, kNil, kNegative };
struct Saving {
  SavingVerdict verdict = SavingVerdict::kUnknown;
  double difference = 0;  // nats a token, run minus baseline
  std::optional<double>
      worth_steps;  // real steps that the difference is worth, off the baseline's loss curve
};
// Differences below a thousandth of the baseline's loss count as nil. Unknown unless both runs
// ended well.
Saving SavingOf(const SummaryInputs& inputs);

}  // namespace leap
