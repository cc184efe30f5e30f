// Retained-gain audits of one job: which leaps are being audited, and what came of it
// (core/audit.h). For an audited leap a verifier goes on from the base θ_t without it for 2Δ steps;
// its mean gate loss is compared with the main run's baseline at the snapshot 2Δ later. Above zero:
// the leap helped, together with whatever the run did in that time.
//
// Where too few verifiers are left to score that baseline while others train forks, the fork waits
// until the baseline is known: it can be trained as long as the ring holds θ_t, the baseline is of
// use only if somebody is free in time.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/audit.h"

namespace leap::machine {

constexpr int64_t kAuditIntervals = 2;  // from a leap's base to where it is compared

struct OpenAudit {
  uint64_t leap = 0;
  int64_t target_position = 0;  // data position at which the two are compared
  double base_loss = 0;         // L_t
  int64_t base_step = 0;
  bool started = false;  // a verifier is to train the fork
  std::optional<double> fork_loss;
  std::optional<double> main_loss;
};

struct SettledAudit {
  uint64_t leap = 0;
  double gain = 0;  // nats
  double base_loss = 0;
};

class AuditBook {
 public:
  static constexpr size_t kMaxOpen = 4;

  // False: too many are open.
  bool Begin(const OpenAudit& audit);
  // The forks to be trained now: those whose baseline is known, and others while fewer than
  // `ahead` are being trained.
  std::vector<OpenAudit> TakeStartable(int ahead);
  // Some audit needs the baseline at this position.
  bool Awaits(int64_t data_position) const;
  void ForkScored(uint64_t leap, double loss);
  void MainScored(int64_t data_position, double loss);
  // Nobody will score the fork (or the main run) any more.
  void GiveUp(uint64_t leap);
  void DropAll() { open_.clear(); }

  // Audits of which both sides are known; their gains are counted.
  std::vector<SettledAudit> TakeSettled();
  // Audits whose snapshot of the main run was passed, `slack` positions ago, without a baseline.
  std::vector<uint64_t> TakeMissed(int64_t data_position, int64_t slack);

  // Some audit can still be settled although the main run takes no snapshot after `data_position`.
  bool Open(int64_t data_position) const;
  const std::vector<double>& gains() const { return gains_; }
  void Restore(double gain) { gains_.push_back(gain); }
  AuditSummary Summary(double z) const { return SummarizeAudits(gains_, z); }

 private:
  std::vector<OpenAudit> open_;
  std::vector<double> gains_;
};

}  // namespace leap::machine
