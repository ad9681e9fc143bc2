// Metrics of predictions against values computed by hand or in plain loops.
#include <eval/comparison/judge.hpp>
#include <eval/comparison/prediction_metrics.hpp>
#include <jepa/data/generated.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::comparison {
namespace {

/// One window's SSIM straight from the paper's formulas, in plain loops.
double ssim_by_hand(const torch::Tensor& a, const torch::Tensor& b) {
  const double c1 = 6.5025, c2 = 58.5225;  // (0.01 * 255)^2, (0.03 * 255)^2
  double total = 0, mean_a = 0, mean_b = 0;
  const auto weight = [](int64_t y, int64_t x) {
    return std::exp(-static_cast<double>((y - 5) * (y - 5) + (x - 5) * (x - 5)) / 4.5);
  };
  const auto at = [](const torch::Tensor& t, int64_t y, int64_t x) {
    return t[y][x].item<double>();
  };
  for (int64_t y = 0; y < 11; ++y) {
    for (int64_t x = 0; x < 11; ++x) {
      total += weight(y, x);
      mean_a += weight(y, x) * at(a, y, x);
      mean_b += weight(y, x) * at(b, y, x);
    }
  }
  mean_a /= total;
  mean_b /= total;
  double var_a = 0, var_b = 0, cov = 0;
  for (int64_t y = 0; y < 11; ++y) {
    for (int64_t x = 0; x < 11; ++x) {
      const double da = at(a, y, x) - mean_a, db = at(b, y, x) - mean_b;
      var_a += weight(y, x) / total * da * da;
      var_b += weight(y, x) / total * db * db;
      cov += weight(y, x) / total * da * db;
    }
  }
  return (2 * mean_a * mean_b + c1) * (2 * cov + c2) /
         ((mean_a * mean_a + mean_b * mean_b + c1) * (var_a + var_b + c2));
}

TEST(PredictionMetrics, SsimEqualsTheFormulaAndIsOneForEqualFrames) {
  torch::manual_seed(1);
  const auto a = torch::randint(0, 256, {2, 1, 3, 11, 12}, torch::kUInt8);
  const auto b =
      (a.to(torch::kFloat32) * 0.7 + 60 * torch::rand({2, 1, 3, 11, 12})).to(torch::kUInt8);
  const auto values = ssim(a, b);
  ASSERT_EQ(values.sizes(), (std::vector<int64_t>{2, 3}));
  const auto left = [](const torch::Tensor& t) { return t[1][0][2].slice(1, 0, 11); };
  const auto right = [](const torch::Tensor& t) { return t[1][0][2].slice(1, 1, 12); };
  const double expected = (ssim_by_hand(left(a), left(b)) + ssim_by_hand(right(a), right(b))) / 2;
  EXPECT_NEAR(values[1][2].item<double>(), expected, 1e-9);
  EXPECT_NEAR(ssim(a, a).min().item<double>(), 1, 1e-12);
}

TEST(PredictionMetrics, PsnrByHand) {
  const auto truth = torch::full({1, 2, 2, 4, 4}, 100, torch::kUInt8);
  auto frames = truth.clone();
  frames.select(2, 1).add_(10);
  const auto values = psnr(frames, truth);
  EXPECT_NEAR(values[0][0].item<double>(), 58.922, 1e-3);  // equal: the floor of rounding
  EXPECT_NEAR(values[0][1].item<double>(), 20 * std::log10(25.5), 1e-9);
}

TEST(PredictionMetrics, TrivialPredictors) {
  const GeneratedSource source({.clips = 32, .frames = 8}, 3);
  const auto truth = true_centres(source, torch::arange(32), 8);
  const auto context = truth.slice(1, 0, 4), future = truth.slice(1, 4);
  EXPECT_LT(position_error(extrapolate_centres(context, 4), future).max().item<double>(), 1e-4);
  const auto held = position_error(copy_last_centre(context, 4), future);
  const auto speed = source.column("velocity").norm(2, 1);
  EXPECT_TRUE(torch::allclose(held.select(1, 2), 3 * speed, 1e-4, 1e-4));

  const auto clips = torch::randint(0, 256, {2, 1, 3, 6, 8}, torch::kUInt8);
  const auto copied = copy_last_frame(clips, 2);
  EXPECT_TRUE(torch::equal(copied.select(2, 1), clips.select(2, 2)));
  const auto moved = extrapolate_frames(clips, torch::tensor({{1.0, 0.0}, {0.0, -1.0}}), 2);
  const auto last = clips.select(2, 2);
  EXPECT_TRUE(torch::equal(moved[0][0][1].slice(1, 2), last[0][0].slice(1, 0, 6)));  // 2 right
  EXPECT_EQ(moved[0][0][1].slice(1, 0, 2).max().item<int>(), 0);
  EXPECT_TRUE(torch::equal(moved[1][0][0].slice(0, 0, 5), last[1][0].slice(0, 1)));  // 1 up
}

TEST(PredictionMetrics, SetsOfFutures) {
  // Two futures, one clip, two frames; truth at the origin.
  const auto truth = torch::zeros({1, 2, 2});
  const auto futures = torch::tensor({3.0, 4.0, 0.0, 1.0, 0.0, 2.0, 0.0, 5.0}).view({2, 1, 2, 2});
  const auto errors = position_error(futures, truth);
  EXPECT_TRUE(torch::allclose(errors.flatten(), torch::tensor({5.0, 1.0, 2.0, 5.0})));
  EXPECT_TRUE(torch::allclose(best_of_k(errors), torch::tensor({{5.0, 1.0}})));
  EXPECT_TRUE(torch::allclose(mean_future(futures)[0][0], torch::tensor({1.5, 3.0})));
  EXPECT_TRUE(torch::equal(coverage(futures, truth, 2.0), torch::ones({1, 2}, torch::kFloat64)));
  EXPECT_TRUE(
      torch::equal(coverage(futures, truth, 1.5), torch::tensor({{0.0, 1.0}}, torch::kFloat64)));
  const double pair = std::sqrt(13.0) / 2;  // (3, 4) to (0, 2), over K (K - 1)
  EXPECT_NEAR(energy_score(futures, truth)[0][0].item<double>(), 3.5 - pair, 1e-6);
  EXPECT_NEAR(energy_score(futures.slice(0, 0, 1), truth)[0][0].item<double>(), 5.0, 1e-6);
}

TEST(PredictionMetrics, EnergyScorePrefersTheTrueDistribution) {
  torch::manual_seed(2);
  const auto truth = torch::randn({4000, 1, 2});
  const auto score = [&](double spread) {
    return energy_score(spread * torch::randn({8, 4000, 1, 2}), truth).mean().item<double>();
  };
  const double right = score(1.0);
  EXPECT_LT(right, score(0.3));
  EXPECT_LT(right, score(2.0));
  // Unbiased: the number of futures does not matter.
  EXPECT_NEAR(energy_score(torch::randn({2, 4000, 1, 2}), truth).mean().item<double>(), right,
              0.05);
}

TEST(PredictionMetrics, IntervalOfAMean) {
  torch::manual_seed(3);
  const auto values = torch::randn({400}, torch::kFloat64);
  const auto estimate = mean_interval(values, {}, 0);
  EXPECT_NEAR(estimate.value, values.mean().item<double>(), 1e-12);
  EXPECT_NEAR(estimate.high - estimate.low, 2 * 1.96 / 20, 0.03);
  // Ten clips a unit that are all alike: the interval is that of the 40 units.
  const auto units = torch::arange(400).div(10, "floor");
  const auto alike = values.slice(0, 0, 40).index_select(0, units);
  const auto wide = mean_interval(alike, units + 7, 0);
  EXPECT_NEAR(wide.high - wide.low, 2 * 1.96 / std::sqrt(40.0), 0.15);
}

}  // namespace
}  // namespace jepa::eval::comparison
