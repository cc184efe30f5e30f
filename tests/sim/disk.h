// The ledger on a simulated disk: transactions are all or nothing, may fail, and survive a crash of
// the coordinator.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "coordinator/machine/record.h"

namespace leap::sim {

class Disk {
 public:
  bool failing = false;

  void Write(const std::vector<machine::Record>& records) {
    for (const machine::Record& record : records) {
      std::visit([this](const auto& row) { Put(row); }, record);
    }
  }

  // As a store would load it (record.h, `Ledger`).
  machine::Ledger Load() const {
    machine::Ledger ledger;
    for (const auto& [key, row] : jobs) ledger.jobs.push_back(row);
    for (const auto& [key, row] : epochs) ledger.epochs.push_back(row);
    for (const auto& [key, row] : snapshots) ledger.snapshots.push_back(row);
    ledger.candidates = candidates;
    for (const auto& [key, row] : leaps) ledger.leaps.push_back(row);
    for (const auto& [key, row] : events) ledger.events.push_back(row);
    for (const auto& [key, row] : budgets) ledger.budgets.push_back(row);
    for (const auto& [key, row] : agents) ledger.agents.push_back(row);
    return ledger;
  }

  std::map<std::string, machine::JobRecord> jobs;
  std::map<std::pair<std::string, uint64_t>, machine::EpochRecord> epochs;
  std::map<std::tuple<std::string, uint64_t, int64_t>, machine::SnapshotRecord> snapshots;
  std::vector<machine::CandidateRecord> candidates;  // in the order of writing
  std::map<std::pair<std::string, uint64_t>, machine::LeapRecord> leaps;
  std::map<std::pair<std::string, int64_t>, machine::EventRecord> events;
  std::map<std::tuple<std::string, std::string, std::string>, machine::BudgetRecord> budgets;
  std::map<std::string, machine::AgentRecord> agents;

 private:
  void Put(const machine::JobRecord& row) { jobs[row.job] = row; }
  void Put(const machine::EpochRecord& row) { epochs[{row.job, row.epoch}] = row; }
  void Put(const machine::SnapshotRecord& row) { snapshots[{row.job, row.epoch, row.step}] = row; }
  void Put(const machine::CandidateRecord& row) { candidates.push_back(row); }
  void Put(const machine::LeapRecord& row) { leaps[{row.job, row.leap}] = row; }
  void Put(const machine::EventRecord& row) { events[{row.job, row.sequence}] = row; }
  void Put(const machine::BudgetRecord& row) { budgets[{row.job, row.role, row.cause}] = row; }
  void Put(const machine::AgentRecord& row) { agents[row.agent] = row; }
};

}  // namespace leap::sim
