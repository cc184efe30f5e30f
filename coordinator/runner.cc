#include "coordinator/runner.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "coordinator/wire.h"

namespace leap {
namespace {

// Jobs and agents change with every heartbeat; people look less often, and Prometheus less often
// still.
constexpr absl::Duration kJobsEvery = absl::Milliseconds(50);
constexpr absl::Duration kAgentsEvery = absl::Milliseconds(200);
constexpr absl::Duration kMetricsEvery = absl::Seconds(1);

// Whether `every` has passed since *last; if so, it counts from `now`.
bool Due(absl::Duration every, absl::Time now, absl::Time* last) {
  if (now - *last < every) return false;
  *last = now;
  return true;
}

void WriteLog(const machine::LogLine& line) {
  const LogFields fields = {
      {"job", line.job}, {"epoch", line.epoch}, {"step", line.step}, {"reason", line.sentence}};
  switch (line.severity) {
    case machine::Severity::kDebug:
      return LogDebug(line.event, fields);
    case machine::Severity::kInfo:
      return LogInfo(line.event, fields);
    case machine::Severity::kWarning:
      return LogWarning(line.event, fields);
    case machine::Severity::kError:
      return LogError(line.event, fields);
  }
}

absl::Status ShuttingDown() {
  return MakeError(absl::StatusCode::kUnavailable, ErrorReason::kShuttingDown,
                   "the coordinator is shutting down; retry in a moment");
}

template <class T>
bool SetCorrelation(machine::Event& event, uint64_t number) {
  T* request = std::get_if<T>(&event);
  if (request != nullptr) request->correlation = number;
  return request != nullptr;
}

}  // namespace

Runner::Runner(const RunnerOptions& options, Store* store, Board* board, MetricsFeed* metrics,
               const Clock& clock)
    : options_(options),
      store_(store),
      board_(board),
      metrics_(metrics),
      clock_(clock),
      queue_(options.queue_events),
      cluster_(options.cluster) {}

Runner::~Runner() { Stop(); }

absl::Status Runner::Start() {
  LEAP_ASSIGN_OR_RETURN(machine::Ledger ledger, store_->Load());
  for (const machine::EventRecord& event : ledger.events) board_->AddEvent(ToWire(event));
  Process(machine::Restored{std::move(ledger)});
  for (const machine::JobView& job : cluster_.ListJobs()) {
    board_->PublishJob(job.record.queue_number + 1, ToWire(job));
  }
  thread_ = std::thread([this] { Loop(); });
  return absl::OkStatus();
}

void Runner::Stop() {
  queue_.Close();
  if (thread_.joinable()) thread_.join();
  std::map<uint64_t, Done> calls;
  std::map<uint64_t, Session> sessions;
  {
    MutexLock lock(&mutex_);
    calls.swap(calls_);
    sessions.swap(sessions_);
  }
  for (auto& [number, done] : calls) done(ShuttingDown(), "");
  for (auto& [number, session] : sessions) session.sink->Close(ShuttingDown());
}

bool Runner::Post(machine::Event event) { return queue_.TryPush(std::move(event)); }

void Runner::Call(machine::Event event, Done done) {
  uint64_t number = 0;
  {
    MutexLock lock(&mutex_);
    number = next_number_++;
    calls_[number] = std::move(done);
  }
  SetCorrelation<machine::CreateJob>(event, number) ||
      SetCorrelation<machine::CancelJob>(event, number) ||
      SetCorrelation<machine::PauseJob>(event, number) ||
      SetCorrelation<machine::ResumeJob>(event, number);
  if (Post(std::move(event))) return;
  if (Done refused = TakeCall(number)) {
    refused(queue_.closed()
                ? ShuttingDown()
                : MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kQueueFull,
                            "the coordinator has too much to do; retry in a moment"),
            "");
  }
}

uint64_t Runner::OpenSession(std::shared_ptr<SessionSink> sink) {
  MutexLock lock(&mutex_);
  const uint64_t session = next_number_++;
  sessions_[session] = {.sink = std::move(sink), .opened = clock_.Now()};
  return session;
}

void Runner::CloseSession(uint64_t session) {
  MutexLock lock(&mutex_);
  sessions_.erase(session);
}

size_t Runner::sessions() const {
  MutexLock lock(&mutex_);
  return sessions_.size();
}

std::shared_ptr<SessionSink> Runner::FindSession(uint64_t session) const {
  MutexLock lock(&mutex_);
  const auto found = sessions_.find(session);
  return found == sessions_.end() ? nullptr : found->second.sink;
}

Runner::Done Runner::TakeCall(uint64_t correlation) {
  MutexLock lock(&mutex_);
  const auto found = calls_.find(correlation);
  if (found == calls_.end()) return nullptr;
  Done done = std::move(found->second);
  calls_.erase(found);
  return done;
}

void Runner::Loop() {
  absl::Time next_tick = clock_.Now();
  while (true) {
    const absl::Duration wait = std::max(next_tick - clock_.Now(), absl::ZeroDuration());
    std::optional<machine::Event> event = queue_.Pop(wait);
    if (event) {
      Process(*event);
    } else if (queue_.closed()) {
      return;
    }
    if (clock_.Now() < next_tick) continue;
    OnTick();
    next_tick = clock_.Now() + options_.tick;
  }
}

void Runner::OnTick() {
  Process(machine::Tick{});
  PublishChanged();
  EndSilentSessions();
}

void Runner::EndSilentSessions() {
  std::vector<std::shared_ptr<SessionSink>> silent;
  {
    MutexLock lock(&mutex_);
    const absl::Time latest = clock_.Now() - options_.hello_timeout;
    for (auto& [number, session] : sessions_) {
      if (session.greeted || session.opened > latest) continue;
      session.greeted = true;  // told once
      silent.push_back(session.sink);
    }
  }
  for (const auto& sink : silent) {
    sink->Close(MakeError(absl::StatusCode::kDeadlineExceeded, ErrorReason::kProtocolViolation,
                          "agent session: no Hello came in time; say it first"));
  }
}

void Runner::Process(const machine::Event& event) {
  std::optional<machine::Persisted> persisted = Perform(cluster_.Step(event, clock_.Now()));
  while (persisted) persisted = Perform(cluster_.Step(*persisted, clock_.Now()));
  const auto* const said = std::get_if<machine::AgentSaid>(&event);
  if (said == nullptr) return;
  std::shared_ptr<SessionSink> sink;
  {
    MutexLock lock(&mutex_);
    const auto found = sessions_.find(said->session);
    if (found == sessions_.end()) return;
    found->second.greeted = true;
    sink = found->second.sink;
  }
  sink->Processed();
}

std::optional<machine::Persisted> Runner::Perform(machine::Actions actions) {
  std::optional<machine::Persisted> persisted;
  if (actions.ticket != 0) {
    const absl::Time before = clock_.Now();
    const absl::Status written = store_->Write(actions.records);
    metrics_->CountTransaction(written.ok(), clock_.Now() - before);
    if (!written.ok() && written != ledger_error_) {
      LogError("ledger-write-failed", {{"error", written}});
    }
    ledger_error_ = written;
    if (written.ok()) PublishEvents(actions);
    persisted = machine::Persisted{actions.ticket, written.ok(), std::string(written.message())};
  }
  PerformSends(actions);
  PerformReplies(actions);
  Publish(actions);
  return persisted;
}

void Runner::PerformSends(const machine::Actions& actions) {
  for (const machine::Send& send : actions.sends) {
    v1::CoordinatorMessage message = ToWire(send.message);
    if (message.kind_case() == v1::CoordinatorMessage::KIND_NOT_SET) {
      LogWarning("not-on-the-wire", {{"agent", send.agent}});
      continue;
    }
    if (const auto sink = FindSession(send.session)) sink->Send(std::move(message));
  }
  for (const machine::CloseSession& close : actions.closes) {
    if (const auto sink = FindSession(close.session)) sink->Close(close.status);
  }
}

void Runner::PerformReplies(const machine::Actions& actions) {
  for (const machine::Reply& reply : actions.replies) {
    if (const std::optional<machine::JobView> job = cluster_.FindJob(reply.job)) {
      board_->PublishJob(job->record.queue_number + 1, ToWire(*job));
    }
    if (Done done = TakeCall(reply.correlation)) done(reply.status, reply.job);
  }
}

// Before the views that they explain, so that a watch that ends with the job has seen its last
// event.
void Runner::PublishEvents(const machine::Actions& actions) {
  for (const machine::Record& record : actions.records) {
    const auto* const event = std::get_if<machine::EventRecord>(&record);
    if (event != nullptr) board_->AddEvent(ToWire(*event));
  }
}

void Runner::Publish(const machine::Actions& actions) {
  changed_.insert(actions.changed.begin(), actions.changed.end());
  for (const machine::LogLine& line : actions.log) WriteLog(line);
  for (const machine::MetricSample& sample : actions.counts) metrics_->Count(sample);
}

// However often a job changed in between: views are large.
void Runner::PublishChanged() {
  const absl::Time now = clock_.Now();
  std::vector<machine::JobView> jobs;
  if (Due(kJobsEvery, now, &jobs_published_)) {
    for (const std::string& id : changed_) {
      if (std::optional<machine::JobView> job = cluster_.FindJob(id))
        jobs.push_back(*std::move(job));
    }
    changed_.clear();
  }
  // Before the views: whoever sees a job's end finds it in the metrics.
  for (const machine::JobView& job : jobs) metrics_->SetJob(job);
  const bool ended = std::ranges::any_of(
      jobs, [](const machine::JobView& job) { return machine::IsEnded(job.record.state); });
  if (Due(kMetricsEvery, now, &metrics_published_) || ended) {
    metrics_->SetCluster(cluster_.ListJobs(), cluster_.ListAgents(), queue_.size(), sessions(),
                         store_->bytes());
  }
  for (const machine::JobView& job : jobs) {
    board_->PublishJob(job.record.queue_number + 1, ToWire(job));
  }
  if (Due(kAgentsEvery, now, &agents_published_)) {
    std::vector<v1::Agent> agents;
    for (const machine::AgentView& agent : cluster_.ListAgents()) agents.push_back(ToWire(agent));
    board_->PublishAgents(std::move(agents));
  }
}

}  // namespace leap
