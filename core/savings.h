// Steps saved, counted three ways (protocol.md, "What a commit means"):
// * booked: K of every applied leap, as the paper counts.
// * net: K - δ for `replace` (the δ steps trained since the base are discarded); 0 for `rebase`
//   unless the step counter advances, then K.
// * equivalent: how many real steps the loss gain at the leap takes, read off the run's own loss
//   curve: gain / slope, where slope is the least-squares fall of the baseline gate loss per step
//   over the last snapshots that no leap touched. May be negative. Not known (nullopt) while the
//   curve does not fall by more than twice the slope's standard error: near a plateau the quotient
//   would be any number of steps.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace leap {

struct LossPoint {
  int64_t step = 0;
  double loss = 0;
};

// Steps that a gain of `gain` nats is worth on `curve` (gate losses of the job's snapshots, in
// order; leave out those that a leap touched), by the slope of the last `window` points up to
// `step`. Nothing with fewer than three such points, or where the loss does not clearly fall.
std::optional<double> EquivalentSteps(const std::vector<LossPoint>& curve, int64_t step,
                                      double gain, int window = 6);

}  // namespace leap
