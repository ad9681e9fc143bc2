// Latent regression, VICReg and SIGReg against values worked out by hand or in closed form.
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/objectives/latent_regression.hpp>
#include <jepa/objectives/sigreg.hpp>
#include <jepa/objectives/vicreg.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace jepa {
namespace {

double value(const torch::Tensor& scalar) { return scalar.item<double>(); }

TEST(LatentRegression, MatchesTheFormulas) {
  const auto prediction = torch::tensor({0.0F, 0.5F, 3.0F});
  const auto target = torch::tensor({1.0F, 0.0F, 0.0F});
  EXPECT_NEAR(value(latent_regression(prediction, target, LatentLoss::l1)), 4.5 / 3, 1e-6);
  EXPECT_NEAR(value(latent_regression(prediction, target, LatentLoss::l2)), 10.25 / 3 / 2, 1e-6);
  EXPECT_NEAR(value(latent_regression(prediction, target, LatentLoss::smooth_l1)),
              (0.5 + 0.125 + 2.5) / 3, 1e-6);
}

TEST(LatentRegression, RefusesDifferentShapesAndUnknownNames) {
  EXPECT_THROW(latent_regression(torch::zeros({2, 3}), torch::zeros({3}), LatentLoss::l1),
               c10::Error);
  EXPECT_EQ(latent_loss_from_name("smooth_l1"), LatentLoss::smooth_l1);
  EXPECT_THROW(latent_loss_from_name("huber"), ConfigError);
}

TEST(NormaliseTargets, NormalisesEachLevelByItself) {
  const auto tokens = torch::randn({2, 5, 12}) * 3 + 1;
  const auto normal = normalise_targets(tokens, 3);
  for (int64_t level = 0; level < 3; ++level) {
    const auto chunk = tokens.slice(-1, 4 * level, 4 * level + 4);
    const auto expected =
        (chunk - chunk.mean(-1, true)) / (chunk.var(-1, /*unbiased=*/false, true) + 1e-5).sqrt();
    EXPECT_TRUE(torch::allclose(normal.slice(-1, 4 * level, 4 * level + 4), expected, 1e-4, 1e-5));
  }
  EXPECT_THROW(normalise_targets(tokens, 5), c10::Error);
}

TEST(ContentTargets, TakeAwayThePositionAndScaleEachDimension) {
  const auto position = torch::randn({1, 5, 12}) * 10;
  const auto scale = torch::rand({12}) + 0.1;
  const auto content = torch::randn({64, 5, 12});
  const auto targets = content_targets(content * scale + position);
  EXPECT_LT(targets.mean(0).abs().max().item<double>(), 1e-4);
  EXPECT_TRUE(torch::allclose(targets.square().mean({0, 1}), torch::ones({12}), 1e-2));
  EXPECT_TRUE(torch::allclose(targets, content_targets(content), 1e-2, 1e-2));
  EXPECT_THROW(content_targets(content[0]), c10::Error);
}

TEST(ContextLoss, DistancesEqualBruteForce) {
  const TokenGrid grid{2, 3, 5};
  Mask mask;
  mask.context = torch::tensor({{0, 4, 7, 29}, {1, 2, 15, 22}});
  // Two target sets for each of two clips, mask-major.
  mask.target = torch::tensor({{3, 14, 20}, {0, 9, 29}, {28, 27, 26}, {16, 17, 8}});
  const auto distances = context_sqrt_distances(mask, grid);
  ASSERT_EQ(distances.sizes(), (at::IntArrayRef{4, 4}));
  for (int64_t set = 0; set < 4; ++set) {
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t a = mask.context[set % 2][i].item<int64_t>();
      double nearest = std::numeric_limits<double>::infinity();
      for (int64_t j = 0; j < 3; ++j) {
        const int64_t b = mask.target[set][j].item<int64_t>();
        nearest = std::min(nearest, std::hypot(static_cast<double>(a / 15 - b / 15),
                                               static_cast<double>(a % 15 / 5 - b % 15 / 5),
                                               static_cast<double>(a % 5 - b % 5)));
      }
      EXPECT_NEAR(value(distances[set][i]), std::sqrt(nearest), 1e-6) << set << "," << i;
    }
  }
  EXPECT_TRUE(torch::allclose(context_sqrt_distances(mask, grid, 4.0) * 2, distances));
}

TEST(ContextLoss, WeighsTokensByDistance) {
  const auto prediction = torch::tensor({{{1.0F, 3.0F}, {4.0F, 4.0F}}});
  const auto loss = weighted_context_loss(prediction, torch::zeros_like(prediction),
                                          torch::tensor({{1.0F, 2.0F}}), LatentLoss::l1);
  EXPECT_NEAR(value(loss), (2.0 / 1 + 4.0 / 2) / 2, 1e-6);
}

TEST(Vicreg, HingeSeesOnlySmallDeviations) {
  // Deviations (unbiased): 2, 0.5 and 0.
  auto samples = torch::tensor({{-2.0, -0.5, 7.0}, {2.0, 0.5, 7.0}, {0.0, 0.0, 7.0}});
  const double expected = (0 + (1 - std::sqrt(0.25 + 1e-4)) + (1 - std::sqrt(1e-4))) / 3;
  EXPECT_NEAR(value(variance_hinge(samples)), expected, 1e-6);
  EXPECT_NEAR(value(variance_hinge(samples, 0.25)), (0.25 - 0.01) / 3, 1e-6);
  EXPECT_THROW(variance_hinge(torch::zeros({1, 3})), c10::Error);
}

TEST(Vicreg, CovarianceCountsOffDiagonalPairs) {
  // x2 = 2 x1, x3 independent of both: off-diagonal covariances 2, 0, 0 (twice each).
  const auto x = torch::tensor({-1.0, 0.0, 1.0});
  const auto y = torch::tensor({1.0, -2.0, 1.0});
  const auto samples = torch::stack({x, 2 * x, y}, 1) + 5;
  EXPECT_NEAR(value(covariance_penalty(samples)), 2 * 4.0 / 3, 1e-5);
  EXPECT_NEAR(value(covariance_penalty(samples, CovarianceScale::pairs)), 2 * 4.0 / 6, 1e-5);
}

TEST(Vicreg, PositionMeanRunsOverClipsThatShowIt) {
  torch::manual_seed(3);
  const int64_t clips = 6, kept = 4, positions = 9, width = 3;
  const auto ids =
      torch::rand({clips, positions}).argsort(int64_t{1}).slice(1, 0, kept).contiguous();
  auto tokens = torch::randn({clips, kept, width}, torch::kFloat64).requires_grad_();
  const auto residual = less_position_mean(tokens, ids, positions);
  for (int64_t clip = 0; clip < clips; ++clip) {
    for (int64_t k = 0; k < kept; ++k) {
      const auto same = ids == ids[clip][k];
      const auto others = tokens.index({torch::indexing::TensorIndex(same)});
      const double n = static_cast<double>(others.size(0));
      const auto expected =
          (tokens[clip][k] - others.mean(0)) * std::sqrt(n / std::max(1.0, n - 1));
      EXPECT_TRUE(torch::allclose(residual[clip][k], expected, 1e-12, 1e-12));
    }
  }
  // The map is linear: its gradient along `residual` has the residual's own length.
  (residual.square().sum() / 2).backward();
  EXPECT_NEAR(value((tokens.grad() * tokens).sum()), value(residual.square().sum()), 1e-9);
  EXPECT_LT(value(tokens.grad().mean({0, 1}).abs().max()), 1e-12);  // a shift of all is removed
}

TEST(Sigreg, CollapsedPointsGiveTheClosedForm) {
  auto generator = seeded_generator(1);
  const auto zeros = torch::zeros({50, 8});
  EXPECT_NEAR(value(sigreg(zeros, 16, false, generator)), 0.40205, 1e-5);
  EXPECT_NEAR(value(sigreg(zeros, 16, true, generator)), 0.40205 * 50, 1e-3);
}

TEST(Sigreg, ExactNormalSamplesGiveTheirExpectation) {
  auto generator = seeded_generator(7);
  // [T, n, D]: 400 independent sets; whatever n is, the mean is 1.0525 when scaled by n.
  for (const int64_t n : {20, 100}) {
    const auto samples = at::randn({400, n, 16}, std::optional<at::Generator>(generator));
    EXPECT_NEAR(value(sigreg(samples, 32, true, generator)), 1.0525, 0.04) << n;
  }
}

TEST(Sigreg, GradientPullsTowardsUnitVariance) {
  auto generator = seeded_generator(11);
  const auto base = at::randn({200, 8}, std::optional<at::Generator>(generator));
  for (const double scale : {0.3, 3.0}) {
    const auto samples = (base * scale).requires_grad_();
    sigreg(samples, 64, false, generator).backward();
    // d loss / d log scale: growing must help the narrow cloud and harm the wide one.
    const double slope = value((samples.grad() * samples).sum());
    EXPECT_EQ(slope < 0, scale < 1) << scale << " " << slope;
  }
}

}  // namespace
}  // namespace jepa
