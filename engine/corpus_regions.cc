#include "engine/internal/corpus_regions.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"

namespace leap {
namespace {

constexpr int64_t kHeldOutDivisor = 20;

// The last begin of a piece at or before `position`.
int64_t PieceBegin(std::span<const uint16_t> tokens, int64_t position) {
  while (position > 0 && tokens[static_cast<size_t>(position - 1)] != kEndOfText) --position;
  return position;
}

DataRegions Regions(int64_t gate, int64_t report, int64_t end) {
  return {.train_begin = 0,
          .train_end = gate,
          .gate_begin = gate,
          .gate_end = report,
          .report_begin = report,
          .report_end = end};
}

}  // namespace

absl::StatusOr<DataRegions> CutRegions(std::span<const uint16_t> tokens, const DataSpec& spec) {
  const auto total = static_cast<int64_t>(tokens.size());
  const int64_t window = spec.sequence_length_tokens + 1;
  const int64_t needed = (spec.gate_sequences + spec.report_sequences + 1) * window;
  if (total < needed) {
    return MakeError(
        absl::StatusCode::kInvalidArgument, ErrorReason::kCorpusInvalid,
        absl::StrCat("spec.data: the text has ", total, " tokens; at least ", needed,
                     " are needed for ", spec.gate_sequences, " gate, ", spec.report_sequences,
                     " report and one training window of ", window,
                     " tokens; add text or lower gate_sequences, report_sequences or "
                     "sequence_length_tokens"),
        {{"tokens", absl::StrCat(total)}, {"needed", absl::StrCat(needed)}});
  }
  const int64_t report_size = std::max(spec.report_sequences * window, total / kHeldOutDivisor);
  const int64_t gate_size = std::max(spec.gate_sequences * window, total / kHeldOutDivisor);
  const int64_t report = PieceBegin(tokens, total - report_size);
  const int64_t gate = report > gate_size ? PieceBegin(tokens, report - gate_size) : 0;
  if (gate >= total / 2) return Regions(gate, report, total);
  // Few pieces: exact lengths, and no more than the windows need if a twentieth would leave nothing
  // to train on.
  const int64_t exact = total - report_size - gate_size;
  if (exact >= window) return Regions(exact, exact + gate_size, total);
  const int64_t least_report = total - spec.report_sequences * window;
  return Regions(least_report - spec.gate_sequences * window, least_report, total);
}

std::vector<int64_t> SpreadWindows(int64_t begin, int64_t end, int64_t window, int64_t count) {
  std::vector<int64_t> begins;
  const int64_t room = end - begin - window;
  for (int64_t i = 0; i < count; ++i)
    begins.push_back(begin + (count > 1 ? i * room / (count - 1) : 0));
  return begins;
}

}  // namespace leap
