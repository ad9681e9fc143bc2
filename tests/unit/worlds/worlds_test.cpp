#include <eval/worlds/dodge.hpp>
#include <eval/worlds/push.hpp>
#include <eval/worlds/registry.hpp>
#include <eval/worlds/two_rooms.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/safetensors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>

namespace jepa::eval::worlds {
namespace {

// Actions that differ from step to step and episode to episode, within [-1, 1].
torch::Tensor some_actions(const World& world, int64_t step) {
  const int64_t width = world.info().action_width;
  auto actions = torch::zeros({world.batch(), width}, torch::kFloat64);
  for (int64_t i = 0; i < world.batch(); ++i) {
    for (int64_t k = 0; k < width; ++k) {
      Random random(7, "actions", static_cast<uint64_t>((step * 64 + i) * 8 + k));
      actions[i][k] = random.uniform(-1, 1);
    }
  }
  return actions;
}

void run(World& world, int64_t steps) {
  for (int64_t s = 0; s < steps; ++s) world.step(some_actions(world, s));
}

TEST(Worlds, AreAFunctionOfTheSeed) {
  for (const auto& name : world_names()) {
    auto one = make_world(name, 3), other = make_world(name, 3);
    one->reset(5);
    other->reset(5);
    run(*one, 25);
    run(*other, 25);
    EXPECT_TRUE(torch::equal(one->state(), other->state())) << name;
    EXPECT_TRUE(torch::equal(one->pixels(), other->pixels())) << name;
    other->reset(6);
    EXPECT_FALSE(torch::equal(one->state(), other->state())) << name;
    one->reset(5);
    const auto first = one->state();
    one->reset(5);
    EXPECT_TRUE(torch::equal(first, one->state())) << name;
  }
}

TEST(Worlds, AnEpisodeDoesNotDependOnItsNeighbours) {
  for (const auto& name : world_names()) {
    auto batch = make_world(name, 3), alone = make_world(name, 1);
    batch->reset(9);
    alone->reset(9, {}, /*first=*/2);
    for (int64_t s = 0; s < 10; ++s) {
      const auto actions = some_actions(*batch, s);
      batch->step(actions);
      alone->step(actions.narrow(0, 2, 1));
    }
    EXPECT_TRUE(torch::equal(batch->state()[2], alone->state()[0])) << name;
  }
}

TEST(Worlds, FactorsStayInTheirRanges) {
  for (const auto& name : world_names()) {
    auto world = make_world(name, 64);
    for (const auto& factor : world->info().factors) {
      world->reset(3, training_ranges(*world));
      const auto index = &factor - world->info().factors.data();
      const auto trained = world->factor_values().select(1, index);
      world->reset(3, unseen_ranges(*world, factor.name));
      const auto unseen = world->factor_values().select(1, index);
      EXPECT_GE(unseen.min().item<double>(), factor.unseen.low) << name << " " << factor.name;
      EXPECT_LE(unseen.max().item<double>(), factor.unseen.high) << name << " " << factor.name;
      const auto inside = trained.gt(factor.unseen.low).logical_and(trained.lt(factor.unseen.high));
      EXPECT_FALSE(inside.any().item<bool>()) << name << " " << factor.name;
    }
  }
}

TEST(Worlds, BadInputIsOneLine) {
  auto world = make_world("two_rooms", 2);
  EXPECT_THROW(make_world("three_rooms", 1), ConfigError);
  EXPECT_THROW(make_world("push", 0), ConfigError);
  EXPECT_THROW(world->reset(1, {{"colour", {0, 1}}}), ConfigError);
  EXPECT_THROW(world->reset(1, {{"wall", {30, 34, 29, 35}}}), ConfigError);  // all in the gap
  world->reset(1);
  EXPECT_THROW(world->step(torch::zeros({2, 3})), DataError);
  EXPECT_THROW(world->step(torch::zeros({3, 2})), DataError);
  auto actions = torch::zeros({2, 2});
  actions[1][0] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(world->step(actions), DataError);
  EXPECT_THROW(make_world("dodge", 1)->goal_pixels(), std::exception);
}

TEST(TwoRooms, UprightStepsKeepTheirPlace) {
  const TwoRoomsGeometry g;
  const auto zero = [] { return Point{0, 0}; };
  // Straight up into the upper wall: upstream x becomes NaN.
  const Point up = push_back_step(g, {32, 32}, {20, 6}, {0, -5}, zero);
  EXPECT_DOUBLE_EQ(up[0], 20);
  EXPECT_DOUBLE_EQ(up[1], g.low() + 0.3);
  const Point free = push_back_step(g, {32, 32}, {20, 20}, {1, 1}, zero);
  EXPECT_EQ(free, (Point{21, 21}));
}

TEST(TwoRooms, TheDoorIsTheOnlyWay) {
  const TwoRoomsGeometry g;
  const auto zero = [] { return Point{0, 0}; };
  Point through{20, 32}, blocked{20, 45};
  for (int s = 0; s < 30; ++s) {
    through = push_back_step(g, {32, 32}, through, {1.5, 0}, zero);
    blocked = push_back_step(g, {32, 32}, blocked, {1.5, 0}, zero);
  }
  EXPECT_GT(through[0], 40);
  EXPECT_LT(blocked[0], 32);
}

TEST(Dodge, RewardIsLifeAndDeathIsForGood) {
  Dodge world(16);
  world.reset(2);
  auto life = torch::zeros({16});
  Transition last;
  for (int64_t s = 0; s < 2100; ++s) {
    last = world.step(torch::zeros({16, 1}));
    life += last.reward;
  }
  EXPECT_TRUE(last.done.all().item<bool>());
  EXPECT_GT(life.min().item<float>(), 5);
  const auto still = world.state();
  EXPECT_EQ(world.step(torch::ones({16, 1})).reward.sum().item<float>(), 0);
  EXPECT_TRUE(torch::equal(still, world.state()));
}

TEST(Dodge, SkillPays) {
  // Away from the nearest fireball that is about to land, else to the middle.
  Dodge world(32);
  const auto play = [&](bool skilled) {
    world.reset(4);
    double life = 0;
    for (int64_t s = 0; s < 2100; ++s) {
      auto action = torch::zeros({32, 1});
      const auto state = world.state();
      for (int64_t i = 0; skilled && i < 32; ++i) {
        const double* row = state.const_data_ptr<double>() + i * state.size(1);
        double way = row[0] < 30 ? 0.2 : row[0] > 34 ? -0.2 : 0;
        for (int64_t b = 0; b < Dodge::kMostBalls; ++b) {
          const double *ball = row + 1 + 4 * b, left = (58 - ball[1]) / std::max(ball[3], 0.1);
          if (ball[3] <= 0 || left < -3 || left > 14) continue;
          const double lands = ball[0] + ball[2] * left - row[0];
          if (std::abs(lands) < 8) way += (lands > 0 ? -1 : 1) / (std::abs(left) + 1) * 5;
        }
        action[i][0] = way > 0.1 ? 1.0 : way < -0.1 ? -1.0 : 0.0;
      }
      const auto result = world.step(action);
      life += result.reward.sum().item<double>();
      if (result.done.all().item<bool>()) break;
    }
    return life / 32;
  };
  const double still = play(false), skilled = play(true);
  RecordProperty("still", std::to_string(still));
  RecordProperty("skilled", std::to_string(skilled));
  EXPECT_GT(skilled, 1.5 * still) << still;
}

TEST(Push, TheBlockGivesWayAndOnlyThen) {
  Push world(2);
  world.reset(1);
  const Pose block{256, 256, 0}, goal{256, 256, 0};
  // From below onto the stem's end, along the middle: no turn.
  world.place(0, {256, 400}, block, goal);
  world.place(1, {60, 60}, block, goal);
  for (int s = 0; s < 6; ++s) world.step(torch::tensor({{0.0, -1.0}, {0.0, 0.0}}));
  const auto state = world.state();
  EXPECT_NEAR(state[0][2].item<double>(), 256, 1e-6);
  EXPECT_LT(state[0][3].item<double>(), 225);
  EXPECT_NEAR(state[0][4].item<double>(), 0, 1e-9);
  EXPECT_NEAR(state[1][3].item<double>(), 256, 0);
  EXPECT_FALSE(world.success()[0].item<bool>());
  EXPECT_TRUE(world.success()[1].item<bool>());
  // Off the middle it turns too.
  world.place(0, {300, 280}, block, goal);
  for (int s = 0; s < 3; ++s) world.step(torch::tensor({{0.0, -1.0}, {0.0, 0.0}}));
  EXPECT_LT(world.state()[0][4].item<double>(), -0.05);
}

TEST(Push, AnglesAreComparedAroundTheCircle) {
  const auto error = pose_error({0, 3, 3.1}, {4, 0, -3.1});
  EXPECT_DOUBLE_EQ(error.distance, 5);
  EXPECT_NEAR(error.angle, 2 * M_PI - 6.2, 1e-12);
}

// Pictures of each world after a few steps, as they were when the renderers were looked at.
// JEPA_WRITE_GOLDENS=1 writes them anew.
TEST(Worlds, PicturesMatchTheGoldens) {
  const std::string path = std::string(JEPA_TEST_FIXTURES) + "/worlds/goldens.safetensors";
  TensorMap pictures;
  for (const std::string name : {"two_rooms", "dodge", "balls", "push"}) {
    auto world = make_world(name, 1);
    FactorRanges ranges;
    if (name == "balls") ranges = {{"count", {3, 3}}, {"shelf", {20, 20}}, {"occluder", {8, 8}}};
    world->reset(11, ranges);
    run(*world, name == "dodge" ? 45 : 12);
    pictures[name] = world->pixels()[0].contiguous();
    if (world->info().has_goal) pictures[name + "_goal"] = world->goal_pixels()[0].contiguous();
  }
  if (std::getenv("JEPA_WRITE_GOLDENS") != nullptr) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    write_safetensors(path, pictures);
  }
  const auto goldens = read_safetensors(path).tensors;
  for (const auto& [name, picture] : pictures) {
    const auto difference =
        (picture.to(torch::kInt32) - goldens.at(name).to(torch::kInt32)).abs().max();
    // One level: sines and cosines may differ in the last bit.
    EXPECT_LE(difference.item<int>(), 1) << name;
  }
}

}  // namespace
}  // namespace jepa::eval::worlds
