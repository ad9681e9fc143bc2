// Errors over compute on made cells whose slopes and best sizes are known; skill; long futures.
#include <eval/comparison/grid.hpp>
#include <eval/comparison/scale.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <set>

namespace jepa::eval::comparison {
namespace {

using probes::UnitScores;

constexpr int64_t kAsked = 200;
const std::vector<double> kBudgets{0.5, 2, 8, 50};

/// A cell whose mean over clips of `result` is `value`, clips and seeds varying about it.
void set_result(CellRecord& cell, const std::string& result, double value, double spread) {
  auto values = torch::randn({kAsked}, torch::kFloat64);
  values = value * (1 + spread * (values - values.mean()));
  const auto scores = UnitScores::of_values(values, torch::arange(kAsked), kAsked);
  cell.scores.insert_or_assign(result, scores);
  cell.results[result] = {scores.value(), scores.value(), scores.value()};
}

/// Errors fall as 3 tera^slope at the best width, which doubles with every fourfold budget; other
/// widths are worse by how far off they are.
std::vector<CellRecord> made_cells(const std::string& arm, double slope, double seed_spread) {
  std::vector<CellRecord> cells;
  for (size_t b = 0; b < kBudgets.size(); ++b) {
    for (const int64_t width : {24, 48, 96}) {
      for (int64_t seed = 0; seed < 3; ++seed) {
        CellRecord cell{.arm = arm, .tera = kBudgets[b], .seed = seed, .width = width};
        const double best = b < 1 ? 24 : b < 3 ? 48 : 96;
        const double off = std::abs(std::log2(static_cast<double>(width) / best));
        const double luck = 1 + seed_spread * (static_cast<double>(seed) - 1);
        const double error = 3 * std::pow(kBudgets[b], slope) * (1 + 0.2 * off) * luck;
        set_result(cell, "future/position_error/h4", error, 0.1);
        set_result(cell, "probe/digit", 1 - 0.1 * error, 0.01);
        cells.push_back(cell);
      }
    }
  }
  return cells;
}

const ScaleCurve& curve_of(const std::vector<ScaleCurve>& curves, const std::string& arm,
                           const std::string& result) {
  for (const auto& curve : curves) {
    if (curve.arm == arm && curve.measure.result == result) return curve;
  }
  throw Error("no curve of " + arm + ", " + result);
}

TEST(Scale, FindsSlopesAndSizes) {
  torch::manual_seed(1);
  auto cells = made_cells("jepa", -0.3, 0.02);
  for (auto& cell : made_cells("pixels", -0.1, 0.02)) cells.push_back(cell);
  const auto curves = fit_scale(cells, 400);
  EXPECT_EQ(curves.size(), 4U);
  for (const auto& [arm, slope] : {std::pair{"jepa", -0.3}, {"pixels", -0.1}}) {
    SCOPED_TRACE(arm);
    const auto& curve = curve_of(curves, arm, "future/position_error/h4");
    ASSERT_TRUE(curve.fitted);
    EXPECT_NEAR(curve.slope.value, slope, 0.01);
    EXPECT_LT(curve.slope.low, slope);
    EXPECT_GT(curve.slope.high, slope);
    EXPECT_LT(curve.slope.high - curve.slope.low, 0.15);
    EXPECT_NEAR(curve.intercept, std::log10(3.0), 0.02);
    ASSERT_EQ(curve.points.size(), kBudgets.size());
    const std::vector<int64_t> widths{24, 48, 48, 96};
    for (size_t b = 0; b < widths.size(); ++b) {
      EXPECT_EQ(curve.points[b].width, widths[b]);
      EXPECT_EQ(curve.points[b].sizes.size(), 3U);
      EXPECT_GT(curve.points[b].share, 0.9);
    }
    // The error of an accuracy is 1 less it, here a tenth of the other.
    const auto& probed = curve_of(curves, arm, "probe/digit");
    EXPECT_TRUE(probed.measure.complement);
    EXPECT_NEAR(probed.slope.value, slope, 0.02);
  }
  const auto json = nlohmann::json::parse(scale_json(curves));
  EXPECT_EQ(json.size(), 4U);
  EXPECT_NEAR(json[0].at("slope").at("value").get<double>(), -0.3, 0.02);
  const std::string plot = scale_plot(curves, "future/position_error/h4");
  EXPECT_NE(plot.find("pixels"), std::string::npos);
  EXPECT_NE(scale_section(curves).find("TFLOP"), std::string::npos);
  EXPECT_NE(scale_table(curves).find("slope"), std::string::npos);
}

TEST(Scale, APointsIntervalIsOfTheLeastOfItsSizes) {
  // Six sizes that are alike: the least of six on a resample is seldom as high as one of them.
  torch::manual_seed(5);
  std::vector<CellRecord> cells;
  for (const double tera : {1.0, 4.0}) {
    for (int64_t width = 1; width <= 6; ++width) {
      cells.push_back({.arm = "jepa", .tera = tera, .width = width});
      set_result(cells.back(), "future/position_error/h4", 1, 1);
    }
  }
  const auto curves = fit_scale(cells, 400);
  for (const auto& point : curves.front().points) {
    EXPECT_NEAR(point.error.value, 1, 1e-9);
    EXPECT_LT(point.error.high, 1.05);  // of one size alone 1.14
    EXPECT_LT(point.error.low, 0.87);
  }
  const std::string plot = scale_plot(curves, "future/position_error/h4");
  EXPECT_NE(plot.find("opacity=\"0.15\""), std::string::npos);
}

TEST(Scale, LuckOfASeedEverywhereTurnsNoLine) {
  torch::manual_seed(2);
  const auto width = [](double spread) {
    const auto curves = fit_scale(made_cells("jepa", -0.2, spread), 400);
    const auto& curve = curve_of(curves, "jepa", "future/position_error/h4");
    return curve.slope.high - curve.slope.low;
  };
  // Each seed is as lucky at every budget, and a resample draws the same seeds at all of them: that
  // moves lines and does not turn them.
  EXPECT_LT(width(0.1), 3 * width(0.01));
}

TEST(Scale, ErrorsNearZeroStayPositive) {
  // Seeds that differ by half of the error: added deviations would go below zero.
  torch::manual_seed(3);
  std::vector<CellRecord> cells;
  for (const double tera : {1.0, 4.0}) {
    for (int64_t seed = 0; seed < 3; ++seed) {
      cells.push_back({.arm = "jepa", .tera = tera, .seed = seed});
      set_result(cells.back(), "future/position_error/h4", 0.02 * (1 + 0.5 * (seed - 1)), 0.001);
    }
  }
  const auto curves = fit_scale(cells, 400);
  for (const auto& point : curves.front().points) {
    EXPECT_NEAR(point.error.value, 0.02, 0.002);
    EXPECT_GT(point.error.low, 0.001);  // the smallest error that counts is 1e-4
    EXPECT_GT(point.error.high, 0.04);
  }
}

TEST(Scale, SharesEndAtOne) {
  torch::manual_seed(4);
  std::vector<CellRecord> cells;
  for (const double tera : {1.0, 4.0}) {
    for (int64_t seed = 0; seed < 2; ++seed) {
      cells.push_back({.arm = "jepa", .tera = tera, .seed = seed});
      set_result(cells.back(), "surprise/pairs", seed == 0 ? 0.3 : 0.6, 0.01);
      set_result(cells.back(), "future/position_error/h4", seed == 0 ? 0.7 : 0.4, 0.01);
    }
  }
  // Two seeds: far more than the share that there is, but not of pixels.
  const auto curves = fit_scale(cells, 400);
  const auto& share = curve_of(curves, "jepa", "surprise/pairs").points.front().error;
  EXPECT_NEAR(share.value, 0.55, 0.01);
  EXPECT_EQ(share.high, 1);
  EXPECT_GT(curve_of(curves, "jepa", "future/position_error/h4").points.front().error.high, 1.5);
}

TEST(Scale, OneBudgetIsNoLine) {
  auto cells = made_cells("jepa", -0.3, 0.02);
  std::erase_if(cells, [](const CellRecord& cell) { return cell.tera != 2; });
  EXPECT_TRUE(fit_scale(cells).empty());
  EXPECT_EQ(scale_section({}), "");
}

TEST(Scale, WidthsAreCellsOfTheirOwn) {
  ComparisonOptions options;
  options.arms = "jepa,random_init";
  options.budgets = {1, 2};
  options.seeds = {0};
  options.widths = {64, 96};
  options.arm.jepa.encoder.preset = "custom";
  options.arm.jepa.encoder.vit.dim = options.arm.jepa.predictor.masked.dim = 96;
  options.arm.jepa.encoder.vit.heads = options.arm.jepa.predictor.masked.heads = 3;
  options.arm.generative.transformer.dim = 96;
  options.arm.generative.transformer.heads = 3;
  const auto cells = plan_cells(options);
  EXPECT_EQ(cells.size(), 2U * 2 + 2);
  std::set<std::string> folders;
  for (const auto& cell : cells) {
    folders.insert(cell_plan(options, cell).folder);
    EXPECT_EQ(cell_arm(options, cell).jepa.encoder.vit.dim, cell.width);
    EXPECT_EQ(cell_arm(options, cell).generative.transformer.heads, cell.width / 32);
  }
  EXPECT_EQ(folders.size(), cells.size());
  EXPECT_THROW(cell_arm(options, {.arm = "jepa", .width = 50}), ConfigError);
}

TEST(Skill, IsOverCopying) {
  torch::manual_seed(3);
  std::vector<CellRecord> cells;
  for (int64_t seed = 0; seed < 2; ++seed) {
    cells.push_back({.arm = "jepa", .tera = 1, .seed = seed});
    set_result(cells.back(), "future/position_error/h4", 2, 0.1);
    set_result(cells.back(), "shift/speed_far/future/position_error", 5, 0.1);
  }
  cells.push_back({.arm = "copy_last"});
  set_result(cells.back(), "future/position_error/h4", 4, 0.1);
  set_result(cells.back(), "shift/speed_far/future/position_error", 4, 0.1);
  auto rows = summarise(cells);
  add_skill(cells, rows);
  const auto& skill = rows.front().results.at("future/skill/h4");
  EXPECT_NEAR(skill.value, 0.5, 1e-9);
  EXPECT_LT(skill.low, 0.5);
  EXPECT_GT(skill.high, 0.5);
  EXPECT_LT(skill.high - skill.low, 0.1);
  EXPECT_NEAR(rows.front().results.at("shift/speed_far/future/skill").value, -0.25, 1e-9);
}

TEST(RollOut, GoesOnFromWhatWasDrawn) {
  // An arm that draws every frame one brighter than the one before: frame t of a film is t.
  Arm arm;
  arm.predict = [](const torch::Tensor& clips, int64_t futures, uint64_t) {
    const auto last = clips.narrow(2, 3, 1).unsqueeze(0);
    std::vector<torch::Tensor> frames;
    for (int64_t h = 1; h <= clips.size(2) - 4; ++h) frames.push_back(last + h);
    return torch::cat(frames, 3).repeat({futures, 1, 1, 1, 1, 1});
  };
  const auto time = torch::arange(23, torch::kInt64).to(torch::kUInt8).view({1, 1, 23, 1, 1});
  auto film = time.expand({2, 1, 23, 2, 2}).clone();
  const auto truth = film.slice(2, 4).clone();
  film.slice(2, 4).fill_(99);  // nobody looks there
  const auto drawn = roll_out(arm, film, 4, 10, 3, 0);
  ASSERT_EQ(drawn.sizes(), (std::vector<int64_t>{3, 2, 1, 19, 2, 2}));
  EXPECT_TRUE(drawn[0].equal(truth));
  EXPECT_TRUE(drawn[2].equal(truth));
}

}  // namespace
}  // namespace jepa::eval::comparison
