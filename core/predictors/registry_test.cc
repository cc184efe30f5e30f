#include <algorithm>

#include "base/error_reason.h"
#include "base/status_matchers.h"
#include "core/predictor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr int64_t kInterval = 50;

const PredictorInfo& InfoOf(const std::string& name) {
  return *std::ranges::find(RegisteredPredictors(), name, &PredictorInfo::name);
}

TEST(RegistryTest, ListsEveryPredictorOfTheBrief) {
  std::vector<std::string> names;
  for (const PredictorInfo& info : RegisteredPredictors()) {
    names.push_back(info.name);
    EXPECT_THAT(info.summary, Not(IsEmpty())) << info.name;
  }
  EXPECT_THAT(names, ElementsAre("outer-nesterov", "linear", "quadratic", "momentum", "last-update",
                                 "average", "trend"));
}

TEST(RegistryTest, EveryEntryMakesItselfWithDefaultsAndInEveryForm) {
  for (const PredictorInfo& info : RegisteredPredictors()) {
    std::vector<std::string> forms = info.forms;
    forms.push_back("");
    for (const std::string& form : forms) {
      ASSERT_OK_AND_ASSIGN(auto predictor,
                           MakePredictor({.name = info.name, .form = form}, kInterval));
      EXPECT_EQ(predictor->name(), info.name);
    }
  }
}

TEST(RegistryTest, SaysWhatEachPredictorNeeds) {
  EXPECT_EQ(InfoOf("linear").needs.snapshots, 2);
  EXPECT_EQ(InfoOf("quadratic").needs.snapshots, 3);
  EXPECT_TRUE(InfoOf("momentum").needs.moments);
  EXPECT_TRUE(InfoOf("last-update").needs.moments);
  EXPECT_EQ(InfoOf("outer-nesterov").needs.state_buffers, 2);
  EXPECT_FALSE(InfoOf("outer-nesterov").needs.horizon);
  EXPECT_FALSE(InfoOf("average").needs.horizon);
  EXPECT_FALSE(InfoOf("average").needs.carries_progress);
  EXPECT_TRUE(InfoOf("outer-nesterov").needs.carries_progress);
}

TEST(RegistryTest, FormsAndParamsAreThoseOfTheSpec) {
  EXPECT_THAT(InfoOf("quadratic").forms, ElementsAre("newton", "paper", "code"));
  EXPECT_THAT(InfoOf("momentum").forms, ElementsAre("adam", "paper", "code"));
  EXPECT_THAT(InfoOf("outer-nesterov").params,
              ElementsAre(std::pair<std::string, double>("eta", 0.8),
                          std::pair<std::string, double>("mu", 0.5)));
}

TEST(RegistryTest, NeedsFollowTheParameters) {
  ASSERT_OK_AND_ASSIGN(auto average,
                       MakePredictor({.name = "average", .params = {{"n", 7}}}, kInterval));
  EXPECT_EQ(average->needs().snapshots, 7);
  ASSERT_OK_AND_ASSIGN(auto newton, MakePredictor({.name = "quadratic"}, kInterval));
  EXPECT_FALSE(newton->needs().scales);
  ASSERT_OK_AND_ASSIGN(auto code, MakePredictor({.name = "quadratic", .form = "code"}, kInterval));
  EXPECT_TRUE(code->needs().scales);
}

TEST(RegistryTest, ATrendReadBackwardsCarriesNoProgress) {
  ASSERT_OK_AND_ASSIGN(auto ahead,
                       MakePredictor({.name = "trend", .horizons_steps = {5, 25}}, kInterval));
  EXPECT_TRUE(ahead->needs().carries_progress);
  ASSERT_OK_AND_ASSIGN(auto back,
                       MakePredictor({.name = "trend", .horizons_steps = {5, 0, -25}}, kInterval));
  EXPECT_FALSE(back->needs().carries_progress);
}

struct BadSpec {
  PredictorSpec spec;
  std::string message;
};

TEST(RegistryTest, BadSpecsGetAnErrorThatSaysWhatToDo) {
  const std::vector<BadSpec> bad = {
      {{.name = "linaer"}, "unknown predictor 'linaer', did you mean 'linear'?"},
      {{.name = ""}, "unknown predictor ''"},
      {{.name = "quadratic", .form = "papr"}, "did you mean 'paper'?"},
      {{.name = "linear", .form = "paper"}, "predictor 'linear' has no forms"},
      {{.name = "outer-nesterov", .params = {{"etta", 1}}}, "did you mean 'eta'?"},
      {{.name = "linear", .params = {{"eta", 1}}}, "unknown parameter of predictor 'linear' 'eta'"},
      {{.name = "outer-nesterov", .params = {{"mu", 1}}},
       "expected a number from 0 to 0.999, saw 1"},
      {{.name = "outer-nesterov", .params = {{"eta", std::nan("")}}},
       "expected a number from 0 to 2, saw nan"},
      {{.name = "average", .params = {{"n", 2.5}}},
       "expected a whole number from 2 to 64, saw 2.5"},
      {{.name = "momentum", .params = {{"damping", 0.5}}, .form = "paper"}, "belongs to form adam"},
      {{.name = "momentum", .params = {{"scale", 0.8}}}, "belongs to form code, not to 'adam'"},
      {{.name = "linear", .horizons_steps = {5, 0}}, "expected 1 to 1000000 steps, saw 0"},
      {{.name = "linear", .horizons_steps = {-5}}, "saw -5"},
      {{.name = "outer-nesterov", .horizons_steps = {5}}, "takes no horizon, saw 5"},
  };
  for (const BadSpec& entry : bad) {
    const auto predictor = MakePredictor(entry.spec, kInterval);
    EXPECT_THAT(predictor, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(entry.message)));
    EXPECT_THAT(predictor, HasReason(ErrorReason::kJobSpecInvalid));
  }
  EXPECT_THAT(MakePredictor({.name = "linear"}, 0), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(CheckScalesTest, TakesWhatAPredictorMayHaveSaid) {
  const PredictorNeeds none{}, some{.scales = true};
  EXPECT_OK(CheckScales(none, {}, 3));
  EXPECT_OK(CheckScales(some, std::vector<double>{0, 0.5, 1}, 3));
  EXPECT_OK(CheckScales(some, std::vector<double>{0.5}, 0)) << "how many tensors is not known";
  const std::vector<double> bad[] = {
      {}, {0.5, 0.5}, {0.5, 0.5, 1.1}, {0.5, 0.5, -0.1}, {0.5, 0.5, std::nan("")}};
  for (const std::vector<double>& scales : bad) {
    EXPECT_THAT(CheckScales(some, scales, 3), StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_THAT(CheckScales(none, std::vector<double>{0.5}, 3),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no scales")));
}

}  // namespace
}  // namespace leap
