// Episodes of a world under a controller, and how often it gets where it should.
#pragma once

#include <eval/dynamics/diagnostics.hpp>
#include <eval/planning/receding_horizon.hpp>
#include <eval/worlds/policies.hpp>
#include <eval/worlds/two_rooms.hpp>

#include <ATen/core/Generator.h>
#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::dynamics {

/// A share with its 95 % interval (Wilson 1927).
struct Rate {
  double rate = 0;
  double low = 0;
  double high = 0;
};
/// Of `successes` in `of` tries; of none 0 with [0, 1].
Rate wilson(int64_t successes, int64_t of);

/// Chooses the actions of all episodes of a world, side by side.
class Controller {
 public:
  virtual ~Controller() = default;
  /// New episodes begin, in the state in which `world` is.
  virtual void begin(const worlds::World& world) = 0;
  /// The same, for what acts by the episodes' numbers. @param seed, first see worlds::Policy::begin
  virtual void start(worlds::World& world, uint64_t seed, int64_t first) { begin(world); }
  /// @param steps_left this one counted @returns [B, action_width]
  virtual torch::Tensor act(const worlds::World& world, int64_t steps_left) = 0;
  /// Decisions of one episode, and seconds they took; 0: it decides nothing dear.
  virtual double seconds_per_decision() const { return 0; }
  /// What it thinks will happen from the last decision on, one latent a block [B, H, D];
  /// undefined: it imagines nothing.
  virtual torch::Tensor imagined() { return {}; }
};

/// How long and where.
struct EpisodeOptions {
  int64_t episodes = 200;
  int64_t at_once = 50;  ///< stepped and planned for side by side
  int64_t steps = 200;
  uint64_t seed = 0;
  worlds::FactorRanges ranges = {};
  /// Makes the world for so many episodes; empty: two_rooms. GoalsAhead sets its own goals.
  std::function<std::unique_ptr<worlds::World>(int64_t batch)> world = {};
  /// Longest action of a step, in the world's unit, of whatever acts: longer ones are cut, their
  /// direction kept; 0: any.
  double longest_step = 0;
};

/// What came of the episodes.
struct EpisodeResult {
  int64_t episodes = 0;  ///< that counted
  int64_t dropped = 0;   ///< since their start already succeeded
  int64_t at_end = 0;    ///< successes at the last step: the published rule
  int64_t ever = 0;      ///< successes at any step
  double distance = 0;   ///< mean at the end, in the unit of the world's rule
  double seconds = 0;    ///< of the controller and the world
  double seconds_per_decision = 0;
  Rate rate() const { return wilson(at_end, episodes); }
};

/// Seen at each step of a batch of episodes, before it is taken; for films.
using EpisodeWatcher =
    std::function<void(const worlds::World& world, int64_t step, Controller& controller)>;

/// Runs a controller in a world that has goals.
EpisodeResult run_episodes(Controller& controller, const EpisodeOptions& options,
                           const EpisodeWatcher& watch = {});

/// The published walk: a heading that turns, steps of about 1 px.
std::unique_ptr<Controller> random_walk(uint64_t seed);
/// Straight to the goal with the longest step, shorter where it is near. @param longest 0: at once
std::unique_ptr<Controller> straight_line(double longest);

/// Actions [..., width], those longer than `longest` cut to it, their direction kept; 0: any.
torch::Tensor cut_length(const torch::Tensor& actions, double longest);

/// How a planner's actions are those of a world.
struct ActionScale {
  /// A step's action is mean + std times the planner's; one value or one for each number.
  std::vector<double> mean = {0};
  std::vector<double> std = {1};
  double longest = 0;  ///< in the world's unit; 0: any

  /// Steps' actions as the world takes them, none too long. @param steps [..., width]
  /// @throws ConfigError where mean or std have another width
  torch::Tensor to_world(const torch::Tensor& steps) const;
  /// The planner's actions that come to the same in the world, none too long.
  /// @param actions [..., n * width], n steps side by side
  torch::Tensor cut(const torch::Tensor& actions, int64_t width) const;
};

/// Plans with the true simulator. @param through_door the cost is the length of the way through the
/// door, else the squared distance
/// @param over_time sum, last or min, see planning::GoalCost
/// @param scale of the planner's actions
std::unique_ptr<Controller> simulator_planner(std::shared_ptr<const planning::Planner> planner,
                                              const planning::RecedingHorizonOptions& horizon,
                                              bool through_door, const std::string& over_time,
                                              uint64_t seed, const ActionScale& scale = {});
/// One of the data policies, by its name. @param world of the kind that it will act in
std::unique_ptr<Controller> policy_controller(const std::string& name,
                                              const worlds::PolicyOptions& options,
                                              const worlds::World& world);

/// A model, and how its actions are those of a world.
struct ActingModel {
  planning::WorldModel& model;  ///< takes the world's frames as they are, uint8 [N, C, H, W]
  int64_t block = 1;            ///< steps of the world that an action of the model covers
  int64_t step_width = 2;       ///< numbers of the world's action
  int64_t history = 1;          ///< frames it sees before it plans, at most
  ActionScale scale = {};       ///< of what the model takes, step by step
};
/// Plans with a model. The horizon's block must be the model's.
/// @throws DataError where they differ
std::unique_ptr<Controller> model_planner(const ActingModel& model,
                                          std::shared_ptr<const planning::Planner> planner,
                                          const planning::RecedingHorizonOptions& horizon,
                                          const planning::GoalCost& cost, uint64_t seed);
/// The same with a model of this library, whose options say block and actions.
/// @param longest step in the world's unit; 0: any
std::unique_ptr<Controller> model_planner(DynamicsModel& model,
                                          std::shared_ptr<const planning::Planner> planner,
                                          const planning::RecedingHorizonOptions& horizon,
                                          const planning::GoalCost& cost, uint64_t seed,
                                          double longest = 0);
/// No planner: what the inverse dynamics say leads from here to the goal, cut to `longest` (in the
/// world's unit; 0: not), held for a block.
std::unique_ptr<Controller> inverse_policy(DynamicsModel& model, double longest);

}  // namespace jepa::eval::dynamics
