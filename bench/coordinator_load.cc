// What a thousand agents cost the coordinator: messages a second and CPU, at the normal rate and
// flat out.
//
//   coordinator_load PATH/leap-coordinator [--agents 1000] [--group 8] [--verifiers 2] [--seconds
//   10] [--seed 1]
//
// Starts the real coordinator with a ledger in a temporary folder; this process plays the agents
// (coordinator/ paper_mind.h), each on a connection of its own: jobs of `group` main workers and
// `verifiers` verifiers, a heartbeat per agent at the coordinator's interval, a snapshot per job
// every two seconds, its baseline, candidates and leaps. Then every agent sends heartbeats without
// a pause. CPU is the coordinator's alone (/proc/PID/stat).
#include <arpa/inet.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "coordinator/paper_mind.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/grpcpp.h"
#include "leap/v1/agent.grpc.pb.h"
#include "leap/v1/job.grpc.pb.h"

namespace leap {
namespace {

struct Options {
  std::string coordinator;
  int agents = 1000;
  int group = 8;
  int verifiers = 2;
  double seconds = 10;
  uint64_t seed = 1;
};

double Now() { return absl::ToDoubleSeconds(RealClock().Now() - absl::UnixEpoch()); }
void Sleep(double seconds) { RealClock().SleepFor(absl::Seconds(seconds)); }

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void Fail(const std::string& what) {
  std::fprintf(stderr, "coordinator_load: %s\n", what.c_str());
  std::exit(1);
}

// ---- the coordinator ----

class Coordinator {
 public:
  explicit Coordinator(const std::string& path) {
    char pattern[] = "/tmp/leap-load-XXXXXX";
    dir_ = mkdtemp(pattern);
    const std::vector<std::string> words = {path,
                                            "--listen",
                                            "127.0.0.1:0",
                                            "--port-file",
                                            dir_ + "/port",
                                            "--metrics-listen",
                                            "127.0.0.1:0",
                                            "--metrics-port-file",
                                            dir_ + "/metrics",
                                            "--state-dir",
                                            dir_,
                                            "--log-level",
                                            "error",
                                            "--max-jobs-per-submitter",
                                            "1000"};
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    if (posix_spawn(&pid_, path.c_str(), nullptr, nullptr, argv.data(), environ) != 0)
      Fail("cannot start " + path);
    port_ = WaitForPort(dir_ + "/port");
    metrics_port_ = WaitForPort(dir_ + "/metrics");
  }

  ~Coordinator() {
    kill(pid_, SIGTERM);
    waitpid(pid_, nullptr, 0);
    std::filesystem::remove_all(dir_);
  }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  // Seconds of CPU, user and system, since it started.
  double Cpu() const {
    const std::string stat = ReadFile(absl::StrCat("/proc/", pid_, "/stat"));
    const std::vector<std::string> words = absl::StrSplit(stat.substr(stat.rfind(')') + 2), ' ');
    return (std::stod(words[11]) + std::stod(words[12])) /
           static_cast<double>(sysconf(_SC_CLK_TCK));
  }

  double ResidentMiB() const {
    return std::stod(std::vector<std::string>(
               absl::StrSplit(ReadFile(absl::StrCat("/proc/", pid_, "/statm")), ' '))[1]) *
           static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
  }

  // The sum of all series whose line begins so.
  double Metric(const std::string& prefix) const {
    double sum = 0;
    for (absl::string_view line : absl::StrSplit(Scrape(), '\n')) {
      double value = 0;
      if (absl::StartsWith(line, prefix) &&
          absl::SimpleAtod(line.substr(line.rfind(' ') + 1), &value))
        sum += value;
    }
    return sum;
  }

 private:
  static int WaitForPort(const std::string& path) {
    int port = 0;
    for (int i = 0; i < 1000 && !absl::SimpleAtoi(ReadFile(path), &port); ++i) Sleep(0.01);
    if (port == 0) Fail("the coordinator did not start");
    return port;
  }

  std::string Scrape() const {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{.sin_family = AF_INET,
                   .sin_port = htons(static_cast<uint16_t>(metrics_port_)),
                   .sin_addr = {htonl(INADDR_LOOPBACK)}};
    std::string answer;
    if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0) {
      const std::string request = "GET /metrics HTTP/1.0\r\n\r\n";
      char buffer[65536];
      ssize_t n = send(fd, request.data(), request.size(), 0);
      while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0)
        answer.append(buffer, static_cast<size_t>(n));
    }
    close(fd);
    return answer;
  }

  std::string dir_;
  pid_t pid_ = 0;
  int port_ = 0;
  int metrics_port_ = 0;
};

// ---- the agents ----

struct Shared {
  std::atomic<bool> flood{false};
  std::atomic<int> welcomed{0};
  std::atomic<int> broken{0};
  std::atomic<int64_t> tasks{0};
  Mutex mutex;
  std::vector<double> task_delays
      ABSL_GUARDED_BY(mutex);  // from a snapshot's last shard to its baseline task
  std::map<std::pair<std::string, int64_t>, double> snapshots
      ABSL_GUARDED_BY(mutex);  // when they were complete
};

// One agent on its own connection. gRPC's threads run the callbacks.
class LoadAgent final : public grpc::ClientBidiReactor<v1::AgentMessage, v1::CoordinatorMessage> {
 public:
  LoadAgent(const std::string& address, const std::string& name, v1::Role role,
            uint64_t incarnation, Shared* shared)
      : shared_(shared), mind_(name, role, incarnation) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel_ = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    stub_ = v1::AgentService::NewStub(channel_);
    stub_->async()->Session(&context_, this);
    {
      MutexLock lock(&mutex_);
      *outbox_.emplace_back().mutable_hello() = mind_.Hello();
      StartWrite(&outbox_.front());
    }
    StartRead(&incoming_);
    AddHold();  // for writes from the pacing thread
    StartCall();
  }

  void Stop() {
    context_.TryCancel();
    RemoveHold();
    MutexLock lock(&mutex_);
    const auto done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return done_; };
    mutex_.Await(Condition(&done));
  }

  void Beat() {
    MutexLock lock(&mutex_);
    if (outbox_.size() > 100) return;  // the coordinator lags: a real agent's heartbeats wait, too
    v1::AgentMessage beat;
    *beat.mutable_heartbeat() = mind_.Beat();
    Push(std::move(beat));
  }

  // Its job, empty if it has none.
  std::string Snapshot(int64_t step) {
    MutexLock lock(&mutex_);
    if (mind_.job().empty()) return "";
    Push(mind_.Snapshot(step));
    return mind_.job();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (incoming_.has_welcome()) shared_->welcomed.fetch_add(1);
    if (incoming_.has_task()) NoteTask(incoming_.task());
    {
      MutexLock lock(&mutex_);
      for (v1::AgentMessage& reply : mind_.On(incoming_)) Push(std::move(reply));
    }
    StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mutex_);
    if (!ok) {
      broken_ = true;
      return;
    }
    outbox_.pop_front();
    if (outbox_.empty() && shared_->flood.load())
      *outbox_.emplace_back().mutable_heartbeat() = mind_.Beat();
    if (!outbox_.empty()) StartWrite(&outbox_.front());
  }

  void OnDone(const grpc::Status& status) override {
    if (status.error_code() != grpc::CANCELLED) {
      if (shared_->broken.fetch_add(1) == 0)
        std::fprintf(stderr, "a session ended: %s\n", status.error_message().c_str());
    }
    MutexLock lock(&mutex_);
    done_ = true;
  }

 private:
  void Push(v1::AgentMessage message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (broken_ || done_) return;
    outbox_.push_back(std::move(message));
    if (outbox_.size() == 1) StartWrite(&outbox_.front());
  }

  void NoteTask(const v1::Task& task) {
    shared_->tasks.fetch_add(1);
    if (task.kind() != v1::Task::BASELINE) return;
    MutexLock lock(&shared_->mutex);
    const auto found = shared_->snapshots.find({task.job(), task.base_step()});
    if (found == shared_->snapshots.end()) return;
    shared_->task_delays.push_back(Now() - found->second);
    shared_->snapshots.erase(found);
  }

  Shared* const shared_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::AgentService::Stub> stub_;
  grpc::ClientContext context_;
  v1::CoordinatorMessage incoming_;

  Mutex mutex_;
  PaperMind mind_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::AgentMessage> outbox_ ABSL_GUARDED_BY(mutex_);
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

// ---- the run ----

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options), random_(options.seed), coordinator_(options.coordinator) {}

  void Run() {
    Connect();
    SubmitJobs();
    Steady();
    Flood();
    for (auto& agent : agents_) agent->Stop();
  }

 private:
  struct Sample {
    double time, cpu, in, out, transactions;
  };

  Sample Take() const {
    return {Now(), coordinator_.Cpu(),
            coordinator_.Metric("leap_session_messages_total{direction=\"in\"}"),
            coordinator_.Metric("leap_session_messages_total{direction=\"out\"}"),
            coordinator_.Metric("leap_ledger_transactions_total{result=\"ok\"}")};
  }

  void Report(const char* phase, const Sample& a, const Sample& b) const {
    const double seconds = b.time - a.time;
    const double messages = b.in - a.in + b.out - a.out;
    std::printf(
        "%-8s %8.0f msg/s in %8.0f msg/s out %7.1f tx/s   CPU %5.1f %% of a core   %6.1f us CPU a "
        "message   "
        "RSS %.0f MiB\n",
        phase, (b.in - a.in) / seconds, (b.out - a.out) / seconds,
        (b.transactions - a.transactions) / seconds, 100 * (b.cpu - a.cpu) / seconds,
        1e6 * (b.cpu - a.cpu) / messages, coordinator_.ResidentMiB());
  }

  int Jobs() const { return options_.agents / (options_.group + options_.verifiers); }

  void Connect() {
    const double began = Now();
    const int workers = Jobs() * options_.group;
    for (int i = 0; i < options_.agents; ++i) {
      const bool worker = i < workers;
      agents_.push_back(std::make_unique<LoadAgent>(
          coordinator_.address(), absl::StrCat(worker ? "w" : "v", i),
          worker ? v1::ROLE_WORKER : v1::ROLE_VERIFIER, random_() | 1, &shared_));
      beat_due_.push_back(Now() + 0.5 * static_cast<double>(random_() % 1000) / 1000);
    }
    while (shared_.welcomed.load() < options_.agents && Now() < began + 60) Sleep(0.005);
    if (shared_.welcomed.load() < options_.agents)
      Fail(absl::StrCat("only ", shared_.welcomed.load(), " welcomed"));
    std::printf("connect  %d agents welcomed in %.2f s\n", options_.agents, Now() - began);
  }

  void SubmitJobs() {
    const double began = Now();
    auto channel = grpc::CreateChannel(coordinator_.address(), grpc::InsecureChannelCredentials());
    auto stub = v1::JobService::NewStub(channel);
    for (int i = 0; i < Jobs(); ++i) {
      v1::CreateJobRequest request;
      request.set_spec_yaml(absl::StrCat(
          "apiVersion: leap/v1\nkind: Job\nmetadata: {name: load}\nspec:\n  data: {paths: [/tmp], "
          "gate_sequences: 4}\n"
          "  train: {steps: 1000000}\n  workers: {replicas: ",
          options_.group, "}\n  verifiers: {max_replicas: ", std::max(1, options_.verifiers),
          "}\n  leap: {interval_steps: 50, warmup_steps: 0, policy: line-search,\n"
          "         regimes: [unknown, chaotic, transition, stable]}\n"));
      grpc::ClientContext context;
      v1::Job job;
      const grpc::Status status = stub->CreateJob(&context, request, &job);
      if (!status.ok()) Fail(status.error_message());
      Pace();
    }
    while (coordinator_.Metric("leap_jobs{state=\"RUNNING\"}") < Jobs()) {
      Pace();
      Sleep(0.02);
      if (Now() > began + 60) Fail("the jobs do not run");
    }
    std::printf("start    %d jobs of %d workers run after %.2f s\n", Jobs(), options_.group,
                Now() - began);
  }

  // Sends the heartbeats that are due.
  void Pace() {
    const double now = Now();
    for (size_t i = 0; i < agents_.size(); ++i) {
      if (beat_due_[i] > now) continue;
      beat_due_[i] = std::max(beat_due_[i] + 0.5, now);
      agents_[i]->Beat();
    }
  }

  void SnapshotOfAll(int64_t step) {
    std::set<std::string> jobs;
    for (auto& agent : agents_) {
      const std::string job = agent->Snapshot(step);
      if (!job.empty()) jobs.insert(job);
    }
    MutexLock lock(&shared_.mutex);
    for (const std::string& job : jobs) shared_.snapshots[{job, step}] = Now();
  }

  void Steady() {
    const Sample before = Take();
    const double end = Now() + options_.seconds;
    double snapshot_due = Now();
    for (int64_t step = 50; Now() < end; Sleep(0.005)) {
      Pace();
      if (Now() < snapshot_due) continue;
      snapshot_due += 2;
      SnapshotOfAll(step += 50);
    }
    Report("steady", before, Take());
    MutexLock lock(&shared_.mutex);
    auto& delays = shared_.task_delays;
    std::ranges::sort(delays);
    if (delays.empty()) return;
    std::printf(
        "         snapshot complete -> baseline task at the verifier: median %.1f ms, 99%% %.1f "
        "ms, of %zu; "
        "tasks %ld; leaps applied %.0f\n",
        1e3 * delays[delays.size() / 2], 1e3 * delays[delays.size() * 99 / 100], delays.size(),
        static_cast<long>(shared_.tasks.load()),
        coordinator_.Metric("leap_leaps_total{outcome=\"applied\"}"));
  }

  void Flood() {
    shared_.flood.store(true);
    for (auto& agent : agents_) agent->Beat();
    Sleep(1);
    const Sample before = Take();
    Sleep(options_.seconds);
    Report("flat out", before, Take());
    shared_.flood.store(false);
    std::printf("         sessions broken: %d; events refused: %.0f\n", shared_.broken.load(),
                coordinator_.Metric("leap_events_dropped_total"));
  }

  const Options options_;
  std::mt19937_64 random_;
  Coordinator coordinator_;
  Shared shared_;
  std::vector<std::unique_ptr<LoadAgent>> agents_;
  std::vector<double> beat_due_;
};

void PrintWhereAndWhat(int argc, char** argv, const Options& options) {
  std::printf("command ");
  for (int i = 0; i < argc; ++i) std::printf(" %s", argv[i]);
  utsname system;
  uname(&system);
  std::string model = "unknown CPU";
  for (absl::string_view line : absl::StrSplit(ReadFile("/proc/cpuinfo"), '\n')) {
    if (absl::StartsWith(line, "model name")) model = std::string(line.substr(line.find(':') + 2));
  }
  const char* commit = std::getenv("LEAP_COMMIT");
  std::printf("\nmachine  %s, %ld cores, Linux %s; load before %s", model.c_str(),
              sysconf(_SC_NPROCESSORS_ONLN), system.release, ReadFile("/proc/loadavg").c_str());
  std::printf("commit   %s   seed %lu\n",
              commit != nullptr ? commit : "(set LEAP_COMMIT=$(git rev-parse --short HEAD))",
              static_cast<unsigned long>(options.seed));
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("What a thousand agents cost the coordinator");
  app.add_option("coordinator", options.coordinator, "leap-coordinator's path")
      ->required()
      ->check(CLI::ExistingFile);
  app.add_option("--agents", options.agents)->check(CLI::Range(1, 20000))->capture_default_str();
  app.add_option("--group", options.group, "Main workers of a job")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--verifiers", options.verifiers, "Verifiers of a job")->check(CLI::Range(0, 100));
  app.add_option("--seconds", options.seconds, "Length of each phase")->capture_default_str();
  app.add_option("--seed", options.seed)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);  // the coordinator inherits it
  PrintWhereAndWhat(argc, argv, options);
  std::fflush(stdout);
  Load(options).Run();
  return 0;
}

}  // namespace
}  // namespace leap

int main(int argc, char** argv) { return leap::Main(argc, argv); }
