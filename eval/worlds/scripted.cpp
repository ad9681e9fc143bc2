// What each world's own script does, from its exact state.
#include <eval/worlds/dodge.hpp>
#include <eval/worlds/policies.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

namespace jepa::eval::worlds {
namespace {

// A share of the actions is random; the rest is the script's.
class Scripted : public EpisodePolicy {
 public:
  Scripted(const PolicyOptions& options, const World& world)
      : noise_(options.noise), draw_(world.info()) {}

 protected:
  void choose(const World& world, int64_t i, const double* state, Random& random,
              double* action) override {
    if (random.uniform() < noise_) {
      draw_.draw(random, action);
    } else {
      script(world, i, state, action);
    }
  }
  virtual void script(const World& world, int64_t i, const double* state, double* action) = 0;

  // Towards (x, y), no further than `most`, in units of `unit` px.
  static void go(const double* from, double x, double y, double most, double unit, double* action) {
    const double dx = x - from[0], dy = y - from[1];
    const double distance = std::hypot(dx, dy);
    const double scale = distance > most ? most / distance : 1;
    action[0] = dx * scale / unit;
    action[1] = dy * scale / unit;
  }

 private:
  double noise_;
  ActionDraw draw_;
};

// To the goal, through the door where it lies behind the wall.
class ThroughTheDoor : public Scripted {
 public:
  ThroughTheDoor(const PolicyOptions& options, const World& world)
      : Scripted(options, world), swm_(world.info().name == "swm_two_rooms") {}

 protected:
  void start(World& world, int64_t i, Random&) override {
    if (i == 0) {
      goal_ = world.goal_state();
      factors_ = world.factor_values();
    }
  }

  void script(const World&, int64_t i, const double* state, double* action) override {
    const double* factor = factors_.const_data_ptr<double>() + i * factors_.size(1);
    const double* goal = goal_.const_data_ptr<double>() + i * goal_.size(1);
    // In front of the wall, how close to the door's middle one must be, px a step.
    double wall = state[2], door = state[3], clear = 4, aim = 1.5, stride = 1.8, unit = 1;
    if (swm_) {
      wall = 112;
      door = factor[3];
      clear = std::floor(factor[2] / 2) + factor[1] + 2;
      aim = 5;
      stride = unit = factor[0];
    }
    const double side = state[0] < wall ? -1 : 1;
    const bool behind = (goal[0] < wall) != (state[0] < wall);
    const bool inside = std::abs(state[0] - wall) < clear;
    if (behind && !inside && std::abs(state[1] - door) > aim) {
      go(state, wall + side * (clear + 1), door, stride, unit, action);
    } else if (behind || (inside && std::abs(goal[1] - door) > aim)) {
      const double to = behind ? -side : side;
      go(state, wall + to * (clear + 1), door, stride, unit, action);
    } else {
      go(state, goal[0], goal[1], stride, unit, action);
    }
  }

 private:
  bool swm_;
  torch::Tensor goal_, factors_;
};

// The way that keeps fireballs furthest for a while.
class Away : public Scripted {
 public:
  using Scripted::Scripted;

 protected:
  void script(const World&, int64_t, const double* state, double* action) override {
    constexpr double kAgentY = 58, kAhead = 30;
    constexpr double kMiddle = static_cast<double>(Dodge::kSize) / 2;
    double best = -std::numeric_limits<double>::infinity();
    for (const double way : {0.0, -1.0, 1.0}) {
      double nearest = 1000;
      for (double t = 1; t <= kAhead; ++t) {
        const double x = std::clamp(state[0] + way * t, 3.0, Dodge::kSize - 3.0);
        for (int64_t b = 0; b < Dodge::kMostBalls; ++b) {
          const double* ball = state + 1 + 4 * b;
          if (ball[3] == 0) continue;  // none
          nearest = std::min(
              nearest, std::hypot(ball[0] + t * ball[2] - x, ball[1] + t * ball[3] - kAgentY));
        }
      }
      // Beyond reach all ways are as good: then to the middle, with room on both sides.
      const double value = std::min(nearest, 12.0) - 0.01 * std::abs(state[0] + 10 * way - kMiddle);
      if (value > best) {
        best = value;
        action[0] = way;
      }
    }
  }
};

// Gets behind the block as seen from the goal, then pushes; turns it by pushing off its centre. In
// gym-pusht, whose goal stands still and whose actions are places, the same.
class PushBlock : public Scripted {
 public:
  PushBlock(const PolicyOptions& options, const World& world)
      : Scripted(options, world), places_(world.info().name != "push") {}

 protected:
  void start(World& world, int64_t i, Random&) override {
    if (i > 0) return;
    goal_ = world.info().has_goal
                ? world.goal_state()
                : torch::tensor({{0.0, 0.0, 256.0, 256.0, std::numbers::pi / 4}}, torch::kFloat64)
                      .expand({world.batch(), 5})
                      .contiguous();
  }

  void script(const World& world, int64_t i, const double* state, double* action) override {
    push(i, state, action);
    if (!places_) return;
    constexpr double kStride = 20;
    for (int64_t k = 0; k < 2; ++k) {
      action[k] = std::clamp(state[k] + kStride * action[k], 0.0, 512.0);
    }
  }

 private:
  void push(int64_t i, const double* state, double* action) const {
    constexpr double kStride = 20, kRound = 95, kAim = 0.35;
    const double* goal = goal_.const_data_ptr<double>() + i * goal_.size(1);
    const double gx = goal[2] - state[2], gy = goal[3] - state[3];
    const double distance = std::hypot(gx, gy);
    const double turn = std::remainder(goal[4] - state[4], 2 * std::numbers::pi);
    // Far away the place comes first; near the goal the angle does.
    const bool turning = distance < 25 && std::abs(turn) > 0.25;
    const double heading = distance > 1 ? std::atan2(gy, gx) : state[4];
    const double off = std::clamp(turn, -1.0, 1.0) * (turning ? 45 : 20);
    // A push along `heading` at `off` to its right turns the block by the lever.
    const double bx = state[2] - off * -std::sin(heading), by = state[3] - off * std::cos(heading);
    const double at = std::atan2(state[1] - by, state[0] - bx);
    const double behind = std::remainder(at - (heading + std::numbers::pi), 2 * std::numbers::pi);
    if (std::abs(behind) < kAim) {
      go(state, bx + 10 * std::cos(heading), by + 10 * std::sin(heading), turning ? 8 : kStride,
         kStride, action);
      return;
    }
    // Around the block at a distance, the short way.
    const double next = at - std::copysign(std::min(0.3, std::abs(behind)), behind);
    go(state, bx + kRound * std::cos(next), by + kRound * std::sin(next), kStride, kStride, action);
  }

  bool places_;
  torch::Tensor goal_;
};

}  // namespace

std::unique_ptr<Policy> make_scripted(const PolicyOptions& options, const World& world) {
  const std::string& name = world.info().name;
  if (name == "two_rooms" || name == "swm_two_rooms") {
    return std::make_unique<ThroughTheDoor>(options, world);
  }
  if (name == "dodge") return std::make_unique<Away>(options, world);
  if (name == "push" || (name.ends_with("PushT-v0") && world.info().state.size() == 5)) {
    return std::make_unique<PushBlock>(options, world);
  }
  throw ConfigError("policy: " + name +
                    " has no script; two_rooms, swm_two_rooms, dodge, push and "
                    "gym:gym_pusht/PushT-v0 with --gym.make obs_type=state have");
}

}  // namespace jepa::eval::worlds
