// `leapctl describe JOB`: everything about one job that a person needs, in words. Pure.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "leap/v1/job.pb.h"

namespace leap {

// Sections: state and what it waits for; progress; savings in words; data; policy; members;
// time-outs; checkpoint; recent events (oldest first); the commands that help next.
std::string DescribeJob(const v1::Job& job, const std::vector<v1::Event>& recent, absl::Time now);

// What leaps saved, honestly: booked, net and equivalent steps, and in words if that is nothing or
// less.
std::string SavingsSentence(const v1::LeapSummary& leaps);

// The commands that help next with a job in this state, one a line, indented by two.
std::string NextCommands(const v1::Job& job);

}  // namespace leap
