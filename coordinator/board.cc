#include "coordinator/board.h"

#include <utility>

namespace leap {

bool HasEnded(const v1::Job& job) {
  return job.state() == v1::Job::SUCCEEDED || job.state() == v1::Job::FAILED ||
         job.state() == v1::Job::CANCELLED;
}

void Board::PublishJob(int64_t order, v1::Job job) {
  const std::string id = job.job();
  {
    MutexLock lock(&mutex_);
    Entry& entry = jobs_[id];
    if (entry.order != order) by_order_.erase(entry.order);
    entry.order = order;
    entry.job = std::move(job);
    by_order_[order] = id;
    if (by_order_.size() > kJobsKept) ForgetOldest();
  }
  Notify(id);
}

void Board::ForgetOldest() {
  for (auto it = by_order_.begin(); it != by_order_.end(); ++it) {
    if (!HasEnded(jobs_.at(it->second).job)) continue;
    jobs_.erase(it->second);
    by_order_.erase(it);
    return;
  }
}

void Board::PublishAgents(std::vector<v1::Agent> agents) {
  MutexLock lock(&mutex_);
  agents_ = std::move(agents);
}

void Board::AddEvent(v1::Event event) {
  MutexLock lock(&mutex_);
  std::vector<v1::Event>& events = jobs_[event.job()].events;
  if (events.size() >= kEventsKept) events.erase(events.begin());
  events.push_back(std::move(event));
}

std::optional<v1::Job> Board::FindJob(const std::string& job) const {
  MutexLock lock(&mutex_);
  const auto found = jobs_.find(job);
  if (found == jobs_.end() || found->second.job.job().empty()) return std::nullopt;
  return found->second.job;
}

std::vector<v1::Job> Board::ListJobs(int64_t before, int size, int64_t* next) const {
  MutexLock lock(&mutex_);
  std::vector<v1::Job> page;
  *next = 0;
  auto it = before > 0 ? by_order_.lower_bound(before) : by_order_.end();
  while (it != by_order_.begin() && static_cast<int>(page.size()) < size) {
    --it;
    page.push_back(jobs_.at(it->second).job);
    *next = it->first;
  }
  if (it == by_order_.begin()) *next = 0;
  return page;
}

std::vector<std::string> Board::JobNames() const {
  MutexLock lock(&mutex_);
  std::vector<std::string> names;
  for (const auto& [order, job] : by_order_) names.push_back(job);
  return names;
}

int Board::OpenJobsOf(const std::string& submitter) const {
  MutexLock lock(&mutex_);
  int open = 0;
  for (const auto& [id, entry] : jobs_) {
    if (entry.job.submitter() == submitter && !entry.job.job().empty() && !HasEnded(entry.job))
      ++open;
  }
  return open;
}

std::vector<v1::Agent> Board::ListAgents() const {
  MutexLock lock(&mutex_);
  return agents_;
}

std::vector<v1::Event> Board::EventsAfter(const std::string& job, int64_t sequence) const {
  MutexLock lock(&mutex_);
  std::vector<v1::Event> events;
  const auto found = jobs_.find(job);
  if (found == jobs_.end()) return events;
  for (const v1::Event& event : found->second.events) {
    if (event.sequence() > sequence && events.size() < kEventsAtOnce) events.push_back(event);
  }
  return events;
}

void Board::Close() {
  {
    MutexLock lock(&mutex_);
    closed_ = true;
  }
  MutexLock lock(&notify_mutex_);
  for (const auto& [id, subscription] : subscriptions_) subscription.listener();
}

bool Board::closed() const {
  MutexLock lock(&mutex_);
  return closed_;
}

uint64_t Board::Subscribe(const std::string& job, Listener listener) {
  MutexLock lock(&notify_mutex_);
  const uint64_t subscription = next_subscription_++;
  subscriptions_[subscription] = {job, std::move(listener)};
  return subscription;
}

void Board::Unsubscribe(uint64_t subscription) {
  MutexLock lock(&notify_mutex_);
  subscriptions_.erase(subscription);
}

void Board::Notify(const std::string& job) {
  MutexLock lock(&notify_mutex_);
  for (const auto& [id, subscription] : subscriptions_) {
    if (subscription.job == job) subscription.listener();
  }
}

}  // namespace leap
