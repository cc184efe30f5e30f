#include "service/server.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/impl/client_unary_call.h"
#include "gtest/gtest.h"
#include "leap/v1/job.grpc.pb.h"
#include "service/channel.h"
#include "service/rpc_status.h"
#include "service/test_certificates.h"
#include "service/test_dir.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

// Answers GetJob with the name asked for.
class Echo final : public v1::JobService::Service {
 public:
  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest* request,
                      v1::Job* job) override {
    job->set_job(request->job());
    return grpc::Status::OK;
  }
};

absl::Status CallEcho(const std::string& address, const ChannelOptions& options,
                      const std::string& name = "a") {
  auto channel = MakeChannel(address, options);
  if (!channel.ok()) return channel.status();
  grpc::ClientContext context;
  PrepareCall(options, absl::Seconds(10), &context);
  v1::GetJobRequest request;
  request.set_job(name);
  v1::Job job;
  return FromGrpcStatus(v1::JobService::NewStub(*channel)->GetJob(&context, request, &job));
}

TEST(RpcServer, ReportsTheFreePortItTook) {
  TestDir dir;
  Echo echo;
  ASSERT_OK_AND_ASSIGN(auto server, RpcServer::Start({.port_file = dir.path() + "/port"}, {&echo}));
  EXPECT_GT(server->port(), 0);
  EXPECT_EQ(server->address(), absl::StrCat("127.0.0.1:", server->port()));
  EXPECT_EQ(TestDir::Read(dir.path() + "/port"), absl::StrCat(server->port(), "\n"));
  EXPECT_OK(CallEcho(server->address(), {}));
}

TEST(RpcServer, SaysThatItsPortIsTaken) {
  Echo echo;
  ASSERT_OK_AND_ASSIGN(auto server, RpcServer::Start({}, {&echo}));
  const auto second = RpcServer::Start({.listen = server->address()}, {&echo});
  EXPECT_THAT(second, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("is taken")));
  EXPECT_THAT(second, HasReason(ErrorReason::kPortTaken));
}

TEST(RpcServer, RefusesAddressesItCannotListenAt) {
  Echo echo;
  EXPECT_THAT(RpcServer::Start({.listen = "7070"}, {&echo}),
              HasReason(ErrorReason::kAddressInvalid));
  EXPECT_THAT(RpcServer::Start({.listen = "192.0.2.1:7070", .insecure_anywhere = true}, {&echo}),
              HasReason(ErrorReason::kAddressInvalid));
}

TEST(RpcServer, ListensBeyondThisMachineWithoutTlsOnlyWhenAskedTo) {
  Echo echo;
  const auto refused = RpcServer::Start({.listen = "0.0.0.0:0"}, {&echo});
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kFailedPrecondition,
                                HasSubstr("--insecure-listen-anywhere")));
  EXPECT_OK(RpcServer::Start({.listen = "0.0.0.0:0", .insecure_anywhere = true}, {&echo}));
}

TEST(RpcServer, AdvertisesWhatOthersCanDial) {
  Echo echo;
  ASSERT_OK_AND_ASSIGN(
      auto server, RpcServer::Start({.listen = "0.0.0.0:0", .insecure_anywhere = true}, {&echo}));
  EXPECT_EQ(server->AdvertisedAddress("node-3"), absl::StrCat("node-3:", server->port()));
  EXPECT_EQ(server->AdvertisedAddress("node-3:81"), "node-3:81");
  EXPECT_THAT(server->AdvertisedAddress(""), ::testing::Not(HasSubstr("0.0.0.0")));
}

TEST(RpcServer, RefusesAMessageBeyondItsLimit) {
  Echo echo;
  ASSERT_OK_AND_ASSIGN(auto server, RpcServer::Start({.max_receive_bytes = 1000}, {&echo}));
  EXPECT_OK(CallEcho(server->address(), {}, std::string(900, 'x')));
  EXPECT_THAT(CallEcho(server->address(), {}, std::string(2000, 'x')),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(RpcServer, AnswersHealthChecks) {
  Echo echo;
  ASSERT_OK_AND_ASSIGN(auto server, RpcServer::Start({}, {&echo}));
  ASSERT_OK_AND_ASSIGN(auto channel, MakeChannel(server->address(), {}));
  grpc::internal::RpcMethod check("/grpc.health.v1.Health/Check",
                                  grpc::internal::RpcMethod::NORMAL_RPC);
  grpc::ClientContext context;
  PrepareCall({}, absl::Seconds(10), &context);
  grpc::Slice empty("", 0);
  grpc::ByteBuffer request(&empty, 1), response;
  ASSERT_TRUE(
      grpc::internal::BlockingUnaryCall(channel.get(), check, &context, request, &response).ok());
  grpc::Slice slice;
  ASSERT_TRUE(response.DumpToSingleSlice(&slice).ok());
  EXPECT_EQ(std::string(slice.begin(), slice.end()), std::string("\x08\x01"));  // status: SERVING
}

TEST(RpcServer, TellsItsServicesByReflection) {
  Echo echo;
  ASSERT_OK_AND_ASSIGN(auto server, RpcServer::Start({}, {&echo}));
  ASSERT_OK_AND_ASSIGN(auto channel, MakeChannel(server->address(), {}));
  grpc::internal::RpcMethod ask("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                                grpc::internal::RpcMethod::BIDI_STREAMING);
  grpc::ClientContext context;
  PrepareCall({}, absl::Seconds(10), &context);
  const std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream(
      grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
          channel.get(), ask, &context));
  grpc::Slice list_services("\x3a\x00", 2);  // field 7, any text
  grpc::ByteBuffer response;
  ASSERT_TRUE(stream->Write(grpc::ByteBuffer(&list_services, 1)));
  ASSERT_TRUE(stream->WritesDone());
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
  grpc::Slice slice;
  ASSERT_TRUE(response.DumpToSingleSlice(&slice).ok());
  const std::string services(slice.begin(), slice.end());
  EXPECT_THAT(services, HasSubstr("leap.v1.JobService"));
  EXPECT_THAT(services, HasSubstr("grpc.health.v1.Health"));
}

TEST(Channel, DialsBeyondThisMachineWithoutTlsOnlyWhenAskedTo) {
  EXPECT_THAT(MakeChannel("10.0.0.1:1", {}), HasReason(ErrorReason::kTlsInvalid));
  EXPECT_OK(MakeChannel("10.0.0.1:1", {.insecure_anywhere = true}));
  EXPECT_THAT(MakeChannel("localhost:0", {}), HasReason(ErrorReason::kAddressInvalid));
}

TEST(Channel, ReadsATokenThatIsKeptToItsOwner) {
  TestDir dir;
  const std::string path = dir.Write("token", "0123456789abcdef\n");
  EXPECT_THAT(ReadToken(path), IsOkAndHolds("0123456789abcdef"));
  std::filesystem::permissions(path, std::filesystem::perms::others_read,
                               std::filesystem::perm_options::add);
  EXPECT_THAT(ReadToken(path), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("chmod")));
  EXPECT_THAT(ReadToken(dir.Write("empty", "")), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ReadToken(dir.Write("spaces", "two words\n")),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

class Tls : public testing::Test {
 protected:
  TestDir dir_;
  TestAuthority authority_{dir_.path()};
  TlsFiles server_ = authority_.Issue("server", "coordinator", {"DNS:localhost", "IP:127.0.0.1"});
  TlsFiles client_ = authority_.Issue("client", "leap:viewer:ann", {});
  Echo echo_;
};

TEST_F(Tls, LetsInThoseWithACertificateOfTheAuthority) {
  ASSERT_OK_AND_ASSIGN(auto server, RpcServer::Start({.tls = server_}, {&echo_}));
  EXPECT_OK(CallEcho(server->address(), {.tls = client_}));
  EXPECT_OK(CallEcho(absl::StrCat("localhost:", server->port()), {.tls = client_}));
}

TEST_F(Tls, KeepsOutThoseWithout) {
  ASSERT_OK_AND_ASSIGN(auto server, RpcServer::Start({.tls = server_}, {&echo_}));
  TestDir elsewhere;
  TestAuthority stranger(elsewhere.path());
  TlsFiles forged = stranger.Issue("client", "leap:operator", {});
  forged.ca = authority_.ca_path();
  EXPECT_THAT(CallEcho(server->address(), {.tls = forged}),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(CallEcho(server->address(), {.tls = {.ca = authority_.ca_path()}}),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(CallEcho(server->address(), {}), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(Tls, DoesNotTrustAServerOfAnotherAuthorityOrName) {
  TestDir elsewhere;
  TestAuthority stranger(elsewhere.path());
  ASSERT_OK_AND_ASSIGN(
      auto forged,
      RpcServer::Start({.tls = stranger.Issue("server", "coordinator", {"IP:127.0.0.1"})},
                       {&echo_}));
  EXPECT_THAT(CallEcho(forged->address(), {.tls = client_}),
              StatusIs(absl::StatusCode::kUnavailable));
  ASSERT_OK_AND_ASSIGN(
      auto misnamed,
      RpcServer::Start({.tls = authority_.Issue("other", "x", {"DNS:other.example"})}, {&echo_}));
  EXPECT_THAT(CallEcho(misnamed->address(), {.tls = client_}),
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(Tls, UsesARotatedCertificateWithoutARestart) {
  ASSERT_OK_AND_ASSIGN(auto server, RpcServer::Start({.tls = server_}, {&echo_}));
  // A client that believes only in the name the new certificate has.
  ChannelOptions options{.tls = client_, .server_name = "rotated.example"};
  ASSERT_THAT(CallEcho(server->address(), options), StatusIs(absl::StatusCode::kUnavailable));
  authority_.Issue("server", "coordinator", {"DNS:rotated.example"});  // over the same files
  absl::Status status;
  const absl::Time give_up = RealClock().Now() + absl::Seconds(20);
  do {
    status = CallEcho(server->address(), options);
  } while (!status.ok() && RealClock().Now() < give_up);
  EXPECT_OK(status);
}

TEST_F(Tls, NamesTheFileThatCannotBeUsed) {
  const auto error = [](TlsFiles files) { return CheckTlsFiles(files); };
  EXPECT_THAT(error({.certificate = server_.certificate}), HasReason(ErrorReason::kTlsInvalid));
  EXPECT_THAT(error({.certificate = "/no/such", .key = server_.key}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("/no/such")));
  EXPECT_THAT(error({.certificate = server_.certificate, .key = client_.key}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("does not belong")));
  EXPECT_THAT(error({.ca = dir_.Write("junk", "hello")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("junk")));
  EXPECT_OK(error({}));
}

TEST(TlsHint, NamesTheFlagThatMendsAFailedConnect) {
  const absl::string_view closed =
      "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:1.2.3.4:5: Socket closed";
  EXPECT_THAT(TlsHint(closed, {}), HasSubstr("give --tls-ca"));
  EXPECT_THAT(TlsHint(closed, {.ca = "ca"}), HasSubstr("give --tls-cert"));
  EXPECT_THAT(TlsHint(closed, {.certificate = "c", .key = "k", .ca = "ca"}),
              HasSubstr("does not believe --tls-cert"));
  EXPECT_THAT(TlsHint("SSL routines::certificate verify failed", {.ca = "ca"}),
              HasSubstr("not signed by --tls-ca"));
  for (const absl::string_view other :
       {"failed to connect to all addresses; last error: Connection refused", "Socket closed",
        "there is no job 'a'"}) {
    EXPECT_EQ(TlsHint(other, {}), "") << other;
  }
}

}  // namespace
}  // namespace leap
