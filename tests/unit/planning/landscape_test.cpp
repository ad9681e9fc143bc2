#include <eval/planning/landscape.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace jepa::eval::planning {
namespace {

// Two episodes with an optimum each, three actions of three numbers; the middle number counts
// nothing.
torch::Tensor bowl(const torch::Tensor& candidates) {
  const auto optimum =
      torch::tensor({{0.0, 0.0, 0.0}, {0.5, 9.0, -0.25}}, torch::kFloat32).view({2, 1, 1, 3});
  const auto weight = torch::tensor({1.0, 0.0, 2.0}, torch::kFloat32);
  return ((candidates - optimum).square() * weight).sum({2, 3});
}

TEST(Landscape, MarksTheBestOfAQuadraticAndWhatThePlannerChose) {
  const Cem cem({.samples = 200, .elites = 20, .iterations = 30});
  const auto plan = cem.plan(bowl, {.episodes = 2, .horizon = 3, .action_width = 3},
                             Draws::from(seeded_generator(1)));
  const LandscapeOptions options{.side = 17, .numbers = {0, 2}, .low = -1, .high = 1};
  const auto found = landscape(bowl, plan.actions, options, 1);
  EXPECT_EQ(found.costs.sizes(), at::IntArrayRef({17, 17}));
  EXPECT_DOUBLE_EQ(found.best[0], 0.5);  // on the grid of eighths
  EXPECT_DOUBLE_EQ(found.best[1], -0.25);
  EXPECT_NEAR(found.lowest, 0, 1e-6);
  EXPECT_NEAR(found.chosen[0], 0.5, 1e-2);
  EXPECT_NEAR(found.chosen[1], -0.25, 1e-2);
  EXPECT_NEAR(found.chosen_cost, 0, 1e-3);
  // Rows go down: the second number. Three steps of one held action.
  EXPECT_NEAR(found.costs[0][12].item<double>(), 3 * 2 * 0.75 * 0.75, 1e-5);
  EXPECT_NEAR(found.costs[6][0].item<double>(), 3 * 1.5 * 1.5, 1e-5);

  const auto picture = draw_landscape(found, options, 8);
  EXPECT_EQ(picture.sizes(), at::IntArrayRef({17 * 8, 17 * 8, 3}));
  const auto pixel = [&](int64_t x, int64_t y) { return picture[y][x].sum().item<int64_t>(); };
  const int64_t x = 12 * 8 + 4, y = 6 * 8 + 4;
  EXPECT_EQ(pixel(x, y), 0);             // the cross
  EXPECT_EQ(pixel(x + 10, y), 3 * 255);  // the ring around it
  // Alone varied, the first action's share of the cost.
  auto first = options;
  first.constant = false;
  EXPECT_NEAR(landscape(bowl, plan.actions, first, 1).costs[6][0].item<double>(), 1.5 * 1.5, 1e-3);
}

TEST(Landscape, NumbersThatActionsLackAreRefused) {
  const auto plan = torch::zeros({2, 3, 3});
  EXPECT_THROW(landscape(bowl, plan, {.numbers = {0, 3}}), ConfigError);
  EXPECT_THROW(landscape(bowl, plan, {.numbers = {1, 1}}), ConfigError);
  EXPECT_THROW(landscape(bowl, plan, {.low = 1, .high = 1}), ConfigError);
}

}  // namespace
}  // namespace jepa::eval::planning
