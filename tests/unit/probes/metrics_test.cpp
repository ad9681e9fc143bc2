// Scores and bootstrap intervals.
#include <eval/probes/metrics.hpp>
#include <jepa/random.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <map>

namespace jepa::eval::probes {
namespace {

TEST(UnitScores, AccuracyAndR2ByHand) {
  const auto units = torch::tensor({0, 0, 1, 1});
  const UnitScores classes(torch::tensor({1, 2, 3, 3}), torch::tensor({1, 2, 3, 0}), units, 2);
  EXPECT_DOUBLE_EQ(classes.value(), 0.75);

  const auto truth = torch::tensor({{1.0, 5.0}, {2.0, 5.0}, {3.0, 6.0}, {4.0, 8.0}});
  const auto predicted = torch::tensor({{1.0, 6.0}, {2.0, 6.0}, {3.0, 6.0}, {4.0, 6.0}});
  const UnitScores quantities(predicted, truth, units, 2);
  const auto each = quantities.per_output();  // second: error 1+1+0+4, spread 1+1+0+4
  EXPECT_DOUBLE_EQ(each[0], 1);
  EXPECT_DOUBLE_EQ(each[1], 0);
  EXPECT_DOUBLE_EQ(quantities.value(), 0.5);
}

TEST(UnitScores, ResamplesWholeUnits) {
  // Unit 0 is all right, unit 1 all wrong and three times as large.
  const UnitScores scores(torch::tensor({1, 0, 0, 0}), torch::ones({4}, torch::kInt64),
                          torch::tensor({0, 1, 1, 1}), 2);
  const auto counts = torch::tensor({{2.0, 0.0}, {1.0, 1.0}, {0.0, 2.0}}, torch::kFloat64);
  EXPECT_TRUE(
      torch::allclose(scores.resampled(counts), torch::tensor({1.0, 0.25, 0.0}, torch::kFloat64)));
}

TEST(UnitScores, R2OnResamplesEqualsDirectComputation) {
  torch::manual_seed(6);
  const auto truth = torch::randn({30, 2}) + 100;
  const auto predicted = truth + 0.5 * torch::randn({30, 2});
  const auto units = torch::arange(30).div(3, "floor");
  const UnitScores scores(predicted, truth, units, 10);
  auto counts = torch::zeros({1, 10}, torch::kFloat64);
  counts[0][2] = 1;
  counts[0][7] = 2;
  const auto rows = torch::tensor({6, 7, 8, 21, 22, 23, 21, 22, 23});
  const auto y = truth.index_select(0, rows).to(torch::kFloat64);
  const auto e = (predicted.index_select(0, rows).to(torch::kFloat64) - y).square().sum(0);
  const auto expected = (1 - e / (y - y.mean(0)).square().sum(0)).mean();
  EXPECT_NEAR(scores.resampled(counts).item<double>(), expected.item<double>(), 1e-6);
}

TEST(Bootstrap, NumbersUnitsAndDrawsThemReproducibly) {
  int64_t count = 0;
  const auto units = number_units(torch::tensor({70, -3, 70, 12}), count);
  EXPECT_EQ(count, 3);
  EXPECT_TRUE(torch::equal(units, torch::tensor({2, 0, 2, 1})));
  const auto counts = resample_units(7, 50, 3);
  EXPECT_TRUE(torch::equal(counts.sum(1), torch::full({50}, 7.0, torch::kFloat64)));
  EXPECT_TRUE(torch::equal(counts, resample_units(7, 50, 3)));
  EXPECT_FALSE(torch::equal(counts, resample_units(7, 50, 4)));
}

TEST(Bootstrap, IntervalsOverUnitsCoverTheTruthWhereClipsWouldNot) {
  // 60 units of 10 clips; whether a unit is easy is drawn once for all its clips, so that clips
  // are far from independent. True accuracy 0.5.
  const int64_t units = 60, clips = 10, trials = 300;
  int64_t by_unit = 0, by_clip = 0;
  const auto truth = torch::zeros({units * clips}, torch::kInt64);
  const auto names = torch::arange(units * clips).div(clips, "floor");
  for (int64_t trial = 0; trial < trials; ++trial) {
    Random random(static_cast<uint64_t>(trial));
    auto wrong = torch::zeros({units * clips}, torch::kInt64);
    auto* data = wrong.data_ptr<int64_t>();
    for (int64_t u = 0; u < units; ++u) {
      const double chance = random.uniform() < 0.5 ? 0.9 : 0.1;
      for (int64_t c = 0; c < clips; ++c) data[u * clips + c] = random.uniform() < chance;
    }
    const auto covers = [](const Estimate& e) { return e.low <= 0.5 && 0.5 <= e.high; };
    const UnitScores units_scores(wrong, truth, names, units);
    const UnitScores clip_scores(wrong, truth, torch::arange(units * clips), units * clips);
    const auto seed = static_cast<uint64_t>(trial);
    by_unit += covers(estimate(units_scores, resample_units(units, 200, seed)));
    by_clip += covers(estimate(clip_scores, resample_units(units * clips, 200, seed)));
  }
  EXPECT_GT(by_unit, 0.89 * trials);
  EXPECT_LT(by_unit, 0.99 * trials);
  EXPECT_LT(by_clip, 0.75 * trials);
}

TEST(Bootstrap, PairedDifferenceIsTighterThanItsParts) {
  torch::manual_seed(8);
  const auto truth = torch::ones({200}, torch::kInt64);
  const auto a = (torch::rand({200}) < 0.6).to(torch::kInt64);
  auto b = a.clone();
  b.narrow(0, 0, 10).zero_();
  const auto units = torch::arange(200);
  const UnitScores better(a, truth, units, 200), worse(b, truth, units, 200);
  const auto counts = resample_units(200, 1000, 1);
  const auto difference = paired_difference(better, worse, counts);
  EXPECT_DOUBLE_EQ(difference.value, better.value() - worse.value());
  EXPECT_GT(difference.low, 0);
  const auto alone = estimate(better, counts);
  EXPECT_LT(difference.high - difference.low, 0.5 * (alone.high - alone.low));
  EXPECT_LT(alone.low, alone.value);
  EXPECT_GT(alone.high, alone.value);
}

TEST(Bootstrap, ADrawnControlWidensTheIntervalByItsSpread) {
  const int64_t clips = 400;
  const auto truth = torch::ones({clips}, torch::kInt64);
  const auto units = torch::arange(clips);
  const auto answers = [&](int64_t right) {
    auto said = torch::zeros({clips}, torch::kInt64);
    said.narrow(0, 0, right).fill_(1);
    return UnitScores(said, truth, units, clips);
  };
  const auto counts = resample_units(clips, 500, 1);
  const auto chosen = resample_draws(3, 500, 1);
  const std::vector<UnitScores> control{answers(160), answers(200), answers(240)};
  // Above the mean of the draws, and not above one of them.
  const auto difference = paired_difference(answers(240), control, counts, chosen);
  EXPECT_DOUBLE_EQ(difference.value, 0.1);
  EXPECT_LE(difference.low, 0);
  EXPECT_GT(difference.high, 0.18);
  EXPECT_GT(paired_difference(answers(320), control, counts, chosen).low, 0.1);
  const auto spread = estimate(control, counts, chosen);
  EXPECT_DOUBLE_EQ(spread.value, 0.5);
  EXPECT_LT(spread.low, 0.42);
  EXPECT_GT(spread.high, 0.58);
}

TEST(StudentT, QuantilesAreThoseOfThePrintedTable) {
  const std::map<int, double> table{{1, 12.7062},  {2, 4.30265},  {9, 2.26216},   {10, 2.22814},
                                    {11, 2.20099}, {30, 2.04227}, {1000, 1.96234}};
  for (const auto& [freedom, value] : table) {
    EXPECT_NEAR(student_t_quantile(freedom, 0.975), value, 1e-4) << freedom;
    EXPECT_NEAR(student_t_quantile(freedom, 0.025), -value, 1e-4) << freedom;
  }
}

}  // namespace
}  // namespace jepa::eval::probes
