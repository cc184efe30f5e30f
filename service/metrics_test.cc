#include "service/metrics.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "base/test_paths.h"
#include "core/acceptance.h"
#include "core/predictor.h"
#include "core/regime.h"
#include "gtest/gtest.h"
#include "service/test_dir.h"

namespace leap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::unique_ptr<Metrics> Fresh(MetricRoom room = kInCoordinator) {
  return *Metrics::Start({.room = room, .version = "1"});
}

const MetricLabel& LabelOf(Metric metric, size_t i) {
  return MetricTable()[static_cast<size_t>(metric)].labels[i];
}

// What a plain HTTP client gets.
std::string Get(int port, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{.sin_family = AF_INET,
                 .sin_port = htons(static_cast<uint16_t>(port)),
                 .sin_addr = {htonl(INADDR_LOOPBACK)}};
  std::string answer;
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0) {
    const std::string request = absl::StrCat("GET ", path, " HTTP/1.0\r\n\r\n");
    char buffer[4096];
    ssize_t n = send(fd, request.data(), request.size(), 0);
    while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0)
      answer.append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  return answer;
}

TEST(MetricTable, FollowsTheEnumAndTheRulesForNames) {
  ASSERT_EQ(MetricTable().size(), static_cast<size_t>(Metric::kMetricCount));
  std::set<std::string> names;
  for (size_t i = 0; i < MetricTable().size(); ++i) {
    const MetricDef& def = MetricTable()[i];
    EXPECT_EQ(static_cast<size_t>(def.metric), i) << def.name;
    EXPECT_TRUE(names.insert(def.name).second) << def.name;
    EXPECT_THAT(def.name, ::testing::StartsWith("leap_"));
    EXPECT_EQ(def.type == MetricType::kCounter, def.name.ends_with("_total")) << def.name;
    EXPECT_EQ(def.type == MetricType::kHistogram, !def.buckets.empty()) << def.name;
    EXPECT_TRUE(def.help.ends_with(".") || def.help.ends_with("bug of Leap.")) << def.name;
    size_t combinations = 1;
    for (const MetricLabel& label : def.labels)
      combinations *= label.open ? 1 : label.values.size();
    EXPECT_TRUE(!def.at_zero || combinations <= 64) << def.name << " exports too much at zero";
  }
}

TEST(MetricTable, KnowsEveryWordOfTheCore) {
  const auto knows = [](Metric metric, size_t label, const std::string& word) {
    const auto& values = LabelOf(metric, label).values;
    return std::find(values.begin(), values.end(), word) != values.end();
  };
  for (int r = 0; r < 4; ++r) {
    EXPECT_TRUE(knows(Metric::kCandidatesTotal, 0, RegimeName(static_cast<Regime>(r))));
  }
  for (const PredictorInfo& info : RegisteredPredictors()) {
    EXPECT_TRUE(knows(Metric::kCandidatesTotal, 1, info.name)) << info.name;
  }
  for (int r = 0; r <= static_cast<int>(VerdictReason::kPolicyOff); ++r) {
    const char* name = VerdictReasonName(static_cast<VerdictReason>(r));
    EXPECT_TRUE(knows(Metric::kCandidatesTotal, 3, name)) << name;
  }
}

// On failure: LEAP_UPDATE_DOCS=1 service_test --gtest_filter='*MetricsPage*' writes the page.
TEST(MetricTable, MetricsPageIsMadeFromIt) {
  const std::string path = SourcePath("docs/metrics.md");
  if (std::getenv("LEAP_UPDATE_DOCS") != nullptr) std::ofstream(path) << MetricsMarkdown();
  EXPECT_EQ(TestDir::Read(path), MetricsMarkdown());
}

TEST(HorizonLabel, IsTheLargestBoundNotAbove) {
  EXPECT_EQ(HorizonLabel(0), "0");
  EXPECT_EQ(HorizonLabel(-3), "0");
  EXPECT_EQ(HorizonLabel(50), "50");
  EXPECT_EQ(HorizonLabel(74), "50");
  EXPECT_EQ(HorizonLabel(1'000'000), "1000");
}

TEST(Metrics, ExportsKnownSeriesAtZero) {
  const auto metrics = Fresh();
  EXPECT_THAT(metrics->Text(), HasSubstr("leap_leaps_total{outcome=\"applied\"} 0\n"));
  EXPECT_THAT(metrics->Text(), HasSubstr("leap_agents{role=\"verifier\",state=\"idle\"} 0\n"));
  EXPECT_THAT(metrics->Text(), HasSubstr("leap_build_info{version=\"1\"} 1\n"));
  EXPECT_THAT(metrics->Text(), Not(HasSubstr("leap_worker_step")));
}

TEST(Metrics, CountsSetsAndObserves) {
  const auto metrics = Fresh();
  metrics->Count(Metric::kCandidatesTotal, {"stable", "linear", HorizonLabel(50), "accepted"});
  metrics->Count(Metric::kCandidatesTotal, {"stable", "linear", HorizonLabel(50), "accepted"}, 2);
  metrics->Set(Metric::kJobSimilarity, {"tiny-1"}, 0.5);
  metrics->Observe(Metric::kVerdictAgeSteps, {}, 7);
  EXPECT_THAT(metrics->Text(),
              HasSubstr("leap_candidates_total{horizon_steps=\"50\",predictor=\"linear\","
                        "reason=\"accepted\",regime=\"stable\"} 3\n"));
  EXPECT_THAT(metrics->Text(), HasSubstr("leap_similarity{job=\"tiny-1\"} 0.5\n"));
  EXPECT_THAT(metrics->Text(), HasSubstr("leap_verdict_age_steps_bucket{le=\"10\"} 1\n"));
  EXPECT_THAT(metrics->Text(), HasSubstr("leap_label_errors_total 0\n"));
}

TEST(Metrics, KeepsLabelsToTheirLists) {
  const auto metrics = Fresh();
  metrics->Count(Metric::kCandidatesTotal, {"stable", "crystal-ball", "50", "accepted"});
  EXPECT_THAT(metrics->Text(), HasSubstr("predictor=\"other\""));
  metrics->Count(Metric::kLeapsTotal, {"eaten"});     // no such word
  metrics->Count(Metric::kLeapsTotal);                // too few labels
  metrics->Count(Metric::kWorkerStepSeconds);         // another binary, another type
  metrics->Set(Metric::kLeapsTotal, {"applied"}, 1);  // another type
  EXPECT_THAT(metrics->Text(), HasSubstr("leap_label_errors_total 4\n"));
  EXPECT_THAT(metrics->Text(), Not(HasSubstr("eaten")));
}

TEST(Metrics, BoundsAnOpenLabelAndForgetsItsValues) {
  const auto metrics = Fresh();
  for (size_t i = 0; i < kMaxJobLabels + 5; ++i)
    metrics->Set(Metric::kJobStep, {absl::StrCat("job-", i)}, 1);
  EXPECT_THAT(metrics->Text(), HasSubstr("leap_label_errors_total 5\n"));
  metrics->Forget("job", "job-0");
  EXPECT_THAT(metrics->Text(), Not(HasSubstr("\"job-0\"")));
  metrics->Set(Metric::kJobStep, {"late"}, 2);
  EXPECT_THAT(metrics->Text(), HasSubstr("leap_step{job=\"late\"} 2\n"));
}

TEST(Metrics, AreServedOnAPortOfTheirOwn) {
  TestDir dir;
  ASSERT_OK_AND_ASSIGN(
      auto metrics, Metrics::Start({.listen = "127.0.0.1:0", .port_file = dir.path() + "/port"}));
  EXPECT_EQ(TestDir::Read(dir.path() + "/port"), absl::StrCat(metrics->port(), "\n"));
  EXPECT_THAT(Get(metrics->port(), "/metrics"), HasSubstr("leap_jobs{state=\"RUNNING\"} 0\n"));
  EXPECT_THAT(Metrics::Start({.listen = absl::StrCat("127.0.0.1:", metrics->port())}),
              HasReason(ErrorReason::kPortTaken));
  EXPECT_THAT(Metrics::Start({.listen = "nowhere"}), HasReason(ErrorReason::kAddressInvalid));
  EXPECT_THAT(Metrics::Start({.listen = "0.0.0.0:0"}), HasReason(ErrorReason::kTlsInvalid));
  EXPECT_OK(Metrics::Start({.listen = "0.0.0.0:0", .insecure_anywhere = true}));
}

}  // namespace
}  // namespace leap
