// Who may call what, asked of the servers themselves: every RPC of the wire, by everybody. An empty
// request is enough, as a caller is looked at before what it says.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "coordinator/test_cluster.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "leap/v1/agent.pb.h"
#include "leap/v1/job.pb.h"
#include "leap/v1/snapshot.pb.h"
#include "service/channel.h"
#include "service/rpc_status.h"
#include "service/snapshot_server.h"
#include "service/test_dir.h"

namespace leap {
namespace {

struct Rule {
  const char* method;
  std::vector<std::string> may;  // the names of these roles; nobody else
};

const Rule kRules[] = {
    {"leap.v1.JobService/CreateJob", {"submitter", "operator"}},
    {"leap.v1.JobService/GetJob", {"viewer", "submitter", "operator"}},
    {"leap.v1.JobService/ListJobs", {"viewer", "submitter", "operator"}},
    {"leap.v1.JobService/WatchJob", {"viewer", "submitter", "operator"}},
    {"leap.v1.JobService/CancelJob", {"submitter", "operator"}},
    {"leap.v1.JobService/PauseJob", {"submitter", "operator"}},
    {"leap.v1.JobService/ResumeJob", {"submitter", "operator"}},
    {"leap.v1.JobService/ListSnapshots", {"viewer", "submitter", "operator"}},
    {"leap.v1.JobService/ListCandidates", {"viewer", "submitter", "operator"}},
    {"leap.v1.JobService/ListLeaps", {"viewer", "submitter", "operator"}},
    {"leap.v1.JobService/ListEvents", {"viewer", "submitter", "operator"}},
    {"leap.v1.JobService/ListAgents", {"viewer", "submitter", "operator"}},
    {"leap.v1.AgentService/Session", {"worker"}},
    {"leap.v1.SnapshotService/Fetch", {"worker", "operator"}},
    {"leap.v1.SnapshotService/ListHoldings", {"worker", "operator"}},
};

class NothingHeld final : public SnapshotSource {
 public:
  absl::StatusOr<PinnedRange> Pin(const v1::FetchRequest&) override {
    return absl::NotFoundError("nothing is held");
  }
  std::vector<v1::Holding> ListHoldings(const std::string&) override { return {}; }
};

class Access : public testing::Test {
 protected:
  Access() {
    for (const char* role : {"viewer", "submitter", "operator", "worker"}) {
      tokens_[role] = absl::StrCat("token-of-the-", role);
      absl::StrAppend(&table_, tokens_[role], " ", role, " some-", role, "\n");
    }
    tokens_["nobody"] = "";
    tokens_["a stranger"] = "token-that-is-in-no-table";
    auth_options_ = {.required = true, .token_file = dir_.Write("tokens", table_)};
    coordinator_ = std::make_unique<TestCoordinator>(
        TestCoordinatorOptions{.state_dir = dir_.path(), .auth = auth_options_});
    auth_ = *Authenticator::Create(auth_options_);
    snapshots_ = MakeSnapshotService(&held_, auth_.get());
    agent_ = *RpcServer::Start({}, {snapshots_.get()});
  }
  ~Access() override { agent_->Shutdown(absl::ZeroDuration()); }

  // How a call of `method` ends that says nothing. On the wire a unary call is a stream of one
  // message.
  absl::Status Call(const std::string& method, const std::string& token) {
    const bool of_agent = method.find("SnapshotService") != std::string::npos;
    const ChannelOptions options{.token = token};
    const auto channel =
        *MakeChannel(of_agent ? agent_->address() : coordinator_->address(), options);
    const std::string path = absl::StrCat("/", method);
    const grpc::internal::RpcMethod rpc(path.c_str(), grpc::internal::RpcMethod::BIDI_STREAMING);
    grpc::ClientContext context;
    PrepareCall(options, absl::Seconds(20), &context);
    const std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream(
        grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
            channel.get(), rpc, &context));
    const grpc::Slice empty;
    stream->Write(grpc::ByteBuffer(&empty, 1));
    stream->WritesDone();
    grpc::ByteBuffer answer;
    while (stream->Read(&answer)) {
    }
    return FromGrpcStatus(stream->Finish());
  }

  TestDir dir_;
  std::string table_;
  std::map<std::string, std::string> tokens_;  // by role
  AuthOptions auth_options_;
  std::unique_ptr<TestCoordinator> coordinator_;
  NothingHeld held_;
  std::unique_ptr<Authenticator> auth_;
  std::unique_ptr<grpc::Service> snapshots_;
  std::unique_ptr<RpcServer> agent_;
};

TEST_F(Access, IsWhatTheTableSaysForEveryRoleAndEveryCall) {
  for (const Rule& rule : kRules) {
    for (const auto& [role, token] : tokens_) {
      SCOPED_TRACE(absl::StrCat(role, " calls ", rule.method));
      const absl::Status end = Call(rule.method, token);
      if (role == "nobody" || role == "a stranger") {
        EXPECT_THAT(end, HasReason(ErrorReason::kUnauthenticated));
      } else if (std::ranges::count(rule.may, role) == 0) {
        EXPECT_THAT(end, HasReason(ErrorReason::kPermissionDenied));
      } else {
        // It is heard: done, or refused for what it says.
        EXPECT_TRUE(end.ok() || absl::IsNotFound(end) || absl::IsInvalidArgument(end)) << end;
      }
    }
  }
}

TEST_F(Access, TheTableHasEveryCallOfTheWire) {
  std::vector<std::string> wire, table;
  for (const auto* file : {v1::Job::descriptor()->file(), v1::Hello::descriptor()->file(),
                           v1::FetchRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      const auto* service = file->service(s);
      for (int m = 0; m < service->method_count(); ++m) {
        wire.push_back(absl::StrCat(service->full_name(), "/", service->method(m)->name()));
      }
    }
  }
  for (const Rule& rule : kRules) table.emplace_back(rule.method);
  EXPECT_THAT(table, testing::UnorderedElementsAreArray(wire));
}

}  // namespace
}  // namespace leap
