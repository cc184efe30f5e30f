#include "service/address.h"

#include <fstream>
#include <sstream>

#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

TEST(ParseHostPort, ReadsEveryForm) {
  ASSERT_OK_AND_ASSIGN(HostPort named, ParseHostPort("node-3.local:7070"));
  EXPECT_EQ(named.host, "node-3.local");
  EXPECT_EQ(named.port, 7070);
  ASSERT_OK_AND_ASSIGN(HostPort six, ParseHostPort("[::1]:0"));
  EXPECT_EQ(six.host, "::1");
  EXPECT_EQ(JoinHostPort(six), "[::1]:0");
  ASSERT_OK_AND_ASSIGN(HostPort all, ParseHostPort(":9"));
  EXPECT_EQ(all.host, "");
}

TEST(ParseHostPort, RefusesWhatIsNoAddress) {
  for (const char* wrong :
       {"", "7070", "host", "host:", "host:x", "host:65536", "host:-1", "::1:80", "http://host:80",
        "host:+80", "host: 80", "a b:80", "host:99999999999999"}) {
    EXPECT_THAT(ParseHostPort(wrong), HasReason(ErrorReason::kAddressInvalid)) << wrong;
  }
}

TEST(IsLoopback, KnowsThisMachineOnly) {
  for (const char* yes : {"127.0.0.1:1", "127.8.9.10:1", "localhost:1", "LocalHost:1", "[::1]:1"}) {
    EXPECT_TRUE(IsLoopback(yes)) << yes;
  }
  for (const char* no : {"0.0.0.0:1", "127.0.0.1.example.com:1", "127.example.com:1", "10.0.0.1:1",
                         ":1", "[::]:1", "localhost.example.com:1", "nonsense"}) {
    EXPECT_FALSE(IsLoopback(no)) << no;
  }
}

TEST(WriteFileAtomically, NamesAFileItCannotWrite) {
  EXPECT_THAT(WriteFileAtomically("/nowhere/at/all", "1"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("/nowhere/at/all")));
}

}  // namespace
}  // namespace leap
