#include "leapctl/local_cluster.h"

#include <signal.h>

#include <algorithm>
#include <fstream>
#include <span>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "leapctl/scrape.h"

namespace leap {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(20);
constexpr absl::Duration kPoll = absl::Milliseconds(20);
constexpr absl::Duration kAgentGrace = absl::Seconds(10);
constexpr absl::Duration kCoordinatorGrace = absl::Seconds(5);
constexpr int kTailLines = 12;

absl::Status Ended(const Child& child, absl::StatusCode code) {
  return MakeError(code, ErrorReason::kShuttingDown,
                   absl::StrCat(child.name(), " ended (", child.ending(), "); the end of ",
                                child.log(), ":\n", child.LogTail(kTailLines)));
}

int ReadPort(const std::string& file) {
  std::ifstream in(file);
  std::string line;
  int port = 0;
  return std::getline(in, line) && absl::SimpleAtoi(line, &port) ? port : 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalCluster>> LocalCluster::Start(
    const LocalClusterOptions& options, StopSignal& stop) {
  std::unique_ptr<LocalCluster> cluster(new LocalCluster(options));
  LEAP_RETURN_IF_ERROR(cluster->StartCoordinator(stop));
  LEAP_RETURN_IF_ERROR(cluster->StartAgents());
  return cluster;
}

LocalCluster::~LocalCluster() { Stop(); }

std::vector<std::string> LocalCluster::MetricsFlags(const std::string& name) const {
  const std::string port_file = absl::StrCat(options_.state_dir, "/", name, ".metrics-port");
  std::remove(port_file.c_str());  // of an earlier run in the same folder
  return {"--metrics-listen", "127.0.0.1:0", "--metrics-port-file", port_file};
}

absl::Status LocalCluster::StartCoordinator(StopSignal& stop) {
  LEAP_ASSIGN_OR_RETURN(const std::string program,
                        options_.find("leap-coordinator", "coordinator"));
  const std::string port_file = absl::StrCat(options_.state_dir, "/coordinator.port");
  ChildOptions child{.name = "leap-coordinator",
                     .program = program,
                     .arguments = {"--listen", "127.0.0.1:0", "--port-file", port_file,
                                   "--state-dir", absl::StrCat(options_.state_dir, "/coordinator")},
                     .log = absl::StrCat(options_.state_dir, "/coordinator.log")};
  for (std::string& flag : MetricsFlags("coordinator")) child.arguments.push_back(std::move(flag));
  std::remove(port_file.c_str());  // of an earlier run in the same folder
  LEAP_ASSIGN_OR_RETURN(coordinator_process_, Child::Start(child));
  for (absl::Duration waited; waited < kStartTimeout; waited += kPoll) {
    if (const int port = ReadPort(port_file); port > 0) {
      coordinator_ = absl::StrCat("127.0.0.1:", port);
      return absl::OkStatus();
    }
    if (!coordinator_process_->Running())
      return Ended(*coordinator_process_, absl::StatusCode::kFailedPrecondition);
    if (stop.WaitFor(kPoll).has_value()) return absl::CancelledError("interrupted");
  }
  return MakeError(
      absl::StatusCode::kFailedPrecondition, ErrorReason::kConfigInvalid,
      absl::StrCat("leap-coordinator does not listen after ", absl::FormatDuration(kStartTimeout),
                   "; the end of its log:\n", coordinator_process_->LogTail(kTailLines)));
}

absl::Status LocalCluster::StartAgents() {
  LEAP_ASSIGN_OR_RETURN(const std::string worker, options_.find("leap-worker", "worker"));
  for (int i = 0; i < options_.workers; ++i) {
    LEAP_RETURN_IF_ERROR(StartAgent(worker, absl::StrCat("worker-", i), {}));
  }
  if (options_.verifiers == 0) return absl::OkStatus();
  LEAP_ASSIGN_OR_RETURN(const std::string verifier, options_.find("leap-verifier", "verifier"));
  for (int i = 0; i < options_.verifiers; ++i) {
    LEAP_RETURN_IF_ERROR(
        StartAgent(verifier, absl::StrCat("verifier-", i),
                   {"--nice", absl::StrCat(options_.nice), "--bind-host", "127.0.0.1"}));
  }
  return absl::OkStatus();
}

absl::Status LocalCluster::StartAgent(const std::string& program, const std::string& name,
                                      const std::vector<std::string>& more) {
  ChildOptions child{.name = name,
                     .program = program,
                     .arguments = {"--coordinator", coordinator_, "--name", name, "--state-dir",
                                   absl::StrCat(options_.state_dir, "/agents")},
                     .log = absl::StrCat(options_.state_dir, "/", name, ".log")};
  child.arguments.insert(child.arguments.end(), more.begin(), more.end());
  for (std::string& flag : MetricsFlags(name)) child.arguments.push_back(std::move(flag));
  LEAP_ASSIGN_OR_RETURN(std::unique_ptr<Child> started, Child::Start(child));
  agents_.push_back(std::move(started));
  told_.push_back(false);
  return absl::OkStatus();
}

absl::Status LocalCluster::Check() {
  if (!coordinator_process_->Running())
    return Ended(*coordinator_process_, absl::StatusCode::kInternal);
  const auto workers = std::span(agents_).first(options_.workers);
  const bool any = std::any_of(workers.begin(), workers.end(),
                               [](const auto& child) { return child->Running(); });
  return any ? absl::OkStatus() : Ended(*workers.front(), absl::StatusCode::kInternal);
}

std::vector<std::string> LocalCluster::News() {
  std::vector<std::string> news;
  for (size_t i = 0; i < agents_.size(); ++i) {
    if (told_[i] || agents_[i]->Running()) continue;
    told_[i] = true;
    news.push_back(absl::StrCat(agents_[i]->name(), " ended (", agents_[i]->ending(),
                                "); its log is ", agents_[i]->log()));
  }
  return news;
}

void LocalCluster::SaveMetrics() const {
  std::vector<std::string> names = {"coordinator"};
  for (const auto& agent : agents_) names.push_back(agent->name());
  for (const std::string& name : names) {
    const std::string stem = absl::StrCat(options_.state_dir, "/", name);
    const int port = ReadPort(stem + ".metrics-port");
    if (port == 0) continue;
    const absl::StatusOr<std::string> page = ScrapeMetrics(port);
    if (page.ok()) std::ofstream(stem + ".metrics.txt") << *page;
  }
}

void LocalCluster::Stop() {
  for (const auto& agent : agents_) agent->Signal(SIGTERM);
  absl::Duration left = kAgentGrace;  // for all of them together
  for (const auto& agent : agents_) {
    while (left > absl::ZeroDuration() && !agent->WaitFor(kPoll)) left -= kPoll;
  }
  agents_.clear();
  told_.clear();
  if (coordinator_process_ == nullptr) return;
  coordinator_process_->Signal(SIGTERM);
  coordinator_process_->WaitFor(kCoordinatorGrace);
  coordinator_process_.reset();
}

}  // namespace leap
