#include "service/flags.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "gtest/gtest.h"
#include "service/test_dir.h"

namespace leap {
namespace {

struct Parsed {
  TlsFiles tls;
  ServerFlags server;
  ChannelFlags channel;
  std::optional<int> code;
};

Parsed Parse(std::vector<std::string> words) {
  Parsed parsed;
  CLI::App app("program");
  AddTlsFlags(&app, &parsed.tls);
  AddServerFlags(&app, &parsed.server);
  AddChannelFlags(&app, &parsed.channel);
  words.insert(words.begin(), "program");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  parsed.code = ParseFlags(&app, static_cast<int>(argv.size()), argv.data());
  return parsed;
}

TEST(Flags, AreReadIntoOptions) {
  const Parsed parsed =
      Parse({"--listen", "0.0.0.0:5", "--insecure-listen-anywhere", "--coordinator", "c:1",
             "--tls-ca", "ca.pem", "--token-file", "tokens"});
  ASSERT_EQ(parsed.code, std::nullopt);
  const RpcServerOptions server = parsed.server.ToServerOptions(parsed.tls);
  EXPECT_EQ(server.listen, "0.0.0.0:5");
  EXPECT_TRUE(server.insecure_anywhere);
  EXPECT_TRUE(server.optional_client_certificate) << "a token will do, too";
  EXPECT_EQ(server.tls.ca, "ca.pem");
  EXPECT_TRUE(parsed.server.ToAuthOptions(parsed.tls).required);
  EXPECT_EQ(parsed.channel.coordinator, "c:1");
}

TEST(Flags, AskNobodyForARoleWhereThereIsNothingToShow) {
  const Parsed parsed = Parse({});
  EXPECT_FALSE(parsed.server.ToAuthOptions(parsed.tls).required);
  EXPECT_FALSE(parsed.server.ToServerOptions(parsed.tls).insecure_anywhere);
}

TEST(Flags, KeepWhatKnowsNoTlsOnThisMachineUnlessAskedByAWordOfItsOwn) {
  const Parsed plain = Parse({"--metrics-listen", "0.0.0.0:0"});
  EXPECT_FALSE(plain.server.ToMetricsOptions(kInWorker, "1").insecure_anywhere);
  for (const char* here : {"127.0.0.1", "localhost", "::1"}) {
    EXPECT_OK(plain.server.CheckBindHost(here));
  }
  for (const char* there : {"10.1.2.3", "0.0.0.0", "worker-1", "::"}) {
    EXPECT_THAT(plain.server.CheckBindHost(there), HasReason(ErrorReason::kTlsInvalid)) << there;
  }
  const Parsed asked = Parse({"--insecure-plaintext-anywhere"});
  EXPECT_TRUE(asked.server.ToMetricsOptions(kInWorker, "1").insecure_anywhere);
  EXPECT_OK(asked.server.CheckBindHost("10.1.2.3"));
  EXPECT_FALSE(asked.server.ToServerOptions(asked.tls).insecure_anywhere) << "gRPC wants its own";
  EXPECT_OK(Parse({"--insecure-listen-anywhere"}).server.CheckBindHost("10.1.2.3"));
}

TEST(Flags, ExitWithZeroAfterHelpAndTwoAfterAMistake) {
  EXPECT_EQ(Parse({"--help"}).code, 0);
  EXPECT_EQ(Parse({"--bogus"}).code, 2);
  EXPECT_EQ(Parse({"--listen"}).code, 2);
}

TEST(Flags, RefuseWhatIsNoAddressBeforeAnythingStarts) {
  for (const char* flag : {"--listen", "--metrics-listen", "--coordinator"}) {
    for (const char* bad : {"nowhere", "host:99999", "host:", "a b:1"}) {
      EXPECT_EQ(Parse({flag, bad}).code, 2) << flag << " " << bad;
    }
  }
  for (const char* bad : {"a b", "host:99999", "host:x"}) {
    EXPECT_EQ(Parse({"--advertise", bad}).code, 2) << bad;
  }
  for (const char* good : {"host", "host:81", "::1", "[::1]:81", "10.0.0.1"}) {
    EXPECT_EQ(Parse({"--advertise", good}).code, std::nullopt) << good;
  }
}

TEST(Flags, TakeTheTokenFromAFileOrTheEnvironment) {
  TestDir dir;
  Parsed parsed = Parse({"--token-path", dir.Write("token", "from-the-file\n")});
  setenv("LEAP_TOKEN", "from-the-environment", 1);
  EXPECT_EQ(parsed.channel.ToChannelOptions(parsed.tls)->token, "from-the-file");
  parsed.channel.token_path.clear();
  EXPECT_EQ(parsed.channel.ToChannelOptions(parsed.tls)->token, "from-the-environment");
  unsetenv("LEAP_TOKEN");
  EXPECT_EQ(parsed.channel.ToChannelOptions(parsed.tls)->token, "");
  parsed.channel.token_path = "/no/such";
  EXPECT_THAT(parsed.channel.ToChannelOptions(parsed.tls),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace leap
