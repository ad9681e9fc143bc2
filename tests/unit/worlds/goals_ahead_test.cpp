#include <eval/worlds/goals_ahead.hpp>
#include <eval/worlds/registry.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace jepa::eval::worlds {
namespace {

std::unique_ptr<GoalsAhead> ahead(int64_t batch, int64_t steps) {
  auto world = make_world("push", batch);
  auto policy = make_policy("scripted", {.noise = 0}, *world);
  return std::make_unique<GoalsAhead>(std::move(world), std::move(policy), steps, 40);
}

TEST(GoalsAhead, TheSameActionsReachTheGoal) {
  const auto world = ahead(3, 25);
  world->begin(5, {}, 0);
  EXPECT_TRUE(world->info().has_goal);
  const auto start = world->state(), goal = world->goal_state();
  EXPECT_FALSE(torch::equal(start, goal));
  EXPECT_EQ(world->goal_pixels().sizes(), world->pixels().sizes());
  // The script towards the world's own goal, from where the lead ended.
  auto plain = make_world("push", 3);
  const auto script = make_policy("scripted", {.noise = 0}, *plain);
  plain->reset(5);
  script->begin(*plain, 5, 0);
  while (!torch::equal(plain->state(), start)) plain->step(script->act(*plain));
  for (int64_t t = 0; t < 25; ++t) {
    const auto action = script->act(*plain);
    plain->step(action);
    world->step(action);
  }
  EXPECT_TRUE(torch::equal(world->state(), goal));
  EXPECT_TRUE(torch::equal(world->pixels(), world->goal_pixels()));
  EXPECT_TRUE(world->success().all().item<bool>());
  EXPECT_EQ(world->distance().max().item<double>(), 0);
  // Again the same.
  const auto other = ahead(3, 25);
  other->begin(5, {}, 0);
  EXPECT_TRUE(torch::equal(other->state(), start));
  EXPECT_TRUE(torch::equal(other->goal_state(), goal));
}

TEST(GoalsAhead, ScriptsSeeTheFactorsOfTheWorld) {
  auto inner = make_world("swm_two_rooms", 2);
  const auto ranges = training_ranges(*inner);
  auto policy = make_policy("scripted", {.noise = 0}, *inner);
  GoalsAhead world(std::move(inner), std::move(policy), 12, 4);
  world.begin(3, ranges, 0);
  const auto plain = make_world("swm_two_rooms", 2);
  plain->reset(3, ranges, 0);
  EXPECT_TRUE(torch::equal(world.factor_values(), plain->factor_values()));
  const auto before = world.distance();
  const auto script = make_policy("scripted", {.noise = 0}, world);
  script->begin(world, 3, 0);
  for (int64_t t = 0; t < 12; ++t) world.step(script->act(world));
  EXPECT_TRUE(world.distance().lt(before).all().item<bool>());
}

TEST(GoalsAhead, PushTsRuleCountsDiscBlockAndAngle) {
  const auto info = make_world("push", 1)->info();
  const double goal[] = {100, 100, 200, 200, 3.1};
  const double near[] = {110, 100, 200, 210, -3.1};  // across the turn
  const double far[] = {115, 100, 200, 215, 3.1};
  const double turned[] = {100, 100, 200, 200, 2.7};
  EXPECT_TRUE(state_reached(info, near, goal));
  EXPECT_FALSE(state_reached(info, far, goal));
  EXPECT_FALSE(state_reached(info, turned, goal));
  EXPECT_THROW(state_reached(make_world("dodge", 1)->info(), near, goal), ConfigError);
}

}  // namespace
}  // namespace jepa::eval::worlds
