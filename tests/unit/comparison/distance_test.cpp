// Distances of feature sets against closed forms.
#include <eval/comparison/distance.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::eval::comparison {
namespace {

TEST(Distance, FrechetOfGaussiansInClosedForm) {
  torch::manual_seed(1);
  const auto a = torch::randn({20000, 3}, torch::kFloat64);
  // Mean (1, 2, 0), deviations 2, 1, 3: |m|^2 + sum (s - 1)^2 = 5 + 1 + 0 + 4.
  const auto b =
      torch::randn({20000, 3}, torch::kFloat64) * torch::tensor({2.0, 1.0, 3.0}, torch::kFloat64) +
      torch::tensor({1.0, 2.0, 0.0}, torch::kFloat64);
  EXPECT_NEAR(frechet_distance(a, b), 10, 0.4);
  EXPECT_NEAR(frechet_distance(a, b), frechet_distance(b, a), 1e-8);
  EXPECT_NEAR(frechet_distance(a, a), 0, 1e-8);
  // Turning both sets changes nothing, although their covariances no longer commute.
  const auto turn = std::get<0>(at::linalg_qr(torch::randn({3, 3}, torch::kFloat64)));
  EXPECT_NEAR(frechet_distance(a.mm(turn), b.mm(turn)), frechet_distance(a, b), 1e-8);
  // A constant column makes a singular covariance.
  const auto flat = torch::cat({a, torch::ones({20000, 1}, torch::kFloat64)}, 1);
  EXPECT_NEAR(frechet_distance(flat, flat + 1), 4, 1e-6);
}

TEST(Distance, MmdByHandAndUnbiased) {
  const auto a = torch::tensor({{0.0}, {1.0}}, torch::kFloat64);
  const auto b = torch::tensor({{1.0}, {2.0}}, torch::kFloat64);
  // Within a: 1; within b: 27; across: (1 + 1 + 8 + 27) / 4.
  EXPECT_NEAR(polynomial_mmd(a, b), 1 + 27 - 2 * 37.0 / 4, 1e-12);
  torch::manual_seed(2);
  double sum = 0;
  for (int i = 0; i < 200; ++i) sum += polynomial_mmd(torch::randn({40, 4}), torch::randn({40, 4}));
  EXPECT_NEAR(sum / 200, 0, 0.02);
  EXPECT_GT(polynomial_mmd(torch::randn({400, 4}), torch::randn({400, 4}) + 1), 0.2);
}

TEST(Distance, ProjectionKeepsWhatVariesAndScalesIt) {
  torch::manual_seed(3);
  const auto wide = at::mm(torch::randn({300, 5}), torch::randn({5, 100})) + 7;
  const auto kept = PrincipalProjection(wide, 5)(wide);
  ASSERT_EQ(kept.sizes(), (std::vector<int64_t>{300, 5}));
  EXPECT_NEAR(kept.mean().item<double>(), 0, 1e-6);
  EXPECT_NEAR(kept.square().sum().item<double>() / (299 * 5), 1, 1e-4);
  EXPECT_EQ(PrincipalProjection(wide.slice(0, 0, 20))(wide).size(1), 19);
}

TEST(Distance, UnitsOfAFeatureDoNotMatter) {
  torch::manual_seed(5);
  const auto real = at::cat({torch::randn({300, 6}), torch::ones({300, 1})}, 1);
  const auto other = real + 0.5;
  const auto unit = torch::tensor({1.0, 1.0, 100.0, 1.0, 0.01, 1.0, 1.0});
  const auto plain = feature_distance(real, other),
             scaled = feature_distance(real * unit, other * unit);
  EXPECT_NEAR(scaled.frechet, plain.frechet, 1e-4 * plain.frechet);
  EXPECT_NEAR(scaled.mmd, plain.mmd, 1e-3 * plain.mmd);
}

TEST(Distance, FloorIsBelowARealDifference) {
  torch::manual_seed(4);
  const auto real = torch::randn({1000, 80});
  const auto floors = real_floor(real, 0);
  ASSERT_EQ(floors.size(), 4u);
  const auto& floor = floors[0];
  EXPECT_NE(floor.mmd, floors[1].mmd);
  const auto same = feature_distance(real.slice(0, 0, 500), real.slice(0, 500));
  const auto shifted = feature_distance(real.slice(0, 0, 500), real.slice(0, 500) + 0.5);
  EXPECT_NEAR(same.frechet / floor.frechet, 1, 0.3);
  EXPECT_GT(shifted.frechet, 2 * floor.frechet);
  EXPECT_GT(shifted.mmd, floor.mmd + 0.1);
  EXPECT_EQ(real_floor(real, 0)[0].mmd, floor.mmd);
}

}  // namespace
}  // namespace jepa::eval::comparison
