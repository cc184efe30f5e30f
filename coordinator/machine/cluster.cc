// Jobs, queue, ledger. Agents: cluster_agents.cc.
#include "coordinator/machine/cluster.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/error_reason.h"

namespace leap::machine {
namespace {

// The planner's seed: of the coordinator's and the job's.
uint64_t SeedOf(uint64_t seed, absl::string_view job) {
  for (const char c : job) seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return seed;
}

constexpr uint64_t kFirstTaskIds = 1000;  // reserved with the job's first row

}  // namespace

Actions Cluster::Step(const Event& event, absl::Time now) {
  const absl::Duration gap = now - std::exchange(now_, now);
  Batch batch(now, options_, agents_);
  if (gap > absl::Seconds(options_.heartbeat_seconds) && !std::holds_alternative<Restored>(event) &&
      !batch.Planted(Mutation::kBlameSilenceOfItsOwn)) {
    StoodStill(gap, batch);
  }
  std::visit([&](const auto& kind) { On(kind, batch); }, event);
  return Finish(batch);
}

// Ticks come oftener than heartbeats. With neither, it was the coordinator that stood still (its
// disk, its machine, SIGSTOP): what was said meanwhile is yet to be heard, and nobody was silent.
void Cluster::StoodStill(absl::Duration gap, Batch& batch) {
  agents_.StoodStill(gap);
  for (JobMachine* const job : order_) job->StoodStill(gap);
  batch.Log({.severity = Severity::kWarning,
             .event = "coordinator-stood-still",
             .sentence = absl::StrFormat("nothing was heard or written for %.1f s, for a reason of "
                                         "the coordinator's own; leases are longer by that",
                                         absl::ToDoubleSeconds(gap))});
}

// ---- ledger ----

Actions Cluster::Finish(Batch& batch) {
  const bool due = !unwritten_.empty() || !unwritten_jobs_.empty();
  const bool again = batch.writes() || (due && batch.now() >= write_again_);
  std::vector<Record> records;
  std::set<std::string> rows = batch.rows();
  if (again) {
    WriteAgain(records);
    rows.merge(unwritten_jobs_);
    unwritten_jobs_.clear();
  }
  std::vector<Decision> decisions = batch.TakeDecisions();
  for (const std::string& row : rows) batch.Changed(row);
  Actions actions = batch.TakeActions();
  std::ranges::move(actions.records, std::back_inserter(records));
  for (const std::string& row : rows) {
    const JobMachine* const job = Machine(row);
    if (job != nullptr) records.push_back(job->Row());
  }
  actions.records = std::move(records);
  Check(!actions.records.empty() || decisions.empty(), "a decision without a record");
  if (actions.records.empty()) return actions;
  Check(!unconfirmed_.has_value(), "Persisted must be the very next event");
  actions.ticket = next_ticket_++;
  unconfirmed_ = {actions.ticket, actions.records, std::move(decisions)};
  return actions;
}

// Rows that could not be written, older ones first: facts as they were, decisions as they hold now.
void Cluster::WriteAgain(std::vector<Record>& records) {
  for (Record& record : std::exchange(unwritten_, {})) {
    const std::string* const job = std::visit(
        [](const auto& row) -> const std::string* {
          if constexpr (requires { row.job; }) return &row.job;
          return nullptr;
        },
        record);
    const JobMachine* const machine = job == nullptr ? nullptr : Machine(*job);
    std::optional<Record> fresh = machine == nullptr ? std::move(record) : machine->Refresh(record);
    if (fresh.has_value()) records.push_back(*std::move(fresh));
  }
}

void Cluster::KeepUnwritten(std::vector<Record> records) {
  for (Record& record : records) {
    if (const auto* const job = std::get_if<JobRecord>(&record)) {
      if (Machine(job->job) != nullptr) unwritten_jobs_.insert(job->job);
      continue;
    }
    unwritten_.push_back(std::move(record));
  }
  if (unwritten_.size() <= options_.max_unwritten) return;
  size_t over = unwritten_.size() - options_.max_unwritten;
  std::erase_if(unwritten_, [&](const Record& record) {
    const bool history = std::holds_alternative<EventRecord>(record) ||
                         std::holds_alternative<SnapshotRecord>(record) ||
                         std::holds_alternative<CandidateRecord>(record);
    return over > 0 && history && over-- > 0;
  });
}

void Cluster::On(const Persisted& persisted, Batch& batch) {
  Check(unconfirmed_.has_value() && unconfirmed_->ticket == persisted.ticket,
        "Persisted for a ticket that is not awaited");
  Unconfirmed batch_before = *std::exchange(unconfirmed_, std::nullopt);
  if (persisted.ok) {
    for (const Record& record : batch_before.records) {
      const auto* const row = std::get_if<JobRecord>(&record);
      JobMachine* const job = row == nullptr ? nullptr : Find(row->job);
      if (job != nullptr) job->RowIsDurable();
    }
  } else {
    batch.Count(Metric::kPersistFailures);
    write_again_ = batch.now() + options_.persist_retry;
    if (ledger_ok_) {
      batch.Log({.severity = Severity::kError,
                 .event = "ledger-failed",
                 .sentence = absl::StrCat("the ledger cannot be written: ", persisted.error,
                                          "; training goes on, nothing is decided until it can")});
    }
  }
  if (std::exchange(ledger_ok_, persisted.ok) != persisted.ok) {
    for (JobMachine* const job : order_) job->LedgerOk(persisted.ok, persisted.error, batch);
  }
  for (const Decision& decision : batch_before.decisions) {
    if (decision.kind == Decision::Kind::kCreateJob) {
      std::unique_ptr<JobMachine> created = std::move(creating_);
      if (!persisted.ok) {
        for (const uint64_t correlation : decision.correlations) {
          batch.Answer(
              correlation,
              MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kLedgerUnavailable,
                        absl::StrCat("the ledger cannot be written, so the job was not queued: ",
                                     persisted.error, "; mend its disk and submit again")),
              decision.job);
        }
        continue;
      }
      const std::string& request = created->record().request_id;
      if (!request.empty()) requests_[request] = decision.job;
      order_.push_back(created.get());
      jobs_[decision.job] = std::move(created);
      for (const uint64_t correlation : decision.correlations) {
        batch.Answer(correlation, absl::OkStatus(), decision.job);
      }
      batch.Changed(decision.job);
      continue;
    }
    JobMachine* const job = Find(decision.job);
    if (job != nullptr) job->OnDurable(decision, persisted.ok, persisted.error, batch);
  }
  if (!persisted.ok) KeepUnwritten(std::move(batch_before.records));
}

void Cluster::On(const Restored& restored, Batch& batch) {
  const Ledger& ledger = restored.ledger;
  std::vector<const JobRecord*> rows;
  for (const JobRecord& row : ledger.jobs) rows.push_back(&row);
  std::ranges::sort(rows, {}, &JobRecord::queue_number);
  for (const JobRecord* const row : rows) {
    auto job = std::make_unique<JobMachine>(*row, SeedOf(options_.seed, row->job));
    next_queue_number_ = std::max(next_queue_number_, row->queue_number + 1);
    const bool forgotten = batch.Planted(Mutation::kForgetRequests);
    if (!row->request_id.empty() && !forgotten) requests_[row->request_id] = row->job;
    order_.push_back(job.get());
    jobs_[row->job] = std::move(job);
  }
  for (JobMachine* const job : order_) job->Restore(ledger, batch);
  ExpectMembers(batch);
  for (const AgentRecord& row : ledger.agents) {
    if (batch.Planted(Mutation::kForgetQuarantine)) continue;
    Agent& agent = agents_.Entry(row.agent);
    if (agent.incarnation != 0 && agent.incarnation != row.incarnation) continue;
    agent.name = row.agent;
    agent.incarnation = row.incarnation;
    agent.quarantine = row.quarantine_reason;
    agent.heartbeat = batch.now();  // not to be forgotten before it had time to come back
  }
  batch.Log(
      {.event = "restored", .sentence = absl::StrCat(ledger.jobs.size(), " jobs from the ledger")});
}

// Until its lease is over, every member may still come back as it was: workers train on without a
// coordinator. Where two jobs name different processes of one agent, the newer epoch knows better.
void Cluster::ExpectMembers(Batch& batch) {
  std::vector<const JobMachine*> jobs;
  for (const JobMachine* const job : order_) {
    if (!job->ended()) jobs.push_back(job);
  }
  std::ranges::stable_sort(jobs, {},
                           [](const JobMachine* job) { return job->group().create_time; });
  for (const JobMachine* const job : jobs) {
    for (const GroupMember& member : job->group().members()) {
      agents_.Entry(member.agent) = {.name = member.agent,
                                     .incarnation = member.incarnation,
                                     .role = member.role,
                                     .data_address = member.data_address,
                                     .heartbeat = batch.now(),
                                     .closed = batch.now(),
                                     .use = Use::kAssigned,
                                     .job = job->record().job};
    }
  }
}

// ---- jobs ----

JobMachine* Cluster::Find(absl::string_view job) {
  const auto found = jobs_.find(job);
  return found == jobs_.end() ? nullptr : found->second.get();
}

const JobMachine* Cluster::Machine(absl::string_view job) const {
  return const_cast<Cluster*>(this)->Find(job);
}

JobMachine* Cluster::FindOrAnswer(absl::string_view job, uint64_t correlation, Batch& batch) {
  JobMachine* const found = Find(job);
  if (found == nullptr) {
    batch.Answer(correlation,
                 MakeError(absl::StatusCode::kNotFound, ErrorReason::kJobNotFound,
                           absl::StrCat("there is no job '", job, "'; leapctl list shows them"),
                           {{"job", std::string(job)}}),
                 job);
  }
  return found;
}

void Cluster::On(const CreateJob& request, Batch& batch) {
  if (const auto known = requests_.find(request.request_id);
      !request.request_id.empty() && known != requests_.end()) {
    const bool same = Find(known->second)->record().spec_yaml == request.spec_yaml;
    return batch.Answer(
        request.correlation,
        same ? absl::OkStatus()
             : MakeError(absl::StatusCode::kAlreadyExists, ErrorReason::kRequestIdReused,
                         absl::StrCat("request_id '", request.request_id, "' was used for job ",
                                      known->second, " with another job file")),
        known->second);
  }
  if (Find(request.job) != nullptr) {
    return batch.Answer(request.correlation,
                        MakeError(absl::StatusCode::kAlreadyExists, ErrorReason::kJobAlreadyExists,
                                  absl::StrCat("there is a job '", request.job, "' already")),
                        request.job);
  }
  const auto live =
      std::ranges::count_if(order_, [](const JobMachine* job) { return !job->ended(); });
  if (static_cast<size_t>(live) >= options_.max_jobs) {
    return batch.Answer(
        request.correlation,
        MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kQuotaExceeded,
                  absl::StrCat("expected at most ", options_.max_jobs,
                               " jobs that have not ended; wait for one or cancel one")),
        request.job);
  }
  JobRecord record{.job = request.job,
                   .name = request.spec.name,
                   .request_id = request.request_id,
                   .submitter = request.submitter,
                   .spec_yaml = request.spec_yaml,
                   .spec = request.spec,
                   .queue_number = next_queue_number_++,
                   .state = JobState::kQueued,
                   .state_reason = "waits for its turn",
                   .state_time = batch.now(),
                   .create_time = batch.now(),
                   .task_ids_reserved = kFirstTaskIds};
  creating_ = std::make_unique<JobMachine>(std::move(record), SeedOf(options_.seed, request.job));
  batch.Write(creating_->Row());
  batch.Decide({.kind = Decision::Kind::kCreateJob,
                .job = request.job,
                .correlations = {request.correlation}});
}

void Cluster::On(const CancelJob& request, Batch& batch) {
  JobMachine* const job = FindOrAnswer(request.job, request.correlation, batch);
  if (job != nullptr) job->Cancel(request, batch);
}

void Cluster::On(const PauseJob& request, Batch& batch) {
  JobMachine* const job = FindOrAnswer(request.job, request.correlation, batch);
  if (job != nullptr) job->SetPaused(true, request.correlation, batch);
}

void Cluster::On(const ResumeJob& request, Batch& batch) {
  JobMachine* const job = FindOrAnswer(request.job, request.correlation, batch);
  if (job != nullptr) job->SetPaused(false, request.correlation, batch);
}

// ---- the clock ----

void Cluster::On(const Tick&, Batch& batch) {
  for (JobMachine* const job : order_) job->OnTick(batch);
  StartQueued(batch);
  AssignVerifiers(batch);
  for (JobMachine* const job : order_) job->NoteWaits(batch);
  if (batch.now() < forget_) return;
  forget_ = batch.now() + absl::Minutes(1);
  agents_.Forget(batch.now() - options_.forget_agents);
  ForgetEnded();
}

void Cluster::StartQueued(Batch& batch) {
  const JobMachine* head = nullptr;
  for (JobMachine* const job : order_) {
    if (!job->queued()) continue;
    if (head != nullptr) {
      job->Queued({.what = "queue",
                   .reason = absl::StrCat("waits in the queue behind ", head->record().job),
                   .resolution = "that one starts, or is cancelled"},
                  batch);
      continue;
    }
    std::optional<Wait> wait = job->TryStart(batch);
    if (!wait.has_value()) continue;
    job->Queued(*std::move(wait), batch);
    head = job;
  }
}

void Cluster::AssignVerifiers(Batch& batch) {
  const absl::Duration lease = absl::Seconds(options_.lease_seconds);
  if (std::ranges::none_of(order_, [](const JobMachine* job) { return job->WantsVerifier(); }))
    return;
  for (Agent* const agent : agents_.Idle(Role::kVerifier, batch.now(), lease, false)) {
    JobMachine* best = nullptr;
    for (JobMachine* const job : order_) {
      if (!job->WantsVerifier()) continue;
      if (best == nullptr || job->verifiers() < best->verifiers()) best = job;
    }
    if (best == nullptr) return;
    best->TakeVerifier(*agent, batch);
  }
}

void Cluster::ForgetEnded() {
  for (auto job = order_.begin(); order_.size() > options_.max_jobs && job != order_.end();) {
    if (!(*job)->ended()) {
      ++job;
      continue;
    }
    const JobRecord& record = (*job)->record();
    requests_.erase(record.request_id);
    const std::string id = record.job;
    job = order_.erase(job);
    jobs_.erase(id);
  }
}

// ---- looking ----

std::optional<JobView> Cluster::FindJob(absl::string_view job) const {
  const JobMachine* const found = Machine(job);
  if (found == nullptr) return std::nullopt;
  return found->View(agents_, options_, now_);
}

std::vector<JobView> Cluster::ListJobs() const {
  std::vector<JobView> views;
  for (auto job = order_.rbegin(); job != order_.rend(); ++job)
    views.push_back((*job)->View(agents_, options_, now_));
  return views;
}

std::vector<AgentView> Cluster::ListAgents() const {
  return agents_.Views(now_, absl::Seconds(options_.lease_seconds));
}

}  // namespace leap::machine
