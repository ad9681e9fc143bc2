// Arm less arm: pairing by clip and seed, and what a report makes of it.
#include <eval/comparison/grid.hpp>
#include <eval/comparison/paired.hpp>
#include <jepa/errors.hpp>
#include <jepa/random.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::comparison {
namespace {

using probes::UnitScores;

constexpr int64_t kClips = 300;

/// Values of `kClips` clips as scores, each clip a unit.
UnitScores scores(const torch::Tensor& values) {
  return UnitScores::of_values(values, torch::arange(kClips), kClips);
}

ResampledScores resampled(const std::vector<torch::Tensor>& seeds) {
  std::vector<UnitScores> all;
  for (const auto& seed : seeds) all.push_back(scores(seed));
  return resample_scores(all, probes::resample_units(kClips, 1000, 0));
}

TEST(ArmDifference, IsPairedOverClips) {
  torch::manual_seed(1);
  const auto hard = 5 * torch::randn({kClips}, torch::kFloat64);  // what both arms share
  const auto noise = [] { return 0.1 * torch::randn({kClips}, torch::kFloat64); };
  const auto a = resampled({hard + 0.2 + noise()}), b = resampled({hard + noise()});
  const auto difference = arm_difference(a, b, 0);
  EXPECT_NEAR(difference.value, 0.2, 0.03);
  EXPECT_GT(difference.low, 0.15);  // unpaired it would be 0.2 +- 0.8
  EXPECT_LT(difference.high, 0.25);
}

TEST(ArmDifference, SeedsAloneGiveTheTInterval) {
  // Every clip tells the same, so that only seeds differ: 0.1, 0.2, 0.6 above the other arm.
  const auto flat = [](double value) { return torch::full({kClips}, value, torch::kFloat64); };
  const auto a = resampled({flat(1.1), flat(1.2), flat(1.6)});
  const auto b = resampled({flat(1.0), flat(1.0), flat(1.0)});
  const auto difference = arm_difference(a, b, 0);
  EXPECT_NEAR(difference.value, 0.3, 1e-12);
  const double deviation = std::sqrt((0.04 + 0.01 + 0.09) / 2), half = 4.3027 * deviation / 1.7321;
  EXPECT_NEAR(difference.high - difference.value, half, 0.05 * half);
  EXPECT_LT(difference.low, 0);
  // An arm without seeds stands against all of them.
  const auto one = arm_difference(a, resampled({flat(1.0)}), 0);
  EXPECT_NEAR(one.low, difference.low, 1e-9);
}

TEST(ArmDifference, HoldsTheTruthOverClipsAndSeeds) {
  // Two arms that are equal but for the luck of seeds and clips, three seeds each.
  int64_t held = 0;
  const int64_t trials = 200;
  const auto counts = probes::resample_units(kClips, 300, 0);
  for (int64_t trial = 0; trial < trials; ++trial) {
    torch::manual_seed(static_cast<uint64_t>(100 + trial));
    const auto arm = [&] {
      std::vector<UnitScores> seeds;
      for (int s = 0; s < 3; ++s) {
        seeds.push_back(scores(0.1 * torch::randn({1}, torch::kFloat64) +
                               torch::randn({kClips}, torch::kFloat64)));
      }
      return resample_scores(seeds, counts);
    };
    const auto difference = arm_difference(arm(), arm(), 0);
    held += difference.low <= 0 && difference.high >= 0;
  }
  EXPECT_GT(held, 0.91 * trials);
}

CellRecord cell(const std::string& arm, double tera, int64_t seed, double level) {
  torch::manual_seed(static_cast<uint64_t>(seed) + 10 * arm.size());
  const auto values = level + 0.02 * torch::randn({kClips}, torch::kFloat64);
  CellRecord record{.arm = arm, .tera = tera, .seed = seed};
  for (const char* name : {"probe/digit", "future/position_error/h8"}) {
    record.results[name] = {level, level - 0.01, level + 0.01};
    record.scores.insert_or_assign(name, scores(values));
  }
  record.results["cost/clips"] = {100, 100, 100};
  return record;
}

std::vector<CellRecord> cells() {
  std::vector<CellRecord> all;
  for (const int64_t seed : {0, 1, 2}) {
    all.push_back(cell("jepa", 6, seed, 0.60));
    all.push_back(cell("pixels", 6, seed, 0.50));
    all.push_back(cell("latents", 6, seed, seed == 1 ? 0.9 : 0.45));
    all.push_back(cell("random_init", 0, seed, 0.40));
  }
  CellRecord copy = cell("copy_last", 0, 0, 0.9);
  copy.results.erase("probe/digit");
  copy.scores.erase("probe/digit");
  all.push_back(copy);
  return all;
}

TEST(PairedDifferences, StandForEveryPairOnce) {
  const auto differences = paired_differences(cells());
  ASSERT_EQ(differences.size(), 10U);  // of five arms
  const auto& first = differences.front();
  EXPECT_EQ(first.arm + " less " + first.less, "jepa less pixels");
  EXPECT_EQ(first.seeds, 3);
  EXPECT_NEAR(first.results.at("probe/digit").value, 0.1, 0.01);
  for (const auto& difference : differences) {
    EXPECT_EQ(difference.results.contains("probe/digit"), difference.less != "copy_last");
  }
}

TEST(ComparisonReport, ClaimsNothingWithoutAPairedIntervalClearOfZero) {
  ComparisonOptions options;
  options.arms = "jepa,pixels,latents,random_init";
  const auto summary = summarise_comparison(options, cells());
  const std::string html = comparison_section(summary);
  EXPECT_NE(html.find("jepa is clear ahead on: digit (pixels) by +0."), std::string::npos);
  // Against latents one seed says otherwise: the interval holds 0, and it is in no list.
  EXPECT_EQ(html.find("digit (latents) by"), std::string::npos);
  // Less error is better: 0.60 px against 0.50 px is behind.
  EXPECT_NE(html.find("clear behind on: error, h 8 (pixels) by +0."), std::string::npos);
  for (const char* word : {"best", "better", "next"}) {
    EXPECT_EQ(html.find(word), std::string::npos) << word;
  }
  const std::string text = comparison_table(summary);
  EXPECT_NE(text.find("jepa less pixels, 6 TFLOP, paired:  digit +0."), std::string::npos);

  auto older = cells();  // kept no scores of clips
  for (auto& record : older) record.scores.clear();
  const std::string unpaired = comparison_section(summarise_comparison(options, older));
  EXPECT_NE(unpaired.find("nothing is paired"), std::string::npos);
  EXPECT_EQ(unpaired.find("class=\" good\""), std::string::npos);
}

TEST(ComparisonReport, WritesDownTheTuningOfEveryArm) {
  ComparisonOptions options;
  options.arms = "jepa,pixels";
  options.tuning = {{"jepa", "6: lr 1e-3, 3e-3 x decay 0, 0.01, 0.04"}, {"pixels", "2: lr"}};
  const auto text = [&] { return comparison_table(summarise_comparison(options, cells())); };
  EXPECT_NE(text().find("Tuning effort differs"), std::string::npos);
  options.tuning["pixels"] = "6: lr 1e-3, 2e-3, 4e-3 x 2 samplers";
  EXPECT_NE(text().find("same number of runs"), std::string::npos);
  options.tuning.erase("pixels");
  EXPECT_NE(text().find("not stated"), std::string::npos);
  const auto summary = summarise_comparison(options, cells());
  const auto json = nlohmann::json::parse(summary_json(options, cells(), summary, 1));
  EXPECT_EQ(json["tuning"][0]["runs"], 6);
  EXPECT_TRUE(json["tuning"][1]["runs"].is_null());
  EXPECT_EQ(json["differences"].size(), 10U);
  options.tuning["jepa"] = "many";
  EXPECT_THROW(tuning_efforts(options), ConfigError);
}

}  // namespace
}  // namespace jepa::eval::comparison
