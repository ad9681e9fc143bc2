// Controllers that plan: with the true simulator or with a model; and the one that need not.
#include <eval/dynamics/episodes.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/random.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::dynamics {
namespace {

using planning::RecedingHorizon;
using worlds::Point;
using worlds::RoomLayout;

planning::Draws planner_draws(uint64_t seed) {
  return planning::Draws::from(seeded_generator(seed, "planner"));
}

// One value or one for each of `width` numbers.
torch::Tensor action_numbers(const std::vector<double>& values, int64_t width, const char* what) {
  const auto count = static_cast<int64_t>(values.size());
  if (count != 1 && count != width) {
    throw ConfigError("planning: " + std::string(what) + " has " + std::to_string(count) +
                      " values, actions have " + std::to_string(width));
  }
  return torch::tensor(values, torch::kFloat32);
}

double apart(const Point& a, const Point& b) { return std::hypot(a[0] - b[0], a[1] - b[1]); }

// The length of the way, through the door where the wall is between.
double way(const RoomLayout& layout, const Point& from, const Point& to) {
  const Point door{layout.wall, layout.door};
  if ((from[0] < layout.wall) == (to[0] < layout.wall)) return apart(from, to);
  return apart(from, door) + apart(door, to);
}

// What planning controllers share.
class PlanningController : public Controller {
 public:
  PlanningController(std::shared_ptr<const planning::Planner> planner,
                     const planning::RecedingHorizonOptions& horizon, uint64_t seed,
                     int64_t action_width = 2)
      : horizon_(std::move(planner), horizon, action_width, planner_draws(seed)) {}

  double seconds_per_decision() const override {
    return decisions_ == 0 ? 0 : horizon_.planning_seconds() / static_cast<double>(decisions_);
  }

 protected:
  torch::Tensor decide(const planning::CostFunction& costs, int64_t episodes, int64_t steps_left) {
    if (horizon_.needs_plan()) decisions_ += episodes;
    return horizon_.act(costs, steps_left);
  }
  RecedingHorizon horizon_;

 private:
  int64_t decisions_ = 0;  // of single episodes
};

class SimulatorPlanner : public PlanningController {
 public:
  SimulatorPlanner(std::shared_ptr<const planning::Planner> planner,
                   const planning::RecedingHorizonOptions& horizon, bool through_door,
                   std::string over_time, uint64_t seed, ActionScale scale)
      : PlanningController(std::move(planner), horizon, seed),
        scale_(std::move(scale)),
        block_(horizon.block),
        through_door_(through_door),
        over_time_(std::move(over_time)),
        random_(seed, "simulator", 0) {
    if (over_time_ != "sum" && over_time_ != "last" && over_time_ != "min") {
      throw ConfigError("planning: the cost over time is sum, last or min, not '" + over_time_ +
                        "'");
    }
  }

  void begin(const worlds::World& world) override { horizon_.begin(world.batch()); }

  torch::Tensor act(const worlds::World& world, int64_t steps_left) override {
    const auto state = world.state(), goal = world.goal_state();
    return scale_.to_world(
        decide([&](const torch::Tensor& candidates) { return costs(state, goal, candidates); },
               world.batch(), steps_left));
  }

 private:
  torch::Tensor costs(const torch::Tensor& state, const torch::Tensor& goal,
                      const torch::Tensor& candidates) {
    const auto actions =
        scale_.to_world(candidates.unflatten(-1, {-1, 2})).flatten(-2).contiguous();
    const int64_t samples = actions.size(1), steps = actions.size(2) * block_;
    auto result = torch::empty({actions.size(0), samples});
    const float* step = actions.const_data_ptr<float>();
    float* out = result.mutable_data_ptr<float>();
    for (int64_t b = 0; b < actions.size(0); ++b) {
      const double* s = state.const_data_ptr<double>() + 4 * b;
      const double* g = goal.const_data_ptr<double>() + 4 * b;
      for (int64_t i = 0; i < samples; ++i, step += 2 * steps) {
        *out++ = static_cast<float>(cost({s[2], s[3]}, {s[0], s[1]}, {g[0], g[1]}, step, steps));
      }
    }
    return result;
  }

  double cost(const RoomLayout& layout, Point at, const Point& goal, const float* actions,
              int64_t steps) {
    double sum = 0, lowest = INFINITY, now = 0;
    for (int64_t t = 0; t < steps; ++t, actions += 2) {
      at = worlds::push_back_step(geometry_, layout, at, {actions[0], actions[1]}, [this] {
        const double x = random_.normal();
        return Point{x, random_.normal()};
      });
      if ((t + 1) % block_ != 0) continue;
      const double distance = apart(at, goal);
      now = through_door_ ? way(layout, at, goal) : distance * distance;
      sum += now;
      lowest = std::min(lowest, now);
    }
    return over_time_ == "sum" ? sum : over_time_ == "min" ? lowest : now;
  }

  worlds::TwoRoomsGeometry geometry_;
  ActionScale scale_;
  int64_t block_;
  bool through_door_;
  std::string over_time_;
  Random random_;
};

class ModelPlanner : public PlanningController {
 public:
  ModelPlanner(const ActingModel& model, std::shared_ptr<const planning::Planner> planner,
               const planning::RecedingHorizonOptions& horizon, planning::GoalCost cost,
               uint64_t seed)
      : PlanningController(std::move(planner), horizon, seed, model.step_width),
        model_(model),
        cost_(std::move(cost)) {
    if (horizon.block != model.block) {
      throw DataError("the controller holds actions for " + std::to_string(horizon.block) +
                      " steps, the model predicts blocks of " + std::to_string(model.block));
    }
  }

  void begin(const worlds::World& world) override {
    const torch::NoGradGuard no_grad;
    horizon_.begin(world.batch());
    goal_ = model_.model.encode(world.goal_pixels());
    latents_.clear();
    blocks_.clear();
    steps_.clear();
  }

  torch::Tensor act(const worlds::World& world, int64_t steps_left) override {
    const torch::NoGradGuard no_grad;
    if (static_cast<int64_t>(steps_.size()) == model_.block) {
      blocks_.push_back(torch::cat(steps_, 1));
      steps_.clear();
    }
    // A block begins: with a history every such frame counts, without only where a plan is made.
    if (steps_.empty() && (model_.history > 1 || horizon_.needs_plan())) {
      latents_.push_back(model_.model.encode(world.pixels()));
      keep_last(latents_, model_.history);
      keep_last(blocks_, static_cast<int64_t>(latents_.size()) - 1);
    }
    planning::CostFunction costs;
    if (horizon_.needs_plan()) {
      past_ = torch::stack(latents_, 1);
      past_actions_ = blocks_.empty() ? torch::Tensor() : torch::stack(blocks_, 1);
      costs = [this, all = planning::goal_costs(model_.model, past_, past_actions_, goal_, cost_)](
                  const torch::Tensor& candidates) {
        return all(model_.scale.cut(candidates, model_.step_width));
      };
    }
    const auto action = decide(costs, world.batch(), steps_left);
    steps_.push_back(model_.scale.cut(action, model_.step_width));
    return model_.scale.to_world(action);
  }

  torch::Tensor imagined() override {
    const auto actions = horizon_.expand(horizon_.last_plan().actions);
    return model_.model.rollout(past_, past_actions_, model_.scale.cut(actions, model_.step_width));
  }

 private:
  static void keep_last(std::vector<torch::Tensor>& all, int64_t count) {
    const auto surplus = static_cast<int64_t>(all.size()) - count;
    if (surplus > 0) all.erase(all.begin(), all.begin() + surplus);
  }

  ActingModel model_;
  planning::GoalCost cost_;
  torch::Tensor goal_;                  // [B, D]
  std::vector<torch::Tensor> latents_;  // of the last blocks' first frames, [B, D]
  std::vector<torch::Tensor> blocks_;   // of actions between them, [B, block * width]
  std::vector<torch::Tensor> steps_;    // of the present block, [B, width]
  torch::Tensor past_, past_actions_;   // at the last decision
};

class InversePolicy : public Controller {
 public:
  InversePolicy(DynamicsModel& model, double longest) : model_(model), longest_(longest) {
    if (model.inverse.is_empty()) {
      throw ConfigError("the model was stored without inverse dynamics: no inverse policy");
    }
  }

  void begin(const worlds::World& world) override {
    const torch::NoGradGuard no_grad;
    goal_ = model_.encode(world.goal_pixels());
    step_ = 0;
  }
  torch::Tensor act(const worlds::World& world, int64_t) override {
    const torch::NoGradGuard no_grad;
    if (step_++ % model_.options.block == 0) {
      action_ = model_.inverse->forward(model_.encode(world.pixels()), goal_);
      action_ = cut_length(model_.options.world_actions(action_), longest_);
    }
    return action_;
  }

 private:
  DynamicsModel& model_;
  double longest_;
  torch::Tensor goal_, action_;
  int64_t step_ = 0;
};

}  // namespace

torch::Tensor ActionScale::to_world(const torch::Tensor& steps) const {
  const int64_t width = steps.size(-1);
  return cut_length(
      action_numbers(mean, width, "action_mean") + action_numbers(std, width, "action_std") * steps,
      longest);
}

torch::Tensor ActionScale::cut(const torch::Tensor& actions, int64_t width) const {
  if (longest <= 0) return actions;
  const auto world = to_world(actions.unflatten(-1, {-1, width}));
  return ((world - action_numbers(mean, width, "action_mean")) /
          action_numbers(std, width, "action_std"))
      .flatten(-2);
}

std::unique_ptr<Controller> simulator_planner(std::shared_ptr<const planning::Planner> planner,
                                              const planning::RecedingHorizonOptions& horizon,
                                              bool through_door, const std::string& over_time,
                                              uint64_t seed, const ActionScale& scale) {
  return std::make_unique<SimulatorPlanner>(std::move(planner), horizon, through_door, over_time,
                                            seed, scale);
}

std::unique_ptr<Controller> model_planner(const ActingModel& model,
                                          std::shared_ptr<const planning::Planner> planner,
                                          const planning::RecedingHorizonOptions& horizon,
                                          const planning::GoalCost& cost, uint64_t seed) {
  return std::make_unique<ModelPlanner>(model, std::move(planner), horizon, cost, seed);
}

std::unique_ptr<Controller> model_planner(DynamicsModel& model,
                                          std::shared_ptr<const planning::Planner> planner,
                                          const planning::RecedingHorizonOptions& horizon,
                                          const planning::GoalCost& cost, uint64_t seed,
                                          double longest) {
  const auto& o = model.options;
  return model_planner(ActingModel{.model = model,
                                   .block = o.block,
                                   .step_width = o.action_width,
                                   .scale = {o.action_mean, o.action_std, longest}},
                       std::move(planner), horizon, cost, seed);
}

std::unique_ptr<Controller> inverse_policy(DynamicsModel& model, double longest) {
  return std::make_unique<InversePolicy>(model, longest);
}

}  // namespace jepa::eval::dynamics
