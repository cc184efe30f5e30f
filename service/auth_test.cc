#include "service/auth.h"

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/log.h"
#include "base/status_matchers.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "leap/v1/agent.pb.h"
#include "leap/v1/job.grpc.pb.h"
#include "leap/v1/snapshot.pb.h"
#include "service/channel.h"
#include "service/rpc_status.h"
#include "service/server.h"
#include "service/test_certificates.h"
#include "service/test_dir.h"

namespace leap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A server whose GetJob asks `auth` about the method named in the request and answers with the
// caller's name.
class Door final : public v1::JobService::Service {
 public:
  Door(const TlsFiles& tls, const AuthOptions& options) {
    auth_ = *Authenticator::Create(options);
    server_ = *RpcServer::Start({.tls = tls, .optional_client_certificate = true}, {this});
  }
  ~Door() override { server_->Shutdown(absl::ZeroDuration()); }

  grpc::Status GetJob(grpc::ServerContext* context, const v1::GetJobRequest* request,
                      v1::Job* job) override {
    const auto caller = auth_->Check(*context, request->job());
    if (caller.ok()) job->set_name(caller->name);
    return ToGrpcStatus(caller.status());
  }

  // The caller's name, or why it may not.
  absl::StatusOr<std::string> Knock(const ChannelOptions& options, const std::string& method) {
    auto channel = MakeChannel(server_->address(), options);
    if (!channel.ok()) return channel.status();
    grpc::ClientContext context;
    PrepareCall(options, absl::Seconds(10), &context);
    v1::GetJobRequest request;
    request.set_job(method);
    v1::Job job;
    const grpc::Status status = v1::JobService::NewStub(*channel)->GetJob(&context, request, &job);
    if (!status.ok()) return FromGrpcStatus(status);
    return job.name();
  }

 private:
  std::unique_ptr<Authenticator> auth_;
  std::unique_ptr<RpcServer> server_;
};

const char kCreate[] = "/leap.v1.JobService/CreateJob";
const char kGet[] = "/leap.v1.JobService/GetJob";
const char kSession[] = "/leap.v1.AgentService/Session";
const char kFetch[] = "/leap.v1.SnapshotService/Fetch";
const std::string kViewerToken(32, 'v'), kSubmitterToken(32, 's'), kOperatorToken(32, 'o'),
    kWorkerToken(32, 'w');

class Tokens : public testing::Test {
 protected:
  std::string Table() const {
    return absl::StrCat("# who may call\n", kViewerToken, " viewer ann\n", kSubmitterToken,
                        " submitter ben\n\n", kOperatorToken, "  operator\tcat\n", kWorkerToken,
                        " worker gpu-pool\n");
  }
  TestDir dir_;
  std::string file_ = dir_.Write("tokens", Table());
};

TEST_F(Tokens, EachRoleMayWhatTheTableSays) {
  Door door({}, {.required = true, .token_file = file_});
  const std::map<std::string, std::map<std::string, bool>> expected = {
      {kViewerToken, {{kGet, true}, {kCreate, false}, {kSession, false}, {kFetch, false}}},
      {kSubmitterToken, {{kGet, true}, {kCreate, true}, {kSession, false}, {kFetch, false}}},
      {kOperatorToken, {{kGet, true}, {kCreate, true}, {kSession, false}, {kFetch, true}}},
      {kWorkerToken, {{kGet, false}, {kCreate, false}, {kSession, true}, {kFetch, true}}},
  };
  for (const auto& [token, methods] : expected) {
    for (const auto& [method, allowed] : methods) {
      const auto answer = door.Knock({.token = token}, method);
      EXPECT_EQ(answer.ok(), allowed) << token[0] << " " << method << " " << answer.status();
      if (!allowed) {
        EXPECT_THAT(answer, HasReason(ErrorReason::kPermissionDenied));
      }
    }
  }
  EXPECT_THAT(door.Knock({.token = kViewerToken}, kCreate),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("submitter")));
}

TEST_F(Tokens, RefusesThoseWithoutOrWithAWrongOne) {
  Door door({}, {.required = true, .token_file = file_});
  EXPECT_THAT(door.Knock({}, kGet), HasReason(ErrorReason::kUnauthenticated));
  for (const std::string& wrong :
       {std::string("x"), kViewerToken + "v", kViewerToken.substr(1), std::string("viewer")}) {
    const auto answer = door.Knock({.token = wrong}, kGet);
    EXPECT_THAT(answer, HasReason(ErrorReason::kUnauthenticated));
    EXPECT_THAT(answer, Not(StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr(kViewerToken))));
  }
}

TEST_F(Tokens, AreReadAgainWhenTheFileChanges) {
  Door door({}, {.required = true, .token_file = file_});
  const std::string fresh(32, 'f');
  std::filesystem::rename(dir_.Write("next", fresh + " viewer dan\n"), file_);
  EXPECT_THAT(door.Knock({.token = fresh}, kGet), IsOkAndHolds("dan"));
  EXPECT_THAT(door.Knock({.token = kViewerToken}, kGet), HasReason(ErrorReason::kUnauthenticated));
}

TEST_F(Tokens, KeepsTheGoodOnesWhenTheNewFileIsWrong) {
  Door door({}, {.required = true, .token_file = file_});
  ScopedLogCapture log;
  std::filesystem::rename(dir_.Write("next", "secret-secret-secret-secret emperor eve\n"), file_);
  EXPECT_THAT(door.Knock({.token = kViewerToken}, kGet), IsOkAndHolds("ann"));
  EXPECT_THAT(door.Knock({.token = kViewerToken}, kGet), IsOkAndHolds("ann"));
  ASSERT_EQ(log.lines().size(), 1u);
  EXPECT_THAT(log.lines()[0], HasSubstr("line 1"));
  EXPECT_THAT(log.lines()[0], Not(HasSubstr("secret-secret")));
}

TEST_F(Tokens, AFileThatCannotBeUsedIsRefusedWithItsLine) {
  const auto create = [&](absl::string_view text) {
    return Authenticator::Create({.required = true, .token_file = dir_.Write("bad", text)})
        .status();
  };
  EXPECT_THAT(create("\nshort viewer ann\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("line 2")));
  EXPECT_THAT(create(kViewerToken + " viewer\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("three")));
  EXPECT_THAT(create(kViewerToken + " root ann\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("viewer, ")));
  EXPECT_THAT(Authenticator::Create({.required = true, .token_file = "/no/such"}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("/no/such")));
}

TEST(Certificates, NameTheRoleInSanUnitOrCommonName) {
  TestDir dir;
  TestAuthority authority(dir.path());
  Door door(authority.Issue("server", "s", {"IP:127.0.0.1"}), {.required = true});
  const auto knock = [&](const TlsFiles& files, const char* method) {
    return door.Knock({.tls = files}, method);
  };
  EXPECT_THAT(knock(authority.Issue("a", "leap:worker:gpu-7", {}), kSession),
              IsOkAndHolds("gpu-7"));
  EXPECT_THAT(knock(authority.Issue("b", "node-8", {"URI:leap:worker"}), kSession),
              IsOkAndHolds("node-8"));
  EXPECT_THAT(knock(authority.Issue("c", "ben", {}, "leap:submitter"), kCreate),
              IsOkAndHolds("ben"));
  EXPECT_THAT(knock(authority.Issue("d", "leap:worker", {}), kCreate),
              HasReason(ErrorReason::kPermissionDenied));
  EXPECT_THAT(knock(authority.Issue("e", "leap:emperor", {}), kGet),
              HasReason(ErrorReason::kUnauthenticated));
  EXPECT_THAT(knock(authority.Issue("f", "nobody", {}), kGet),
              HasReason(ErrorReason::kUnauthenticated));
  EXPECT_THAT(knock(authority.Issue("g", "x,OU=leap:operator", {}), kGet),
              HasReason(ErrorReason::kUnauthenticated));
  EXPECT_THAT(knock({.ca = authority.ca_path()}, kGet), HasReason(ErrorReason::kUnauthenticated));
}

TEST(Authenticator, LetsEverybodyDoEverythingWhereNothingIsRequired) {
  Door door({}, {});
  EXPECT_THAT(door.Knock({}, kCreate), IsOkAndHolds("local"));
  EXPECT_THAT(door.Knock({}, kSession), IsOkAndHolds("local"));
}

TEST(MethodAccessTable, HasEveryMethodOfTheWire) {
  size_t methods = 0;
  for (const auto* file : {v1::GetJobRequest::descriptor()->file(), v1::Hello::descriptor()->file(),
                           v1::FetchRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        const std::string name = absl::StrCat("/", file->service(s)->full_name(), "/",
                                              file->service(s)->method(m)->name());
        bool found = false;
        for (const MethodAccess& access : MethodAccessTable())
          found = found || access.method == name;
        EXPECT_TRUE(found) << name;
        ++methods;
      }
    }
  }
  EXPECT_EQ(methods, MethodAccessTable().size());
}

TEST(Caller, ASubmitterSteersOnlyItsOwn) {
  const Caller ben{.name = "ben", .roles = static_cast<uint8_t>(AccessRole::kSubmitter)};
  const Caller cat{.name = "cat", .roles = static_cast<uint8_t>(AccessRole::kOperator)};
  EXPECT_TRUE(ben.MaySteer("ben"));
  EXPECT_FALSE(ben.MaySteer("ann"));
  EXPECT_TRUE(cat.MaySteer("ann"));
}

}  // namespace
}  // namespace leap
