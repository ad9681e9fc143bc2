#include <eval/planning/receding_horizon.hpp>
#include <eval/worlds/two_rooms.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace jepa::eval::planning {
namespace {

Draws first_draws() { return Draws::from(seeded_generator(1)); }

std::shared_ptr<const Planner> cem(double fresh = 0) {
  return std::make_shared<Cem>(CemOptions{.samples = 128,
                                          .elites = 16,
                                          .iterations = 6,
                                          .std = {1.5},
                                          .max_norm = 2.45,
                                          .fresh_share = fresh});
}

// Costs of moving points: squared distance to the goal, least over the horizon.
CostFunction points(const torch::Tensor& at, const torch::Tensor& goal, int64_t block) {
  return [=](const torch::Tensor& candidates) {  // [B, S, H, block * 2]
    const auto moves = candidates.unflatten(-1, {block, 2}).sum(-2);
    const auto path = at.unsqueeze(1).unsqueeze(1) + moves.cumsum(2);
    return (path - goal.unsqueeze(1).unsqueeze(1)).square().sum(-1).amin(-1);
  };
}

TEST(RecedingHorizon, BlocksAreHeldAndDoneInOrder) {
  std::vector<int64_t> horizons;
  const CostFunction costs = [&](const torch::Tensor& c) {
    horizons.push_back(c.size(2));
    EXPECT_EQ(c.size(3), 6);  // three steps of two numbers
    return c.square().sum({2, 3});
  };
  RecedingHorizon control(cem(), {.horizon = 4, .block = 3, .execute = 2}, 2, first_draws());
  control.begin(5);
  EXPECT_TRUE(control.needs_plan());
  std::vector<torch::Tensor> actions;
  for (int64_t step = 0; step < 10; ++step) actions.push_back(control.act(costs, 10 - step));
  EXPECT_EQ(control.plans(), 2);
  EXPECT_EQ(horizons.front(), 4);
  EXPECT_EQ(horizons.back(), 2);  // four steps left are two blocks
  EXPECT_EQ(actions[0].sizes(), (std::vector<int64_t>{5, 2}));
  EXPECT_TRUE(torch::equal(actions[0], actions[2]));
  EXPECT_FALSE(torch::equal(actions[2], actions[3]));
  EXPECT_TRUE(torch::equal(actions[3], actions[5]));
  EXPECT_THROW(RecedingHorizon(cem(), {.horizon = 2, .execute = 3}, 2, first_draws()), ConfigError);
}

TEST(RecedingHorizon, FreeActionsInABlock) {
  const auto wanted = torch::tensor({0.5, -1.0, 0.25, 0.75}, torch::kFloat32);  // two steps of two
  const CostFunction costs = [&](const torch::Tensor& c) {
    return (c - wanted).square().sum({2, 3});
  };
  auto planner = std::make_shared<Cem>(CemOptions{.samples = 200, .elites = 20, .iterations = 25});
  RecedingHorizon control(planner, {.horizon = 1, .block = 2, .hold = false}, 2, first_draws());
  control.begin(1);
  EXPECT_TRUE(torch::allclose(control.act(costs, 2)[0], wanted.narrow(0, 0, 2), 0, 1e-2));
  EXPECT_TRUE(torch::allclose(control.act(costs, 1)[0], wanted.narrow(0, 2, 2), 0, 1e-2));
}

TEST(RecedingHorizon, EachEpisodeOfABatchHasItsSeconds) {
  struct Asked : Planner {
    Plan plan(const CostFunction&, const PlanRequest& request, const Draws&,
              std::vector<Iteration>*) const override {
      seconds = request.seconds;
      Plan plan;
      plan.actions = torch::zeros({request.episodes, request.horizon, request.action_width});
      return plan;
    }
    mutable double seconds = 0;
  };
  const auto planner = std::make_shared<Asked>();
  RecedingHorizon control(planner, {.horizon = 2, .seconds = 0.5}, 2, first_draws());
  control.begin(8);
  control.act({}, 10);
  EXPECT_EQ(planner->seconds, 4);
}

TEST(RecedingHorizon, GoesToTheGoalInTheSameRoom) {
  worlds::TwoRooms world(8);
  world.reset(3);
  for (int64_t i = 0; i < 8; ++i) {
    world.place(i, {50, 20}, {10, 12 + 5.0 * static_cast<double>(i)}, {40, 45});
  }
  RecedingHorizon control(cem(0.5), {.horizon = 6, .block = 5}, 2, first_draws());
  control.begin(8);
  const auto goal = world.goal_state().narrow(1, 0, 2).to(torch::kFloat32);
  for (int64_t step = 0; step < 60; ++step) {
    const auto at = world.state().narrow(1, 0, 2).to(torch::kFloat32);
    world.step(control.act(points(at, goal, 5), 60 - step));
  }
  EXPECT_TRUE(world.success().all().item<bool>()) << world.distance();
}

}  // namespace
}  // namespace jepa::eval::planning
