#include "coordinator/machine/audit_book.h"

#include <algorithm>

namespace leap::machine {

bool AuditBook::Begin(const OpenAudit& audit) {
  if (open_.size() >= kMaxOpen) return false;
  open_.push_back(audit);
  return true;
}

std::vector<OpenAudit> AuditBook::TakeStartable(int ahead) {
  auto training = std::ranges::count_if(
      open_, [](const OpenAudit& audit) { return audit.started && !audit.fork_loss.has_value(); });
  std::vector<OpenAudit> startable;
  for (OpenAudit& audit : open_) {
    if (audit.started || (training >= ahead && !audit.main_loss.has_value())) continue;
    audit.started = true;
    ++training;
    startable.push_back(audit);
  }
  return startable;
}

bool AuditBook::Awaits(int64_t data_position) const {
  return std::ranges::any_of(open_, [&](const OpenAudit& audit) {
    return audit.target_position == data_position && !audit.main_loss.has_value();
  });
}

void AuditBook::ForkScored(uint64_t leap, double loss) {
  for (OpenAudit& audit : open_) {
    if (audit.leap == leap) audit.fork_loss = loss;
  }
}

void AuditBook::MainScored(int64_t data_position, double loss) {
  for (OpenAudit& audit : open_) {
    if (audit.target_position == data_position) audit.main_loss = loss;
  }
}

void AuditBook::GiveUp(uint64_t leap) {
  std::erase_if(open_, [&](const OpenAudit& audit) { return audit.leap == leap; });
}

std::vector<SettledAudit> AuditBook::TakeSettled() {
  std::vector<SettledAudit> settled;
  std::erase_if(open_, [&](const OpenAudit& audit) {
    if (!audit.fork_loss.has_value() || !audit.main_loss.has_value()) return false;
    settled.push_back({audit.leap, *audit.fork_loss - *audit.main_loss, audit.base_loss});
    return true;
  });
  for (const SettledAudit& audit : settled) gains_.push_back(audit.gain);
  return settled;
}

std::vector<uint64_t> AuditBook::TakeMissed(int64_t data_position, int64_t slack) {
  std::vector<uint64_t> missed;
  std::erase_if(open_, [&](const OpenAudit& audit) {
    if (audit.main_loss.has_value() || data_position < audit.target_position + slack) return false;
    missed.push_back(audit.leap);
    return true;
  });
  return missed;
}

bool AuditBook::Open(int64_t data_position) const {
  return std::ranges::any_of(open_, [&](const OpenAudit& audit) {
    return audit.main_loss.has_value() || audit.target_position <= data_position;
  });
}

}  // namespace leap::machine
