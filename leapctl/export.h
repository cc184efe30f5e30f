// What exports need besides files and calls. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "core/job_spec.h"
#include "core/layout.h"
#include "leap/v1/job.pb.h"

namespace leap {

// Names and shapes of the weights of a job's model (core/model_config.h), from the preset, or from
// the text of its config.json. Nothing if that does not come to `parameters` floats: then the model
// is one that this leapctl does not know.
std::optional<WeightLayout> LayoutOfModel(const ModelSpec& model, absl::string_view config_json,
                                          int64_t parameters);

// One tensor "weights" of so many floats.
WeightLayout FlatLayout(int64_t parameters);

// The ledger names who held a snapshot when it was taken; the ranks keep the newest
// `spec.leap.ring_depth` while their epoch trains. Clears the sources of the others. `rows` end
// with the job's newest.
void ForgetDroppedSources(const v1::Job& job, v1::ListSnapshotsResponse* rows);

}  // namespace leap
