// What readers see: the newest view of every job and agent, as the wire's messages, and who wants
// to hear of a change.
//
// The runner publishes; RPC handlers read copies. Listeners are told on the runner's thread and
// must not wait, nor subscribe or unsubscribe from within. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "leap/v1/job.pb.h"

namespace leap {

// SUCCEEDED, FAILED or CANCELLED.
bool HasEnded(const v1::Job& job);

class Board {
 public:
  using Listener = std::function<void()>;

  // Replaces the view of one job; `order` sorts the list (newest last). Beyond kJobsKept the oldest
  // one that has ended is forgotten.
  void PublishJob(int64_t order, v1::Job job);
  void PublishAgents(std::vector<v1::Agent> agents);
  // Kept for those who watch: the newest kEventsKept of a job.
  void AddEvent(v1::Event event);

  std::optional<v1::Job> FindJob(const std::string& job) const;
  // Newest first, those with order < `before` (0: all); `size` at most. `next`: order to go on
  // from, 0 at the end.
  std::vector<v1::Job> ListJobs(int64_t before, int size, int64_t* next) const;
  std::vector<std::string> JobNames() const;
  // Jobs of `submitter` that have not ended.
  int OpenJobsOf(const std::string& submitter) const;
  std::vector<v1::Agent> ListAgents() const;
  // Events of a job after `sequence`, oldest first, kEventsAtOnce at most.
  static constexpr int kEventsAtOnce = 100;
  std::vector<v1::Event> EventsAfter(const std::string& job, int64_t sequence) const;

  // The coordinator is going down: every listener is told, and finds closed().
  void Close();
  bool closed() const;

  // `listener` is called after each change of `job` until Unsubscribe returns.
  uint64_t Subscribe(const std::string& job, Listener listener);
  void Unsubscribe(uint64_t subscription);

 private:
  static constexpr size_t kEventsKept = 200;
  static constexpr size_t kJobsKept = 2000;
  struct Entry {
    int64_t order = 0;
    v1::Job job;
    std::vector<v1::Event> events;
  };
  struct Subscription {
    std::string job;
    Listener listener;
  };
  void ForgetOldest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Notify(const std::string& job) ABSL_LOCKS_EXCLUDED(mutex_, notify_mutex_);

  mutable Mutex mutex_;
  std::map<std::string, Entry> jobs_ ABSL_GUARDED_BY(mutex_);
  std::map<int64_t, std::string> by_order_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::Agent> agents_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;

  Mutex notify_mutex_;  // held while listeners run, so that Unsubscribe can promise silence
  std::map<uint64_t, Subscription> subscriptions_ ABSL_GUARDED_BY(notify_mutex_);
  uint64_t next_subscription_ ABSL_GUARDED_BY(notify_mutex_) = 1;
};

}  // namespace leap
