#include "coordinator/machine/job_core.h"

#include <utility>

namespace leap::machine {

void JobCore::Event(Batch& batch, absl::string_view kind, std::string sentence, Severity severity) {
  const int64_t step = record.progress.step;
  batch.Write(EventRecord{.job = record.job,
                          .sequence = next_event++,
                          .create_time = batch.now(),
                          .kind = std::string(kind),
                          .sentence = sentence,
                          .epoch = group.epoch(),
                          .step = step});
  batch.Log({.severity = severity,
             .event = std::string(kind),
             .job = record.job,
             .epoch = group.epoch(),
             .step = step,
             .sentence = std::move(sentence)});
  batch.Changed(record.job);
}

}  // namespace leap::machine
