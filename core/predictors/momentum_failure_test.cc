// The published "momentum catastrophe" from its causes (Leap+Verify section 5's ratios, in
// leap-verify.md section 7: predicted loss 122 to 10764 times the actual one; policies.md section
// 1).
//
// A small network is trained with AdamW on a noisy classification task, in double, with a loss in
// units that give Adam's v the order of 1e-10 that it has in language models; ratios of losses do
// not depend on the units. Then its moments are handed to the predictor. Seeded; nothing is tuned
// to the paper's numbers, only their order of magnitude and their growth with K are asked for.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "core/predictors/half.h"
#include "core/predictors/predictor_testing.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

constexpr int kInputs = 16, kHidden = 32, kClasses = 8, kExamples = 512, kBatch = 64;
constexpr double kLossUnit = 1e-3;
constexpr size_t kFirst = kHidden * kInputs, kWeights = kFirst + kClasses * kHidden;

using Vector = std::vector<double>;

struct Task {
  std::vector<Vector> inputs;
  std::vector<int> labels;
};

// logits = W2·relu(W1·x). Returns the cross-entropy of `label`; adds its gradient if asked.
double LossOf(const Vector& theta, const Vector& x, int label, Vector* gradient) {
  Vector hidden(kHidden), logits(kClasses);
  for (int h = 0; h < kHidden; ++h) {
    for (int i = 0; i < kInputs; ++i) hidden[h] += theta[h * kInputs + i] * x[i];
    hidden[h] = std::max(hidden[h], 0.0);
  }
  double largest = -1e300, total = 0;
  for (int c = 0; c < kClasses; ++c) {
    for (int h = 0; h < kHidden; ++h) logits[c] += theta[kFirst + c * kHidden + h] * hidden[h];
    largest = std::max(largest, logits[c]);
  }
  for (int c = 0; c < kClasses; ++c) total += std::exp(logits[c] - largest);
  const double loss = largest + std::log(total) - logits[label];
  if (gradient == nullptr) return loss;
  Vector back(kHidden);
  for (int c = 0; c < kClasses; ++c) {
    const double slope = std::exp(logits[c] - largest) / total - (c == label ? 1.0 : 0.0);
    for (int h = 0; h < kHidden; ++h) {
      (*gradient)[kFirst + c * kHidden + h] += slope * hidden[h];
      back[h] += slope * theta[kFirst + c * kHidden + h];
    }
  }
  for (int h = 0; h < kHidden; ++h) {
    if (hidden[h] <= 0) continue;
    for (int i = 0; i < kInputs; ++i) (*gradient)[h * kInputs + i] += back[h] * x[i];
  }
  return loss;
}

Vector RandomWeights(std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  Vector theta(kWeights);
  for (size_t i = 0; i < kWeights; ++i) {
    theta[i] = normal(random) / std::sqrt(static_cast<double>(i < kFirst ? kInputs : kHidden));
  }
  return theta;
}

// Labels by a random teacher, one in five at random.
Task MakeTask(std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  const Vector teacher = RandomWeights(random);
  Task task;
  for (int n = 0; n < kExamples; ++n) {
    Vector x(kInputs);
    for (double& value : x) value = normal(random);
    int label = 0;
    for (int c = 1; c < kClasses; ++c) {
      if (LossOf(teacher, x, c, nullptr) < LossOf(teacher, x, label, nullptr)) label = c;
    }
    if (random() % 5 == 0) label = static_cast<int>(random() % kClasses);
    task.inputs.push_back(std::move(x));
    task.labels.push_back(label);
  }
  return task;
}

double MeanLoss(const Task& task, const Vector& theta) {
  double sum = 0;
  for (int n = 0; n < kExamples; ++n) {
    sum += LossOf(theta, task.inputs[n], task.labels[n], nullptr);
  }
  return sum / kExamples;
}

struct Trained {
  Task task;
  TestModel model;
  double loss = 0;
};

Trained Train(uint64_t seed, int64_t steps) {
  std::mt19937_64 random(seed);
  Trained result{.task = MakeTask(random)};
  Vector theta = RandomWeights(random), m(kWeights), v(kWeights);
  const AdamContext adam{.adam_step = steps, .lr = 2e-3, .beta2 = 0.999, .weight_decay = 0.01};
  for (int64_t t = 1; t <= steps; ++t) {
    Vector gradient(kWeights);
    for (int b = 0; b < kBatch; ++b) {
      const size_t n = random() % kExamples;
      LossOf(theta, result.task.inputs[n], result.task.labels[n], &gradient);
    }
    const double step = static_cast<double>(t);
    for (size_t i = 0; i < kWeights; ++i) {
      const double g = kLossUnit * gradient[i] / kBatch;
      m[i] = adam.beta1 * m[i] + (1 - adam.beta1) * g;
      v[i] = adam.beta2 * v[i] + (1 - adam.beta2) * g * g;
      const double root = std::sqrt(v[i] / (1 - std::pow(adam.beta2, step)));
      theta[i] -= adam.lr * adam.weight_decay * theta[i];
      theta[i] -= adam.lr * m[i] / (1 - std::pow(adam.beta1, step)) / (root + adam.epsilon);
    }
  }
  TestModel& model = result.model;
  const auto size = static_cast<int64_t>(kWeights);
  model.layout = {.tensors = {{.name = "w", .shape = {size}, .size = size, .decays = true}},
                  .size = size};
  model.snapshots = {std::vector<float>(theta.begin(), theta.end())};
  model.exp_avg = {m.begin(), m.end()};
  model.exp_avg_sq = {v.begin(), v.end()};
  model.adam = adam;
  result.loss = MeanLoss(result.task, theta);
  return result;
}

// Predicted loss over actual.
double Ratio(const Trained& trained, const PredictorSpec& spec, int64_t steps) {
  const std::vector<float> predicted = PredictWhole(*Made(spec), trained.model, steps);
  return MeanLoss(trained.task, Vector(predicted.begin(), predicted.end())) / trained.loss;
}

class MomentumFailureTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  const Trained trained_ = Train(GetParam(), 400);
  const PredictorSpec adam_{.name = "momentum"};
  const PredictorSpec paper_{.name = "momentum", .form = "paper"};
  const PredictorSpec code_{.name = "momentum", .form = "code"};
  const PredictorSpec half_code_{
      .name = "momentum", .params = {{"fp16_moments", 1}}, .form = "code"};
};

TEST_P(MomentumFailureTest, SquaredGradientsUnderflowInFloat16) {  // policies.md: 98 to 99 % of v
  double vanished = 0;
  for (const float v : trained_.model.exp_avg_sq) vanished += RoundToHalf(v) == 0 ? 1 : 0;
  EXPECT_GT(vanished / kWeights, 0.98);
}

// First cause: the formula. It takes steps of length K where the optimizer takes K·lr, uphill.
TEST_P(MomentumFailureTest, ThePapersFormExplodesWithK) {
  const double at5 = Ratio(trained_, paper_, 5);
  EXPECT_GT(at5, 30);  // published: 122 (GPT-2), 173 (Qwen)
  EXPECT_LT(at5, 1000);
  EXPECT_GT(Ratio(trained_, paper_, 25), 5 * at5);  // published: 782, 709
  EXPECT_GT(Ratio(trained_, paper_, 100), 2000);    // published: 10764, 3009
}

TEST_P(MomentumFailureTest, WithoutLearningRateTheRightSignExplodesToo) {
  Trained unscaled = trained_;
  unscaled.model.adam.lr = 1;
  EXPECT_GT(Ratio(unscaled, code_, 5), 30);
}

TEST_P(MomentumFailureTest, WithLearningRateTheOtherSignGoesUphill) {
  Trained uphill = trained_;
  uphill.model.adam.lr = -uphill.model.adam.lr;
  EXPECT_GT(Ratio(uphill, code_, 5), 1);
  EXPECT_LT(Ratio(trained_, code_, 5), 1);
}

// Second cause: the storage. √v + ε collapses to ε, and the steps are 1/ε times m long.
TEST_P(MomentumFailureTest, TheCodesFormExplodesOnlyIfMomentsWereStoredAsFloat16) {
  const double at5 = Ratio(trained_, half_code_, 5);
  EXPECT_GT(at5, 50);
  EXPECT_GT(Ratio(trained_, half_code_, 25), 5 * at5);
  EXPECT_GT(Ratio(trained_, half_code_, 100), 2000);
  EXPECT_LT(Ratio(trained_, code_, 5), 1.07);
  EXPECT_LT(Ratio(trained_, code_, 100), 3.4);
}

// policies.md section 1: fp32, bias-corrected, with decay: 1.07 / 1.76 / 3.4 at K = 5 / 25 / 100.
TEST_P(MomentumFailureTest, TheCorrectFormDoesNotFail) {
  EXPECT_LT(Ratio(trained_, adam_, 5), 1.07);
  EXPECT_LT(Ratio(trained_, adam_, 25), 1.76);
  EXPECT_LT(Ratio(trained_, adam_, 100), 3.4);
}

TEST_P(MomentumFailureTest, TheCorrectFormPointsTheRightWayThenOvershoots) {
  EXPECT_LT(Ratio(trained_, adam_, 5), 1);
  EXPECT_GT(Ratio(trained_, adam_, 100), Ratio(trained_, adam_, 25));
}

TEST_P(MomentumFailureTest, DampedByBeta1ItDoesNotOvershoot) {
  const PredictorSpec damped{.name = "momentum", .params = {{"damping", 0.9}}};
  EXPECT_LT(Ratio(trained_, damped, 100), 1);
}

INSTANTIATE_TEST_SUITE_P(Seeds, MomentumFailureTest, ::testing::Range<uint64_t>(42, 45));

}  // namespace
}  // namespace leap
