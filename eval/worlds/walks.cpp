// Walks whose heading turns, and those of two_rooms that seek the door or the wall.
#include <eval/worlds/policies.hpp>
#include <eval/worlds/two_rooms.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace jepa::eval::worlds {
namespace {

constexpr double kTau = 2 * std::numbers::pi;
constexpr double kConcentration = 5;
constexpr double kDoorSpread = 1.4;            // px
constexpr double kNearWall = 2, kOffWall = 7;  // px from its face
constexpr int64_t kPushes = 10;                // at the wall at least, at most twice as many
constexpr double kPushTurn = 0.3;              // rad, deviation of a push's direction

// Von Mises around 0 (Best and Fisher 1979).
double von_mises(Random& random, double kappa) {
  const double a = 1 + std::sqrt(1 + 4 * kappa * kappa);
  const double b = (a - std::sqrt(2 * a)) / (2 * kappa);
  const double r = (1 + b * b) / (2 * b);
  while (true) {
    const double z = std::cos(std::numbers::pi * random.uniform());
    const double f = (1 + r * z) / (r + z);
    const double c = kappa * (r - f);
    const double u = 1 - random.uniform();
    if (c * (2 - c) > u || std::log(c / u) + 1 >= c) {
      return (random.uniform() < 0.5 ? -1 : 1) * std::acos(std::clamp(f, -1.0, 1.0));
    }
  }
}

double step_length(Random& random) {
  while (true) {
    const double length = 1 + 0.4 * random.normal();
    if (length >= 0.2 && length <= 1.8) return length;
  }
}

class WalkPolicy : public EpisodePolicy {
 public:
  WalkPolicy(const PolicyOptions& options, const World& world) : options_(options) {
    const auto& info = world.info();
    if (info.action_width != 2 || info.action_choices > 0) {
      throw ConfigError("policy: walk is for actions of two numbers, not for " + info.name);
    }
    if (options.wall_share + options.crossing_share > 1) {
      throw ConfigError("policy: wall_share and crossing_share add up to more than 1");
    }
    const ActionDraw bounds(info);
    for (int64_t k = 0; k < 2; ++k) {
      middle_[k] = (bounds.low(k) + bounds.high(k)) / 2;
      scale_[k] = (bounds.high(k) - bounds.low(k)) / 2 / 1.8;
    }
  }

 protected:
  void start(World& world, int64_t i, Random& random) override {
    walks_.resize(static_cast<size_t>(world.batch()));
    Walk& walk = walks_[static_cast<size_t>(i)] = {};
    walk.angle = kTau * random.uniform();
    auto* rooms = dynamic_cast<TwoRooms*>(&world);
    if (rooms == nullptr) return;
    const double kind = random.uniform();
    if (kind < options_.wall_share) {
      start_at_wall(*rooms, i, random, walk);
    } else if (kind < options_.wall_share + options_.crossing_share) {
      start_crossing(*rooms, i, random, walk);
    }
  }

  void choose(const World&, int64_t i, const double*, Random& random, double* action) override {
    Walk& walk = walks_[static_cast<size_t>(i)];
    if (walk.next < walk.planned.size()) {
      for (size_t k = 0; k < 2; ++k) action[k] = walk.planned[walk.next][k];
      walk.angle = std::atan2(action[1], action[0]);
      ++walk.next;
      return;
    }
    const double length = step_length(random);
    if (walk.pushes > 0) {
      --walk.pushes;
      const double angle = walk.push + kPushTurn * random.normal();
      set(action, angle, length);
      walk.angle = kTau * random.uniform();
      return;
    }
    set(action, walk.angle, length);
    walk.angle += von_mises(random, kConcentration);
  }

 private:
  struct Walk {
    double angle = 0, push = 0;
    int64_t pushes = 0;
    std::vector<Point> planned = {};
    size_t next = 0;
  };

  void set(double* action, double angle, double length) const {
    action[0] = middle_[0] + scale_[0] * length * std::cos(angle);
    action[1] = middle_[1] + scale_[1] * length * std::sin(angle);
  }

  static void move(TwoRooms& rooms, int64_t i, const Point& to) {
    const auto state = rooms.state()[i], goal = rooms.goal_state()[i];
    rooms.place(i, {state[2].item<double>(), state[3].item<double>()}, to,
                {goal[0].item<double>(), goal[1].item<double>()});
  }

  static void start_at_wall(TwoRooms& rooms, int64_t i, Random& random, Walk& walk) {
    const auto& g = rooms.geometry();
    const double wall = rooms.state()[i][2].item<double>();
    const double side = random.uniform() < 0.5 ? -1 : 1;  // where the dot stands
    const double face = wall + side * static_cast<double>(g.wall_width / 2);
    const double margin = 2 * g.dot_std;
    const double x = face + side * random.uniform(kNearWall, kOffWall);
    const double y = random.uniform(g.low() + margin, g.high() - margin);
    move(rooms, i, {std::clamp(x, g.low() + margin, g.high() - margin), y});
    walk.push = side > 0 ? std::numbers::pi : 0;
    walk.pushes = kPushes + random.below(kPushes + 1);
  }

  void start_crossing(TwoRooms& rooms, int64_t i, Random& random, Walk& walk) const {
    const auto& g = rooms.geometry();
    const auto state = rooms.state()[i];
    const double wall = state[2].item<double>(), door = state[3].item<double>();
    const auto half = static_cast<double>(g.wall_width / 2);
    const auto space = static_cast<double>(g.door_space);
    double y = door + 2 * space;
    while (std::abs(y - door) > space) y = door + kDoorSpread * random.normal();
    const auto point = torch::tensor({wall + half * random.uniform(-1, 1), y}, torch::kFloat32);
    const int64_t steps = options_.walk_steps;
    auto turns = torch::zeros({2, steps - 1}), lengths = torch::zeros({2, steps});
    for (int64_t k = 0; k < turns.numel(); ++k) {
      turns.mutable_data_ptr<float>()[k] = static_cast<float>(von_mises(random, kConcentration));
    }
    for (int64_t k = 0; k < lengths.numel(); ++k) {
      lengths.mutable_data_ptr<float>()[k] = static_cast<float>(step_length(random));
    }
    const auto uniform = static_cast<float>(random.uniform());
    const int64_t before = 1 + random.below(steps);
    const auto plan =
        crossing_walk(g, point, uniform, turns, lengths, before, random.uniform() < 0.5);
    move(rooms, i, {plan.start[0], plan.start[1]});
    const auto actions = plan.actions.to(torch::kFloat64).contiguous();
    for (int64_t s = 0; s < actions.size(0); ++s) {
      const double* row = actions.const_data_ptr<double>() + 2 * s;
      walk.planned.push_back({row[0], row[1]});
    }
  }

  PolicyOptions options_;
  std::array<double, 2> middle_{}, scale_{};
  std::vector<Walk> walks_;
};

}  // namespace

std::unique_ptr<Policy> make_walk(const PolicyOptions& options, const World& world) {
  return std::make_unique<WalkPolicy>(options, world);
}

}  // namespace jepa::eval::worlds
