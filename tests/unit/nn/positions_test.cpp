#include <jepa/errors.hpp>
#include <jepa/nn/positions.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::nn {
namespace {

TEST(SinCos, EntriesFollowTheFormula) {
  const TokenGrid grid{2, 3, 4};
  const int64_t dim = 20;  // parts of 8 (2 * ceil(20 / 6)), cut to 20
  const auto table = sincos_3d(dim, grid, true);
  ASSERT_EQ(table.sizes(), (std::vector<int64_t>{24, 20}));
  const auto row = table[grid.id(1, 2, 3)];
  for (int64_t i = 0; i < 4; ++i) {
    const double omega = std::pow(10000.0, -static_cast<double>(i) / 4);
    EXPECT_NEAR(row[i].item<double>(), std::sin(1 * omega), 1e-6);
    EXPECT_NEAR(row[8 + i].item<double>(), std::sin(2 * omega), 1e-6);
    EXPECT_NEAR(row[12 + i].item<double>(), std::cos(2 * omega), 1e-6);
    EXPECT_NEAR(row[16 + i].item<double>(), std::sin(3 * omega), 1e-6);
  }
}

TEST(SinCos, ImagesEncodeTheColumnFirst) {
  const auto table = sincos_2d(8, 3, 5);
  EXPECT_NEAR(table[4][0].item<double>(), std::sin(4.0), 1e-6);   // row 0, column 4
  EXPECT_NEAR(table[10][4].item<double>(), std::sin(2.0), 1e-6);  // row 2, column 0
}

TEST(SinCos, FewerFramesTakeTheFirstRows) {
  const auto table = sincos_3d(12, {4, 2, 3}, true).unsqueeze(0);
  const auto shorter = resize_positions(table, {4, 2, 3}, {2, 2, 3});
  EXPECT_TRUE(torch::equal(shorter, table.narrow(1, 0, 12)));
}

TEST(SinCos, ResizingKeepsTheOrderOfTheGrid) {
  // A table whose only column grows with the row must still do so on a finer grid.
  const TokenGrid from{2, 4, 4};
  const auto rows = grid_positions(from, 0)[1].view({1, from.size(), 1});
  const TokenGrid to{2, 8, 6};
  const auto resized = resize_positions(rows, from, to).view({to.t, to.h, to.w});
  EXPECT_GT((resized.narrow(1, 1, 7) - resized.narrow(1, 0, 7)).min().item<double>(), -1e-6);
  EXPECT_LT((resized - resized.select(2, 0).unsqueeze(2)).abs().max().item<double>(), 1e-6);
}

RotaryTable table_at(double t, double h, double w, int64_t head_dim, RotaryLayout layout) {
  return rotary_table({torch::full({1}, t), torch::full({1}, h), torch::full({1}, w)}, head_dim,
                      layout);
}

TEST(Rotary, InterleavedScoresDependOnTheDifferenceOnly) {
  torch::manual_seed(1);
  const auto q = torch::randn({1, 20});
  const auto k = torch::randn({1, 20});
  const auto score = [&](double shift, RotaryLayout layout) {
    const auto a = rotate(q, table_at(1 + shift, 2 + shift, 3 + shift, 20, layout));
    const auto b = rotate(k, table_at(4 + shift, 1 + shift, 5 + shift, 20, layout));
    return (a * b).sum().item<double>();
  };
  EXPECT_NEAR(score(0, RotaryLayout::kInterleaved), score(3, RotaryLayout::kInterleaved), 1e-4);
  // The published tiled table is no rotation; this difference is what the flag is for.
  EXPECT_GT(std::abs(score(0, RotaryLayout::kTiled) - score(3, RotaryLayout::kTiled)), 1e-3);
}

TEST(Rotary, RemainderIsNotTurned) {
  EXPECT_EQ(rotary_axis_width(64), 20);
  EXPECT_EQ(rotary_axis_width(80), 26);
  EXPECT_EQ(rotary_axis_width(32), 10);
  const auto x = torch::randn({2, 3, 4, 16});
  const auto table = rotary_table(grid_positions({1, 2, 2}, 0), 16, RotaryLayout::kTiled);
  ASSERT_EQ(table.cos.size(1), 12);
  const auto y = rotate(x, table);
  EXPECT_TRUE(torch::equal(y.narrow(-1, 12, 4), x.narrow(-1, 12, 4)));
  EXPECT_FALSE(torch::equal(y.narrow(-1, 0, 12), x.narrow(-1, 0, 12)));
}

TEST(Rotary, SharedTablesGiveTheRowsOfTheIds) {
  const RotaryPositions rotary(18, RotaryLayout::kInterleaved, 16);
  const TokenGrid grid{2, 3, 4};
  const auto whole = rotary.table(grid, {}, torch::kCPU);
  const auto ids = torch::tensor({{5, 0, 23}, {7, 7, 1}});
  const auto some = rotary.table(grid, ids, torch::kCPU);
  ASSERT_EQ(some.cos.sizes(), (std::vector<int64_t>{2, 3, 18}));
  EXPECT_TRUE(torch::equal(some.sin[1][0], whole.sin[7]));
  EXPECT_TRUE(torch::equal(some.cos[0][2], whole.cos[23]));
  // Another grid has a table of its own; the first one's stays.
  EXPECT_EQ(rotary.table({1, 2, 2}, {}, torch::kCPU).cos.size(0), 4);
}

TEST(Rotary, ReferenceStretchesSidesOnly) {
  const auto positions = grid_positions({2, 4, 6}, 16);
  EXPECT_FLOAT_EQ(positions[0].max().item<float>(), 1);
  EXPECT_FLOAT_EQ(positions[1].max().item<float>(), 15);
  EXPECT_FLOAT_EQ(positions[2].max().item<float>(), 15);
  EXPECT_FLOAT_EQ(grid_positions({1, 1, 2}, 16)[1].max().item<float>(), 0);
}

TEST(Rotary, UnknownLayoutIsAnError) { EXPECT_THROW(rotary_layout("twisted"), ConfigError); }

}  // namespace
}  // namespace jepa::nn
