// Group over c10d's ProcessGroupGloo. Engine-internal; engine/group.h is the interface.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/group.h"

namespace leap {

absl::StatusOr<std::unique_ptr<Group>> JoinGloo(const GroupOptions& options,
                                                std::shared_ptr<Interrupt> interrupt);

}  // namespace leap
