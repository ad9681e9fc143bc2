#include <eval/worlds/canvas.hpp>
#include <eval/worlds/dodge.hpp>

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::worlds {
namespace {

constexpr double kSide = Dodge::kSize;
constexpr double kAgentY = 58, kAgentRadius = 3;
constexpr double kBirthY = 6;
constexpr double kAim = 8;  // px, deviation of where a fireball is aimed
constexpr double kThreshold = 1.0 / 3;
constexpr double kSlower = 600;  // steps after which fireballs come twice as often
constexpr int64_t kLimit = 2100, kSolved = 750;

std::vector<std::string> state_names() {
  std::vector<std::string> names = {"x"};
  for (int64_t b = 0; b < Dodge::kMostBalls; ++b) {
    for (const char* part : {"x", "y", "vx", "vy"}) names.push_back(c10::str("ball", b, "_", part));
  }
  return names;
}

}  // namespace

Dodge::Dodge(int64_t batch)
    : World({.name = "dodge",
             .frame = {3, kSize, kSize},
             .action_width = 1,
             .state = state_names(),
             .factors = {{.name = "speed",
                          .unit = "px a step",
                          .standard = 1.2,
                          .training = {1.0, 1.4},
                          .unseen = {1.6, 2.0}},
                         {.name = "rate",
                          .unit = "fireballs a step at first",
                          .standard = 0.03,
                          .training = {0.02, 0.04},
                          .unseen = {0.05, 0.07}},
                         {.name = "radius",
                          .unit = "px",
                          .standard = 2.5,
                          .training = {2, 3},
                          .unseen = {3.5, 4.5}},
                         {.name = "stride",
                          .unit = "px a step",
                          .standard = 1.0,
                          .training = {0.9, 1.1},
                          .unseen = {0.6, 0.8}}},
             .step_limit = kLimit,
             .success_rule = "alive after 750 steps"},
            batch),
      episodes_(batch) {}

void Dodge::start(int64_t i, const std::vector<double>& factors, Random& random) {
  episodes_[i] = {.speed = factors[0],
                  .rate = factors[1],
                  .radius = factors[2],
                  .stride = factors[3],
                  .x = random.uniform(kAgentRadius, kSide - kAgentRadius)};
}

World::Outcome Dodge::advance(int64_t i, const double* action, Random& random) {
  Episode& e = episodes_[i];
  if (e.dead || e.steps >= kLimit) return {.reward = 0, .done = true};
  const double way = action[0] > kThreshold ? 1 : action[0] < -kThreshold ? -1 : 0;
  e.x = std::clamp(e.x + way * e.stride, kAgentRadius, kSide - kAgentRadius);
  for (Ball& ball : e.balls) {
    ball.x += ball.vx;
    ball.y += ball.vy;
    const double reach = kAgentRadius + e.radius;
    const double dx = ball.x - e.x, dy = ball.y - kAgentY;
    e.dead = e.dead || dx * dx + dy * dy < reach * reach;
  }
  std::erase_if(e.balls, [](const Ball& ball) { return ball.y > kSide; });
  // Three draws every step, whatever they lead to: an episode's luck is its seed's alone.
  const double chance = random.uniform();
  const double from = random.uniform(e.radius, kSide - e.radius);
  const double aim = e.x + kAim * random.normal();
  const double rate = e.rate * (1 + static_cast<double>(e.steps) / kSlower);
  if (chance < rate && static_cast<int64_t>(e.balls.size()) < kMostBalls) {
    const double dx = aim - from, dy = kAgentY - kBirthY;
    const double scale = e.speed / std::sqrt(dx * dx + dy * dy);
    e.balls.push_back({from, kBirthY, dx * scale, dy * scale});
  }
  ++e.steps;
  return {.reward = e.dead ? 0.0 : 1.0, .done = e.dead || e.steps >= kLimit, .truncated = !e.dead};
}

void Dodge::draw(int64_t i, uint8_t* frame) const {
  const Episode& e = episodes_[i];
  Canvas canvas(frame, kSize, kSize);
  canvas.fill({24, 24, 32});
  canvas.rectangle(0, 0, kSide, 4, {96, 64, 48});
  for (const Ball& ball : e.balls) canvas.disc(ball.x, ball.y, e.radius, {255, 120, 32});
  canvas.disc(e.x, kAgentY, kAgentRadius, {64, 200, 255});
}

void Dodge::write_state(int64_t i, double* state) const {
  const Episode& e = episodes_[i];
  *state++ = e.x;
  for (const Ball& ball : e.balls) {
    for (const double value : {ball.x, ball.y, ball.vx, ball.vy}) *state++ = value;
  }
}

bool Dodge::succeeds(int64_t i) const {
  return !episodes_[i].dead && episodes_[i].steps >= kSolved;
}

}  // namespace jepa::eval::worlds
