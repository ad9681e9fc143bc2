#include <eval/worlds/balls.hpp>
#include <eval/worlds/elastic.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

namespace jepa::eval::worlds {
namespace {

std::vector<Disc> some_discs(uint64_t seed, int64_t count) {
  Random random(seed);
  std::vector<Disc> discs;
  while (static_cast<int64_t>(discs.size()) < count) {
    Disc d{.x = random.uniform(6, 58), .y = random.uniform(6, 34)};
    d.vx = random.uniform(-2, 2);
    d.vy = random.uniform(-2, 2);
    d.radius = random.uniform(2, 5);
    d.mass = random.uniform(0.5, 4);
    bool free = true;
    for (const Disc& other : discs) {
      free = free && std::hypot(d.x - other.x, d.y - other.y) > d.radius + other.radius;
    }
    if (free) discs.push_back(d);
  }
  return discs;
}

TEST(Elastic, EveryCollisionKeepsEnergyAndMomentum) {
  const Box box{.width = 64, .height = 64, .gravity = 0.07, .shelves = {{0, 20, 45}, {40, 55, 50}}};
  int64_t collisions = 0, pairs = 0;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    auto discs = some_discs(seed, 5);
    double before = energy(discs, box);
    auto flying = momentum(discs);
    double weight = 0, since = 0;
    for (const Disc& d : discs) weight += d.mass * box.gravity;
    collisions +=
        advance_discs(discs, box, 400, [&](const Collision& c, const std::vector<Disc>& now) {
          const double after = energy(now, box);
          EXPECT_NEAR(after, before, 1e-9);
          before = after;
          const auto moved = momentum(now);
          if (c.second >= 0) {
            ++pairs;
            EXPECT_NEAR(moved[0], flying[0], 1e-9);
            EXPECT_NEAR(moved[1], flying[1] + weight * (c.time - since), 1e-9);
          }
          flying = moved;
          since = c.time;
        });
  }
  EXPECT_GT(collisions, 300);
  EXPECT_GT(pairs, 50);
}

TEST(Elastic, DiscsStayInsideAndApart) {
  const Box box{.width = 64, .height = 64, .gravity = 0.1, .shelves = {{10, 30, 45}}};
  auto discs = some_discs(9, 6);
  for (int step = 0; step < 600; ++step) {
    advance_discs(discs, box, 1);
    for (size_t i = 0; i < discs.size(); ++i) {
      const Disc& d = discs[i];
      EXPECT_GE(d.x - d.radius, -1e-7);
      EXPECT_LE(d.x + d.radius, 64 + 1e-7);
      EXPECT_GE(d.y - d.radius, -1e-7);
      EXPECT_LE(d.y + d.radius, 64 + 1e-7);
      const double nearest = std::min(std::max(d.x, 10.0), 30.0);
      EXPECT_GE(std::hypot(d.x - nearest, d.y - 45), d.radius - 1e-7);
      for (size_t j = i + 1; j < discs.size(); ++j) {
        EXPECT_GE(std::hypot(d.x - discs[j].x, d.y - discs[j].y),
                  d.radius + discs[j].radius - 1e-7);
      }
    }
  }
}

TEST(Elastic, KnownMotions) {
  // Equal masses that meet head on exchange their speeds.
  std::vector<Disc> pair = {{.x = 10, .y = 32, .vx = 1, .radius = 2},
                            {.x = 30, .y = 32, .vx = -2, .radius = 2}};
  const Box still{.width = 64, .height = 64};
  EXPECT_EQ(advance_discs(pair, still, 6), 1);
  EXPECT_NEAR(pair[0].vx, -2, 1e-12);
  EXPECT_NEAR(pair[1].vx, 1, 1e-12);
  EXPECT_NEAR(pair[1].x, 30 - 2 * 16 / 3.0 + (6 - 16 / 3.0), 1e-12);
  // Dropped from a height it comes back to it.
  std::vector<Disc> ball = {{.x = 32, .y = 20, .radius = 4}};
  const Box earth{.width = 64, .height = 64, .gravity = 0.5};
  const double fall = std::sqrt(2 * 40 / 0.5);
  EXPECT_EQ(advance_discs(ball, earth, 2 * fall), 1);
  EXPECT_NEAR(ball[0].y, 20, 1e-9);
  EXPECT_NEAR(ball[0].vy, 0, 1e-9);
  // It passes beside a shelf on its way up and lands on it on its way down.
  std::vector<Disc> thrown = {{.x = 10, .y = 55, .vx = 1, .vy = -4, .radius = 2}};
  const Box shelf{.width = 64, .height = 64, .gravity = 0.3, .shelves = {{25, 50, 50}}};
  advance_discs(thrown, shelf, 25.5);
  EXPECT_LT(thrown[0].y, 50);
  EXPECT_LT(thrown[0].vy, 0);
}

TEST(Elastic, NoBounceLeavesSlowerThanTheSlowest) {
  const Box box{.width = 64, .height = 64, .gravity = 0.5, .restitution = 0.5, .slowest = 0.01};
  std::vector<Disc> ball = {{.x = 32, .y = 50, .radius = 4}};
  std::vector<double> speeds;
  advance_discs(ball, box, 200, [&](const Collision&, const std::vector<Disc>& now) {
    speeds.push_back(-now[0].vy);
  });
  EXPECT_NEAR(speeds.at(1), 0.5 * speeds.at(0), 1e-9);
  EXPECT_NEAR(speeds.back(), 0.01, 1e-9);  // for ever
  EXPECT_NEAR(ball[0].y, 60, 1e-3);
}

TEST(Elastic, FirstFallThroughZero) {
  EXPECT_NEAR(falls_through_zero({6, -5, 1, 0, 0}, 10), 2, 1e-12);  // (t-2)(t-3)
  EXPECT_LT(falls_through_zero({6, -5, 1, 0, 0}, 1), 0);
  EXPECT_LT(falls_through_zero({1, 0, 1, 0, 0}, 10), 0);
  EXPECT_EQ(falls_through_zero({0, -1, 0, 0, 0}, 10), 0);
  EXPECT_NEAR(falls_through_zero({0, 1, -1, 0, 0}, 10), 1, 1e-12);  // leaves, comes back
  // (t-1)(t-2)(t-3)(t-4)
  EXPECT_NEAR(falls_through_zero({24, -50, 35, -10, 1}, 10), 1, 1e-9);
}

TEST(Balls, ComeToRestAndGoOn) {
  for (const uint64_t seed : {0, 1, 5}) {
    Balls world(1);
    world.reset(seed, unseen_ranges(world, "restitution"));
    for (int step = 0; step < 400; ++step) world.step(torch::zeros({1, 2}));
    for (const Disc& disc : world.discs(0)) {
      EXPECT_LE(disc.y + disc.radius, 64 + 1e-7) << seed;
      EXPECT_LT(std::hypot(disc.vx, disc.vy), 4) << seed;
    }
  }
}

TEST(Balls, KickMovesTheFirstBall) {
  Balls world(1);
  world.reset(1, {{"gravity", {0, 0}}});
  world.place(0, {{.x = 20, .y = 20, .radius = 3}, {.x = 50, .y = 50, .radius = 3}});
  world.step(torch::tensor({{1.0, 0.5}}));
  EXPECT_NEAR(world.state()[0][0].item<double>(), 21, 1e-12);
  EXPECT_NEAR(world.state()[0][6].item<double>(), 50, 0);
}

}  // namespace
}  // namespace jepa::eval::worlds
