// What the parts of one job's machine share: its row, its group, its event log. Owned by
// JobMachine; the leap machine holds a reference and writes only record.leaps and the parts of
// record.progress that say so.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/machine/batch.h"
#include "coordinator/machine/group.h"
#include "coordinator/machine/record.h"

namespace leap::machine {

struct JobCore {
  JobRecord record;
  Group group;
  int64_t next_event = 1;
  bool loss_is_finite = true;   // the training loss last heard of
  bool ledger_ok = true;        // the ledger could be written when last tried
  std::string ledger_error;     // else why not
  bool training_ended = false;  // on every rank: the weights are the result, nothing changes them
  uint64_t task_ids_durable =
      0;  // task ids below this may be used: record.task_ids_reserved as it is on disk

  const JobSpec& spec() const { return record.spec; }
  const std::string& id() const { return record.job; }
  absl::Duration lease() const { return absl::Seconds(record.spec.timeouts.lease_seconds); }

  // One line of the job's story: into the ledger, the log and the job's watchers.
  void Event(Batch& batch, absl::string_view kind, std::string sentence,
             Severity severity = Severity::kInfo);
};

}  // namespace leap::machine
