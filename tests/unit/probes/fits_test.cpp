// Linear and k-NN probes on data whose answer is known.
#include <eval/probes/knn.hpp>
#include <eval/probes/linear.hpp>
#include <eval/probes/metrics.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::probes {
namespace {

double accuracy(const torch::Tensor& scores, const torch::Tensor& labels) {
  return (scores.argmax(1) == labels).to(torch::kFloat64).mean().item<double>();
}

/// R2 of predictions on rows that are units of their own.
double r2(const torch::Tensor& predictions, const torch::Tensor& truth) {
  return UnitScores(predictions, truth, torch::arange(truth.size(0)), truth.size(0)).value();
}

TEST(Ridge, RecoversAnExactLinearModel) {
  torch::manual_seed(1);
  const auto x = torch::randn({300, 12}) * torch::arange(1, 13) + 4;  // scales and offset differ
  const auto weight = torch::randn({12, 3});
  const auto y = at::mm(x, weight) - 7;
  const auto fitted = fit_ridge({x, y, 0}, {1e-8})[0];
  const auto unseen = torch::randn({100, 12}) * 3;
  EXPECT_TRUE(torch::allclose(fitted.predict(unseen), at::mm(unseen, weight) - 7, 1e-3, 1e-2));
  EXPECT_NEAR(r2(fitted.predict(unseen), at::mm(unseen, weight) - 7), 1.0, 1e-6);
}

TEST(Ridge, EqualsTheNormalEquationsAtEveryDecay) {
  torch::manual_seed(2);
  const auto x = torch::randn({40, 5});
  const auto y = torch::randn({40, 2});
  const std::vector<double> decays = {1e-3, 0.3, 20};
  const auto fitted = fit_ridge({x, y, 0}, decays);
  const auto mean = x.mean(0), scale = x.std(0, false);
  const auto z = ((x - mean) / scale).to(torch::kFloat64);
  for (size_t i = 0; i < decays.size(); ++i) {
    const auto gram = at::mm(z.t(), z) / 40 + decays[i] * torch::eye(5, torch::kFloat64);
    const auto centred = y.to(torch::kFloat64) - y.to(torch::kFloat64).mean(0);
    const auto weight = at::linalg_solve(gram, at::mm(z.t(), centred) / 40);
    const auto expected = at::mm(z, weight) + y.to(torch::kFloat64).mean(0);
    EXPECT_TRUE(torch::allclose(fitted[i].predict(x), expected.to(torch::kFloat32), 1e-4, 1e-5))
        << fitted[i].setting;
  }
}

TEST(Ridge, DropsFeaturesThatNeverChange) {
  const auto x = torch::cat({torch::randn({50, 2}), torch::full({50, 1}, 0.1)}, 1);
  const auto fitted = fit_ridge({x, x.narrow(1, 0, 1), 0}, {1e-6})[0];
  auto moved = x.clone();
  moved.select(1, 2).fill_(1e6);
  EXPECT_TRUE(torch::allclose(fitted.predict(moved), fitted.predict(x)));
}

TEST(Logistic, SeparatesSeparableClasses) {
  torch::manual_seed(3);
  const auto labels = torch::randint(4, {400}, torch::kInt64);
  const auto centres = 6 * torch::randn({4, 10});
  const auto x = centres.index_select(0, labels) + torch::randn({400, 10});
  const LabelledFeatures train{x.narrow(0, 0, 300), labels.narrow(0, 0, 300), 4};
  for (const auto& fitted : fit_logistic(train, {1e-4, 1e-2})) {
    EXPECT_GT(accuracy(fitted.predict(x.narrow(0, 300, 100)), labels.narrow(0, 300, 100)), 0.98);
  }
}

TEST(Logistic, ReachesTheMinimumOfItsObjective) {
  torch::manual_seed(4);
  const auto x = at::mm(torch::randn({500, 8}), torch::randn({8, 8}));  // correlated features
  const auto labels = (at::mm(x, torch::randn({8, 3})) + 2 * torch::randn({500, 3})).argmax(1);
  const std::vector<double> decays = {1e-3, 1e-1};
  const auto fitted = fit_logistic({x, labels, 3}, decays, {.iterations = 2000, .tolerance = 1e-5});
  const Standardiser standardise(x);
  const auto z = standardise(x);
  for (size_t i = 0; i < decays.size(); ++i) {
    // The gradient of the mean cross-entropy plus decay |W|^2 / 2 vanishes at the minimum. W and b
    // follow from predictions: at the mean, and one deviation along each axis.
    const auto bias = fitted[i].predict(standardise.mean.unsqueeze(0));
    const auto probes = standardise.mean + torch::diag(standardise.scale.reciprocal());
    const auto weight = fitted[i].predict(probes) - bias;
    const auto error = at::softmax(at::mm(z, weight) + bias, 1) - at::one_hot(labels, 3);
    const auto gradient = at::mm(z.t(), error) / 500 + decays[i] * weight;
    EXPECT_LT(gradient.abs().max().item<double>(), 1e-4) << fitted[i].setting;
    EXPECT_LT(error.mean(0).abs().max().item<double>(), 1e-4);
  }
}

TEST(Logistic, OverstrongDecayPredictsOnlyThePrior) {
  torch::manual_seed(5);
  const auto labels = (torch::arange(100) < 70).to(torch::kInt64);
  const auto fitted = fit_logistic({torch::randn({100, 3}), labels, 2}, {1e6})[0];
  const auto p = at::softmax(fitted.predict(torch::randn({5, 3})), 1);
  EXPECT_NEAR(p[0][1].item<double>(), 0.7, 1e-3);
}

TEST(Knn, VotesAsByHand) {
  // Directions from the mean (0): east, north, west, south; two of class 1.
  const auto x = torch::tensor({{1.0F, 0.0F}, {0.0F, 1.0F}, {-1.0F, 0.0F}, {0.0F, -1.0F}});
  const LabelledFeatures train{x, torch::tensor({0, 1, 0, 1}), 2};
  const auto fitted = fit_knn(train, {1, 2, 9}, 0.5);
  const auto query = torch::tensor({{0.6F, 0.8F}});  // cosines 0.6, 0.8, -0.6, -0.8
  EXPECT_EQ(fitted[0].setting, "k 1");
  EXPECT_TRUE(torch::allclose(fitted[0].predict(query), torch::tensor({{0.0F, 1.0F}})));
  const auto share = static_cast<float>(1 / (1 + std::exp(0.2 / 0.5)));
  EXPECT_TRUE(torch::allclose(fitted[1].predict(query), torch::tensor({{share, 1 - share}})));
  EXPECT_EQ(fitted[2].setting, "k 4");            // no more than there are
  const auto all = fitted[2].predict(3 * query);  // length does not matter
  EXPECT_NEAR(all.sum().item<double>(), 1, 1e-6);
}

TEST(Knn, AveragesQuantities) {
  const auto x = torch::tensor({{1.0F, 0.0F}, {-1.0F, 0.0F}});
  const auto y = torch::tensor({{10.0F, 1.0F}, {20.0F, 2.0F}});
  const auto fitted = fit_knn({x, y, 0}, {2})[0];
  const auto between = fitted.predict(torch::tensor({{0.0F, 5.0F}}));
  EXPECT_TRUE(torch::allclose(between, torch::tensor({{15.0F, 1.5F}})));
}

}  // namespace
}  // namespace jepa::eval::probes
