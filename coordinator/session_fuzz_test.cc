// A scripted cluster of paper (coordinator/paper_cluster.h) that leaps, while its agents' messages
// are mutated in bytes and in fields, invented, repeated, lost, and said under another's name:
// never a crash, never a loop, never a commit that nobody honest scored; and once it is over, fresh
// agents leap again.
//
//   LEAP_FUZZ_SECONDS=600 session_fuzz_test        longer
//   LEAP_FUZZ_SEED=7 session_fuzz_test             one seed, which a failure prints
#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <random>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "coordinator/paper_cluster.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/protobuf/stubs/logging.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

constexpr int kRounds = 120;
constexpr int kAfter = 400;  // rounds at most until they leap again: failed epochs back off to 10 s

// How often, in a thousand messages.
struct Spoil {
  int mutate = 0;
  int repeat = 0;
  int lose = 0;
  int impersonate = 0;
  int lie = 0;     // a field of it
  int invent = 0;  // a message of any kind besides
};

class Spoiler {
 public:
  Spoiler(uint64_t seed, const Spoil& spoil) : random_(seed), spoil_(spoil) {}

  PaperCluster::Said operator()(const std::string& agent, const v1::AgentMessage& message) {
    PaperCluster::Said said;
    if (Chance(spoil_.lose)) return said;
    static constexpr const char* kNames[] = {"w0", "w1", "v0", "v1"};
    const std::string who =
        Chance(spoil_.impersonate) ? kNames[random_() % std::size(kNames)] : agent;
    v1::AgentMessage spoiled = message;
    if (Chance(spoil_.lie)) Lie(&spoiled);
    if (Chance(spoil_.invent)) said.emplace_back(who, Invent());
    if (!Chance(spoil_.mutate) || Mutate(&spoiled)) said.emplace_back(who, spoiled);
    while (Chance(spoil_.repeat)) said.emplace_back(who, message);
    return said;
  }

 private:
  bool Chance(int in_a_thousand) { return static_cast<int>(random_() % 1000) < in_a_thousand; }

  // Flips, sets or swaps bytes of the serialized message; false if it parses no more.
  bool Mutate(v1::AgentMessage* message) {
    std::string bytes = message->SerializeAsString();
    if (bytes.empty()) return true;
    for (int n = static_cast<int>(random_() % 3); n >= 0; --n) {
      char& byte = bytes[random_() % bytes.size()];
      constexpr char kEdges[] = {0, 1, 0x7f, '\x80', '\xff'};
      switch (random_() % 4) {
        case 0:
          byte = static_cast<char>(byte ^ (1 << (random_() % 8)));
          break;
        case 1:
          byte = static_cast<char>(random_());
          break;
        case 2:
          byte = kEdges[random_() % std::size(kEdges)];
          break;
        default:
          std::swap(byte, bytes[random_() % bytes.size()]);
      }
    }
    return message->ParseFromString(bytes);
  }

  v1::AgentMessage Invent() {
    v1::AgentMessage message;
    const auto* const kinds = v1::AgentMessage::descriptor()->oneof_decl(0);
    const auto* const kind = kinds->field(static_cast<int>(random_() % kinds->field_count()));
    auto* const body = message.GetReflection()->MutableMessage(&message, kind);
    for (int i = 0; i < body->GetDescriptor()->field_count(); ++i) SetField(body, i);
    return message;
  }

  // Another value for one field.
  void Lie(v1::AgentMessage* message) {
    const auto* const kind = message->GetReflection()->GetOneofFieldDescriptor(
        *message, v1::AgentMessage::descriptor()->oneof_decl(0));
    auto* const body = message->GetReflection()->MutableMessage(message, kind);
    const int fields = body->GetDescriptor()->field_count();
    if (fields > 0) SetField(body, static_cast<int>(random_() % fields));
  }

  void SetField(google::protobuf::Message* body, int index) {
    using Field = google::protobuf::FieldDescriptor;
    const Field* const field = body->GetDescriptor()->field(index);
    const auto* const reflection = body->GetReflection();
    const int64_t number = Number();
    const double real = Real();
    if (field->is_repeated()) return SetRepeated(body, field);
    switch (field->cpp_type()) {
      case Field::CPPTYPE_INT32:
        return reflection->SetInt32(body, field, static_cast<int32_t>(number));
      case Field::CPPTYPE_INT64:
        return reflection->SetInt64(body, field, number);
      case Field::CPPTYPE_UINT64:
        return reflection->SetUInt64(body, field, static_cast<uint64_t>(number));
      case Field::CPPTYPE_DOUBLE:
        return reflection->SetDouble(body, field, real);
      case Field::CPPTYPE_BOOL:
        return reflection->SetBool(body, field, random_() % 2 == 0);
      case Field::CPPTYPE_STRING:
        return reflection->SetString(body, field, Word());
      default:
        return;
    }
  }

  void SetRepeated(google::protobuf::Message* body,
                   const google::protobuf::FieldDescriptor* field) {
    using Field = google::protobuf::FieldDescriptor;
    const auto* const reflection = body->GetReflection();
    if (random_() % 2 == 0) return reflection->ClearField(body, field);
    for (int n = static_cast<int>(random_() % 4); n >= 0; --n) {
      if (field->cpp_type() == Field::CPPTYPE_FLOAT) {
        reflection->AddFloat(body, field, static_cast<float>(Real()));
      }
      if (field->cpp_type() == Field::CPPTYPE_DOUBLE) reflection->AddDouble(body, field, Real());
      if (field->cpp_type() == Field::CPPTYPE_UINT64) {
        reflection->AddUInt64(body, field, static_cast<uint64_t>(Number()));
      }
    }
  }

  int64_t Number() {
    constexpr int64_t kEdges[] = {-1, std::numeric_limits<int64_t>::min(),
                                  std::numeric_limits<int64_t>::max(), int64_t{1} << 53,
                                  int64_t{1} << 40};
    const uint64_t choice = random_() % 16;
    if (choice < std::size(kEdges)) return kEdges[choice];
    return static_cast<int64_t>(choice < 12 ? random_() % 4 : random_() % 200);
  }

  double Real() {
    constexpr double kEdges[] = {0,
                                 -1,
                                 1e300,
                                 2.5,
                                 std::numeric_limits<double>::infinity(),
                                 std::numeric_limits<double>::quiet_NaN()};
    return kEdges[random_() % std::size(kEdges)];
  }

  std::string Word() {
    static constexpr const char* kWords[] = {"a-1", "a-1", "a-1", "", "b", "nan-loss"};
    return kWords[random_() % std::size(kWords)];
  }

  std::mt19937_64 random_;
  const Spoil spoil_;
};

struct Played {
  int64_t steps = 0;    // of the machine
  int64_t refused = 0;  // by the wire
  size_t leapt = 0;     // while messages were spoiled
  bool ended = false;   // the job: a rank that lies may end its own
};

// Every hang has a reason.
void CheckWaits(const machine::JobView& job, absl::Time now) {
  if (machine::IsEnded(job.record.state)) return;
  EXPECT_FALSE(job.waits.empty()) << machine::JobStateName(job.record.state) << ": "
                                  << job.record.state_reason;
  for (const machine::Wait& wait : job.waits) {
    EXPECT_FALSE(wait.reason.empty() || wait.resolution.empty()) << wait.what;
    EXPECT_LE(wait.since, now) << wait.what;
    EXPECT_GT(wait.since, now - absl::Minutes(1)) << wait.what << ": " << wait.reason;
  }
}

Played PlayOnce(uint64_t seed, const Spoil& spoil) {
  PaperCluster cluster(seed);
  cluster.set_ears(Spoiler(seed, spoil));
  for (int round = 0; round < kRounds; ++round) {
    cluster.Play(1);
    CheckWaits(cluster.job(), cluster.now());
  }
  const size_t leapt = cluster.applied().size();
  cluster.set_ears({});
  cluster.AddAgent("w2", v1::ROLE_WORKER);
  cluster.AddAgent("w3", v1::ROLE_WORKER);
  cluster.AddAgent("v2", v1::ROLE_VERIFIER);
  const auto over = [&] {
    const machine::JobRecord& job = cluster.job().record;
    return machine::IsEnded(job.state) || job.leaps.policy_off || cluster.applied().size() > leapt;
  };
  for (int i = 0; i < kAfter && !over(); ++i) cluster.Play(1);
  EXPECT_TRUE(over()) << "the honest ones leap no more: " << cluster.job().record.state_reason
                      << "; last event: "
                      << (cluster.events().empty() ? "" : cluster.events().back()) << "; leap "
                      << cluster.leap().leap << " is "
                      << machine::LeapStateName(cluster.leap().state);
  return {.steps = cluster.steps(),
          .refused = cluster.refused(),
          .leapt = leapt,
          .ended = machine::IsEnded(cluster.job().record.state)};
}

TEST(SessionFuzz, WhatIsNotSpoiledLeaps) {
  const Played played = PlayOnce(1, {});
  EXPECT_GE(played.leapt, 5u) << "the script must reach the states that are to be fuzzed";
  EXPECT_EQ(played.refused, 0);
  EXPECT_FALSE(played.ended);
}

// A seed decides what is spoiled and how often.
Spoil SpoilOf(uint64_t seed) {
  switch (seed % 6) {
    case 0:
      return {.mutate = 20, .repeat = 20, .lose = 20, .impersonate = 20};
    case 1:
      return {.mutate = 5, .repeat = 100, .lose = 5};
    case 2:
      return {.repeat = 50, .impersonate = 10};
    case 3:
      return {.lie = 30};
    case 4:
      return {.invent = 10};
    default:
      return {
          .mutate = 200, .repeat = 100, .lose = 100, .impersonate = 100, .lie = 50, .invent = 100};
  }
}

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  int64_t value = 0;
  const char* const text = std::getenv(name);
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

TEST(SessionFuzz, SpoiledMessagesStopNobodyElse) {
  google::protobuf::LogSilencer silencer;
  const int64_t only = FromEnvironment("LEAP_FUZZ_SEED", -1);
  const absl::Time end = RealClock().Now() + absl::Seconds(FromEnvironment("LEAP_FUZZ_SECONDS", 4));
  Played sum;
  int64_t runs = 0, leapt = 0, ended = 0;
  for (int64_t seed = std::max<int64_t>(only, 0); runs == 0 || only < 0; ++seed) {
    if (runs > 0 && RealClock().Now() > end) break;
    SCOPED_TRACE(absl::StrCat("replay: LEAP_FUZZ_SEED=", seed, " session_fuzz_test"));
    const Played played = PlayOnce(seed, SpoilOf(seed));
    if (HasFailure()) return;
    ++runs;
    leapt += played.leapt > 0;
    ended += played.ended;
    sum.steps += played.steps;
    sum.refused += played.refused;
    sum.leapt += played.leapt;
  }
  std::printf(
      "%lld runs (%lld jobs ended by a lie), %lld events, %lld messages refused, %zu leaps\n",
      static_cast<long long>(runs), static_cast<long long>(ended),
      static_cast<long long>(sum.steps), static_cast<long long>(sum.refused), sum.leapt);
  if (only >= 0) return;
  EXPECT_GT(sum.refused, 0);
  EXPECT_GE(leapt * 2, runs) << "too few runs get deep enough for the fuzz to be worth anything";
}

}  // namespace
}  // namespace leap
