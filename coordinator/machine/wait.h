// One thing that a job waits for: what, since when, and what would resolve it. Every state in which
// a job, or its leaps, do not get on has one (JobMachine::Waits).
#pragma once

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace leap::machine {

struct Wait {
  std::string what;        // a word for programs; the list is in proto/leap/v1/job.proto, Wait
  std::string reason;      // "1 of 2 main workers is here"
  std::string resolution;  // what would end the wait, with what to do
  absl::Time since = absl::InfinitePast();    // InfinitePast: the caller knows
  absl::Time until = absl::InfiniteFuture();  // then it is given up, or tried again, by itself

  std::string Sentence() const { return absl::StrCat(reason, "; ", resolution); }
};

}  // namespace leap::machine
