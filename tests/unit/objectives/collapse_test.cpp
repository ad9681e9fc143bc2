// Collapse diagnostics on tokens made to collapse in known ways.
#include <jepa/errors.hpp>
#include <jepa/objectives/collapse.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <chrono>
#include <cmath>
#include <limits>

namespace jepa {
namespace {

/// Tokens [B, N, D] with standard deviations `position`, `clip` and `rest` of three random parts.
torch::Tensor tokens(double position, double clip, double rest, int64_t b = 64, int64_t n = 64,
                     int64_t d = 96) {
  torch::manual_seed(2);
  return 0.3 + position * torch::randn({1, n, d}) + clip * torch::randn({b, 1, d}) +
         rest * torch::randn({b, n, d});
}

TEST(Collapse, SplitsVarianceThreeWays) {
  const auto report = measure_collapse(tokens(3, 2, 1));
  EXPECT_NEAR(report.position_share, 9.0 / 14, 0.02);
  EXPECT_NEAR(report.clip_share, 4.0 / 14, 0.02);
  EXPECT_NEAR(report.rest_share, 1.0 / 14, 0.01);
  EXPECT_DOUBLE_EQ(report.position_share + report.clip_share + report.rest_share, 1.0);
  EXPECT_NEAR(report.std_median, std::sqrt(14.0), 0.4);
  EXPECT_LE(report.std_min, report.std_median);
}

TEST(Collapse, RanksCountDirections) {
  torch::manual_seed(4);
  const auto basis = std::get<0>(torch::linalg_qr(torch::randn({32, 5})));  // 5 directions of 32
  const auto low = at::matmul(torch::randn({20, 30, 5}), basis.t());
  const auto report = measure_collapse(low);
  EXPECT_NEAR(report.rankme, 5, 0.1);
  EXPECT_NEAR(report.effective_rank, 5, 0.1);
  EXPECT_NEAR(report.content_rank, 5, 0.1);
  EXPECT_NEAR(report.cosine, 0, 0.01);
  // Position codes keep every rank but that of the content.
  const auto positions = torch::randn({1, 64, 32}) +
                         0.1 * at::matmul(torch::randn({20, 64, 1}), torch::randn({1, 32}));
  const auto codes = measure_collapse(positions);
  EXPECT_GT(codes.rankme, 20);
  EXPECT_NEAR(codes.content_rank, 1, 0.05);
}

TEST(Collapse, OnePointIsAllZeroButForItsDirection) {
  const auto report = measure_collapse(torch::full({3, 4, 5}, 2.0));
  EXPECT_NEAR(report.rankme, 1, 1e-3);
  EXPECT_NEAR(report.cosine, 1, 1e-6);
  EXPECT_EQ(report.std_median, 0);
  EXPECT_EQ(report.position_share + report.clip_share + report.rest_share, 0);
}

TEST(Collapse, JudgesInPlainWords) {
  const auto initial = measure_collapse(tokens(2, 0.1, 1));  // 0.8 position, as a random encoder
  const auto healthy = assess(measure_collapse(tokens(1.4, 0.3, 1)), initial);
  EXPECT_EQ(healthy.state, CollapseState::healthy) << healthy.text;
  EXPECT_EQ(assess(initial, initial).state, CollapseState::healthy);

  const auto position = assess(measure_collapse(tokens(2, 0.01, 0.1)), initial);
  EXPECT_EQ(position.state, CollapseState::position_codes) << position.text;
  EXPECT_TRUE(position.collapsed);
  EXPECT_NE(position.text.find("position codes"), std::string::npos);

  const auto drifting = assess(measure_collapse(tokens(2, 0.05, 0.65)), initial);
  EXPECT_EQ(drifting.state, CollapseState::position_codes) << drifting.text;
  EXPECT_FALSE(drifting.collapsed);

  const auto clip = assess(measure_collapse(tokens(0.5, 2, 0.5)), initial);
  EXPECT_EQ(clip.state, CollapseState::clip_codes) << clip.text;
  EXPECT_TRUE(clip.collapsed);

  const auto flat = assess(measure_collapse(0.01 * tokens(2, 0.1, 1)), initial);
  EXPECT_EQ(flat.state, CollapseState::dimensional) << flat.text;
  const auto point = assess(measure_collapse(torch::ones({8, 8, 96})), initial);
  EXPECT_EQ(point.state, CollapseState::dimensional) << point.text;
  EXPECT_TRUE(point.collapsed);
}

TEST(Collapse, ReportSurvivesStorage) {
  const auto report = measure_collapse(tokens(1, 1, 1, 8, 9, 10));
  EXPECT_EQ(CollapseReport::from_values(report.values()).values(), report.values());
  auto values = report.values();
  values.erase("rankme");
  EXPECT_THROW(CollapseReport::from_values(values), CheckpointError);
}

TEST(Collapse, RefusesTokensThatAreNotFinite) {
  auto bad = torch::randn({4, 4, 4});
  bad[1][2][3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(measure_collapse(bad), Error);
}

TEST(Collapse, CostsMillisecondsOnATrainingBatch) {
  const auto batch = tokens(1, 1, 1);
  measure_collapse(batch);
  const auto start = std::chrono::steady_clock::now();
  measure_collapse(batch);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  RecordProperty("milliseconds", static_cast<int>(1000 * seconds.count()));
  EXPECT_LT(seconds.count(), 0.25);  // about 0.01 on an idle core
}

}  // namespace
}  // namespace jepa
