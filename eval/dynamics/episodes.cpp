#include <eval/dynamics/episodes.hpp>
#include <eval/worlds/goals_ahead.hpp>
#include <eval/worlds/registry.hpp>
#include <jepa/random.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>

namespace jepa::eval::dynamics {
namespace {

constexpr double kNormal95 = 1.959963984540054;
constexpr double kLengthRounding = 1e-6;  // share of a length

double episode_clock() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// Runs `count` episodes from number `first` on and adds what came of them.
void run_batch(Controller& controller, const EpisodeOptions& options, int64_t first, int64_t count,
               const EpisodeWatcher& watch, EpisodeResult& result) {
  const auto made = options.world ? options.world(count) : worlds::make_world("two_rooms", count);
  worlds::World& world = *made;
  if (auto* ahead = dynamic_cast<worlds::GoalsAhead*>(made.get())) {
    ahead->begin(options.seed, options.ranges, first);
  } else {
    world.reset(options.seed, options.ranges, first);
  }
  const auto trivial = world.success();
  auto ever = torch::zeros({count}, torch::kBool);
  controller.start(world, options.seed, first);
  for (int64_t step = 0; step < options.steps; ++step) {
    const auto actions = controller.act(world, options.steps - step);
    if (watch) watch(world, step, controller);
    world.step(cut_length(actions, options.longest_step));
    ever = ever.logical_or(world.success());
  }
  if (watch) watch(world, options.steps, controller);
  const auto counted = trivial.logical_not();
  const auto sum = [&](const torch::Tensor& of) {
    return of.logical_and(counted).sum().item<int64_t>();
  };
  result.episodes += counted.sum().item<int64_t>();
  result.dropped += trivial.sum().item<int64_t>();
  result.at_end += sum(world.success());
  result.ever += sum(ever);
  result.distance += (world.distance() * counted).sum().item<double>();
}

class RandomWalk : public Controller {
 public:
  explicit RandomWalk(uint64_t seed) : seed_(seed) {}

  void begin(const worlds::World& world) override {
    walks_.clear();
    for (int64_t i = 0; i < world.batch(); ++i) {
      walks_.push_back({Random(seed_, "random walk", number_++), 0});
      walks_.back().angle = walks_.back().random.uniform(-std::numbers::pi, std::numbers::pi);
    }
  }
  torch::Tensor act(const worlds::World& world, int64_t) override {
    auto actions = torch::empty({world.batch(), 2});
    float* out = actions.mutable_data_ptr<float>();
    for (auto& walk : walks_) {
      walk.angle += walk.random.normal() / std::sqrt(5.0);
      const double length = std::clamp(1 + 0.4 * walk.random.normal(), 0.2, 1.8);
      *out++ = static_cast<float>(length * std::cos(walk.angle));
      *out++ = static_cast<float>(length * std::sin(walk.angle));
    }
    return actions;
  }

 private:
  struct Walk {
    Random random;
    double angle;
  };
  uint64_t seed_;
  uint64_t number_ = 0;
  std::vector<Walk> walks_;
};

class StraightLine : public Controller {
 public:
  explicit StraightLine(double longest) : longest_(longest) {}
  void begin(const worlds::World&) override {}
  torch::Tensor act(const worlds::World& world, int64_t) override {
    const auto way = world.goal_state().narrow(1, 0, 2) - world.state().narrow(1, 0, 2);
    if (longest_ <= 0) return way;
    const auto length = way.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-9);
    return way * (length.clamp_max(longest_) / length);
  }

 private:
  double longest_;
};

class PolicyController : public Controller {
 public:
  explicit PolicyController(std::unique_ptr<worlds::Policy> policy) : policy_(std::move(policy)) {}
  void begin(const worlds::World&) override {}
  void start(worlds::World& world, uint64_t seed, int64_t first) override {
    policy_->begin(world, seed, first);
  }
  torch::Tensor act(const worlds::World& world, int64_t) override { return policy_->act(world); }

 private:
  std::unique_ptr<worlds::Policy> policy_;
};

}  // namespace

std::unique_ptr<Controller> policy_controller(const std::string& name,
                                              const worlds::PolicyOptions& options,
                                              const worlds::World& world) {
  return std::make_unique<PolicyController>(worlds::make_policy(name, options, world));
}

torch::Tensor cut_length(const torch::Tensor& actions, double longest) {
  if (longest <= 0) return actions;
  const auto length = actions.norm(2, {-1}, /*keepdim=*/true);
  // What is longer by rounding alone stays bit for bit.
  const auto scale = longest / length.clamp_min(longest);
  return at::where(length > longest * (1 + kLengthRounding), actions * scale, actions);
}

Rate wilson(int64_t successes, int64_t of) {
  if (of == 0) return {0, 0, 1};
  const auto n = static_cast<double>(of);
  const double p = static_cast<double>(successes) / n, z2 = kNormal95 * kNormal95;
  const double centre = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half = kNormal95 / (1 + z2 / n) * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n));
  return {p, std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

EpisodeResult run_episodes(Controller& controller, const EpisodeOptions& options,
                           const EpisodeWatcher& watch) {
  EpisodeResult result;
  const double start = episode_clock();
  for (int64_t first = 0; first < options.episodes; first += options.at_once) {
    run_batch(controller, options, first, std::min(options.at_once, options.episodes - first),
              watch, result);
  }
  if (result.episodes > 0) result.distance /= static_cast<double>(result.episodes);
  result.seconds = episode_clock() - start;
  result.seconds_per_decision = controller.seconds_per_decision();
  return result;
}

std::unique_ptr<Controller> random_walk(uint64_t seed) {
  return std::make_unique<RandomWalk>(seed);
}

std::unique_ptr<Controller> straight_line(double longest) {
  return std::make_unique<StraightLine>(longest);
}

}  // namespace jepa::eval::dynamics
