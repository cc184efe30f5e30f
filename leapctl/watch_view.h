// What `leapctl watch` shows: a block of lines that is drawn over and over on a terminal, and plain
// lines elsewhere. Pure: a job and the size of the terminal in, text out.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "leap/v1/job.pb.h"

namespace leap {

// The live view, at most `width` columns wide; `notice` (if any) is its last line. Lines have no
// \n.
std::vector<std::string> WatchBlock(const v1::Job& job, absl::Time now, int width,
                                    const std::string& notice = "");

// The same on one line, for logs: "step 400/600 loss 2.4135 regime stable ...".
std::string WatchLine(const v1::Job& job);

// "09:41:07 leap-applied: leap 3 was applied ...".
std::string EventLine(const v1::Event& event);

// Whether `now` shows something that a plain line should tell and `before` did not: a new state, or
// five per cent of the steps (at least one).
bool WorthALine(const v1::Job& before, const v1::Job& now);

}  // namespace leap
