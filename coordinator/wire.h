// The wire (leap/v1/*.proto) <-> the machines' values (coordinator/machine/message.h, record.h),
// field by field.
//
// From an agent: what cannot be meant (no kind set, an enum or rank out of range, too many values,
// a bad name) is InvalidArgument with PROTOCOL_VIOLATION and the field's name; the session is
// closed with it. Pure functions.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "coordinator/machine/message.h"
#include "coordinator/machine/record.h"
#include "coordinator/machine/view.h"
#include "leap/v1/agent.pb.h"
#include "leap/v1/job.pb.h"

namespace leap {

absl::StatusOr<machine::AgentMessage> FromWire(const v1::AgentMessage& message);

v1::CoordinatorMessage ToWire(const machine::CoordinatorMessage& message);

v1::Job ToWire(const machine::JobView& job);
v1::Agent ToWire(const machine::AgentView& agent);
v1::Snapshot ToWire(const machine::SnapshotRecord& row);
v1::Candidate ToWire(const machine::CandidateRecord& row);
v1::Leap ToWire(const machine::LeapRecord& row);
v1::Event ToWire(const machine::EventRecord& row);

}  // namespace leap
