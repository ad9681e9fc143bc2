// Accuracies and AUROC against closed forms.
#include <eval/physics/scores.hpp>
#include <eval/probes/metrics.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::physics {
namespace {

torch::Tensor values(std::vector<double> list) { return torch::tensor(list, torch::kFloat64); }

/// Surprises [scenes, 2, 3, 2] of lawful, broken and changed films, the same in mean and max.
torch::Tensor surprises(const torch::Tensor& lawful, const torch::Tensor& broken,
                        const torch::Tensor& changed) {
  const auto kinds = torch::stack({lawful, broken, changed}, 2);
  return torch::stack({kinds, kinds}, 3);
}

torch::Tensor random_surprises(int64_t scenes, double shift) {
  torch::manual_seed(3);
  const auto draw = [&](double by) { return torch::randn({scenes, 2}, torch::kFloat64) + by; };
  return surprises(draw(0), draw(shift), draw(0));
}

TEST(Scores, AurocOfClosedForms) {
  EXPECT_EQ(auroc(values({2, 3}), values({0, 1})), 1);
  EXPECT_EQ(auroc(values({0, 1}), values({2, 3})), 0);
  EXPECT_EQ(auroc(values({1, 1, 1}), values({1, 1})), 0.5);
  EXPECT_EQ(auroc(values({1, 3}), values({2})), 0.5);
  EXPECT_EQ(auroc(values({2, 2, 5, 0}), values({2, 1})), (0.5 + 1 + 0.5 + 1 + 2 + 0) / 8);
  // Normal densities a deviation apart: the normal distribution at 1 / sqrt(2).
  const auto quantiles = at::special_ndtri((torch::arange(2000, torch::kFloat64) + 0.5) / 2000);
  EXPECT_NEAR(auroc(quantiles + 1, quantiles), 0.5 * std::erfc(-0.5), 1e-3);
}

TEST(Scores, ResampledAurocIsThatOfDifferentDrawnScenes) {
  const auto rule = random_surprises(5, 0.5);
  const auto of = [&](const std::vector<int64_t>& scenes) {
    double sum = 0;
    int64_t count = 0;
    for (const int64_t i : scenes) {
      for (const int64_t k : scenes) {
        if (i == k) continue;
        sum += auroc(rule[i].select(2, 0).select(1, kBroken), rule[k].select(2, 0).select(1, 0));
        ++count;
      }
    }
    return sum / static_cast<double>(count);
  };
  const auto counts = torch::tensor({1., 1., 1., 1., 1., 2., 0., 1., 2., 0.}, torch::kFloat64);
  const auto resampled = resampled_auroc(rule, kMean, counts.view({2, 5}));
  EXPECT_NEAR(resampled[0].item<double>(), of({0, 1, 2, 3, 4}), 1e-12);
  EXPECT_NEAR(resampled[1].item<double>(), of({0, 0, 2, 3, 3}), 1e-12);
}

TEST(Scores, ResamplesOfAurocAreAboutItsValue) {
  // Every scene differs from the others far more than breaking a rule does: its own films are told
  // apart, those of different scenes are not.
  torch::manual_seed(4);
  const auto scenes = 10 * torch::randn({12, 1}, torch::kFloat64).expand({12, 2});
  const auto rule = surprises(scenes, scenes + 0.01, scenes);
  const auto made = measure({rule}, Metric::kAuroc, 0, 2000, 1);
  EXPECT_NEAR(made.values[0], 0.5, 1e-12);
  EXPECT_NEAR(made.resamples[0].mean().item<double>(), 0.5, 0.01);
  // One scene alone is set against itself; so is a resample that is one scene.
  EXPECT_EQ(measure({rule.slice(0, 0, 1)}, Metric::kAuroc, 0, 10, 1).values[0], 1);
  const auto twice = measure({rule.slice(0, 0, 2)}, Metric::kAuroc, 0, 50, 1);
  EXPECT_TRUE(twice.resamples[0].isfinite().all().item<bool>());
}

TEST(Scores, ScenesMayHaveFewerPairs) {
  auto rule = random_surprises(6, 0.5);
  rule[2][1].fill_(std::nan(""));
  const auto whole = [&](Metric metric) { return measure({rule}, metric, 0.3, 100, 1); };
  for (const Metric metric : all_metrics()) {
    const auto made = whole(metric);
    EXPECT_TRUE(std::isfinite(made.values[0])) << metric_name(metric);
    EXPECT_TRUE(made.resamples[0].isfinite().all().item<bool>()) << metric_name(metric);
  }
  const double lawful = rule[2][0][kLawful][0].item<double>();
  const double broken = rule[2][0][kBroken][0].item<double>();
  const auto accuracy = relative_accuracy(rule, kBroken, kLawful, kMean);
  EXPECT_EQ(accuracy[2].item<double>(), broken > lawful ? 1 : 0);
  EXPECT_EQ(set_accuracy(rule, kBroken, kLawful, kMean)[2].item<double>(), broken > lawful ? 1 : 0);
  EXPECT_TRUE(std::isfinite(best_threshold({rule}, kMax)));
}

TEST(Scores, RelativeAccuracyCountsEqualsHalf) {
  const auto lawful = values({1, 1, 1, 1}).view({2, 2}), broken = values({2, 0, 1, 3}).view({2, 2});
  const auto rule = surprises(lawful, broken, lawful);
  const auto accuracy = relative_accuracy(rule, kBroken, kLawful, kMean);
  EXPECT_EQ(accuracy[0].item<double>(), 0.5);
  EXPECT_EQ(accuracy[1].item<double>(), 0.75);
  EXPECT_TRUE(relative_accuracy(rule, kChanged, kLawful, kMax).eq(0.5).all().item<bool>());
}

TEST(Scores, SetsCancelWhatEndingsAre) {
  // One ending always surprises by 10; breaking the rule adds 1.
  const auto lawful = values({0, 10, 0, 10}).view({2, 2});
  const auto broken = values({11, 1, 11, 1}).view({2, 2});
  const auto rule = surprises(lawful, broken, lawful);
  EXPECT_TRUE(relative_accuracy(rule, kBroken, kLawful, kMean).eq(0.5).all().item<bool>());
  EXPECT_TRUE(set_accuracy(rule, kBroken, kLawful, kMean).eq(1).all().item<bool>());
  EXPECT_TRUE(set_accuracy(rule, kChanged, kLawful, kMean).eq(0.5).all().item<bool>());
}

TEST(Scores, TheThresholdTellsMostFilmsRight) {
  const auto lawful = values({0, 1, 2, 5}).view({2, 2}), broken = values({3, 4, 6, 7}).view({2, 2});
  const auto rule = surprises(lawful, broken, lawful);
  const double threshold = best_threshold({rule}, kMax);
  EXPECT_GT(threshold, 2);
  EXPECT_LE(threshold, 3);
  EXPECT_EQ(fired(rule, kBroken, kMax, threshold).mean().item<double>(), 1);
  EXPECT_EQ(fired(rule, kLawful, kMax, threshold).mean().item<double>(), 0.25);
  EXPECT_EQ(measure({rule}, Metric::kAbsolute, threshold, 10, 0).values[0], 0.875);
}

TEST(Scores, PooledOverDrawsAndScenes) {
  const auto strong = random_surprises(40, 3), none = random_surprises(40, 0);
  const auto arm = measure({strong, strong}, Metric::kRelative, 0, 500, 1);
  const auto control = measure({none, none}, Metric::kRelative, 0, 500, 1);
  ASSERT_EQ(arm.values.size(), 3u);
  EXPECT_NEAR(arm.values[2], (arm.values[0] + arm.values[1]) / 2, 1e-12);
  const auto difference = pooled_difference({arm, arm}, {control, control}, 1);
  EXPECT_GT(difference[2].low, 0);
  EXPECT_NEAR(difference[2].value, arm.values[2] - control.values[2], 1e-12);
  const auto same = pooled_difference({arm}, {arm}, 1);
  EXPECT_EQ(same[0].value, 0);
  EXPECT_EQ(same[0].low, 0);
  EXPECT_EQ(same[0].high, 0);
}

TEST(Scores, FewDrawsThatDifferMakeWideIntervals) {
  std::vector<RuleValues> draws;
  for (const double value : {0.45, 0.5, 0.55}) {
    draws.push_back({{value}, {torch::full({2000}, value, torch::kFloat64)}});
  }
  // Three draws: 4.30 / 1.96 * sqrt(3 / 2) times the farthest mean of three of them.
  const auto estimate = pooled(draws, 0).front();
  EXPECT_DOUBLE_EQ(estimate.value, 0.5);
  EXPECT_NEAR(estimate.low, 0.5 - 2.689 * 0.05, 0.01);
  EXPECT_NEAR(estimate.high, 0.5 + 2.689 * 0.05, 0.01);
}

TEST(Scores, IntervalsOfSharesEndWhereSharesDo) {
  const auto draws = [](double one, double other) {
    std::vector<RuleValues> made;
    for (const double value : {one, other}) {
      made.push_back({{value}, {torch::full({2000}, value, torch::kFloat64)}});
    }
    return made;
  };
  // Of two draws deviations are stretched more than ninefold.
  const auto share = pooled(draws(0.4, 0.8), 0).front();
  EXPECT_DOUBLE_EQ(share.value, 0.6);
  EXPECT_EQ(share.low, 0);
  EXPECT_EQ(share.high, 1);
  const auto difference = pooled_difference(draws(0.2, 0.8), draws(0.3, 0.7), 0).front();
  EXPECT_NEAR(difference.value, 0, 1e-12);
  EXPECT_EQ(difference.low, -1);
  EXPECT_EQ(difference.high, 1);
}

/// Rules of the same scenes: drawn together, their mean spreads as each of them does.
TEST(Scores, RulesThatShareTheirScenesShareTheirResamples) {
  const auto one = torch::rand({20, 3, 2, 2}, torch::kFloat64);
  const std::vector<torch::Tensor> alike(4, one);
  const auto counts = probes::resample_units(20, 200, 5);
  const auto shared = measure(alike, Metric::kRelative, 0, std::vector<torch::Tensor>(4, counts));
  EXPECT_TRUE(torch::allclose(shared.resamples.back(), shared.resamples.front()));
  EXPECT_NEAR(shared.values.back(), shared.values.front(), 1e-12);
  const auto apart = measure(alike, Metric::kRelative, 0, 200, 5);
  EXPECT_LT(apart.resamples.back().std().item<double>(),
            0.7 * shared.resamples.back().std().item<double>());
}

}  // namespace
}  // namespace jepa::eval::physics
