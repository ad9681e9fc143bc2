// What `plan` can be told.
#pragma once

#include <eval/dynamics/episodes.hpp>
#include <eval/dynamics/protocol.hpp>
#include <eval/planning/landscape.hpp>
#include <eval/planning/planner.hpp>
#include <eval/planning/receding_horizon.hpp>
#include <eval/worlds/gymnasium.hpp>
#include <jepa/options.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace jepa::examples {

/// Everything that decides an evaluation.
struct PlanOptions {
  std::string run = "runs/two_rooms";
  std::string members;
  std::string weights;
  std::vector<double> action_mean = {0}, action_std = {1};  ///< with weights
  std::string out;
  std::string factors = "training";
  int64_t episodes = 200;
  int64_t unseen_episodes = 100;
  int64_t ahead_episodes = 0;
  int64_t ahead = 25;
  int64_t ahead_steps = 50;
  int64_t at_once = 50;
  int64_t films = 3;
  std::string controls = "all";
  int64_t probe_clips = 512;
  int64_t wall_cases = 512;
  std::string landscape;
  eval::planning::LandscapeOptions map;
  eval::planning::PlannerOptions planner;
  std::string variant;  ///< of cem, which `take_variant` took
  eval::planning::RecedingHorizonOptions horizon;
  eval::planning::GoalCost cost{.over_time = "min"};
  eval::worlds::GymnasiumOptions gym;
  eval::dynamics::RunShape asked;  ///< what is asked for beside the run's own

  PlanOptions() {
    auto& cem = planner.cem;
    cem.samples = 96;
    cem.elites = 12;
    cem.iterations = 4;
    cem.correlation = 0.7;
    cem.fresh_share = 0.5;
  }
  void describe(OptionVisitor& visit);
  std::vector<OptionSection> sections();
};

/// The horizon takes the model's block. @throws CheckpointError where another was asked for
void require_block(const std::string& source, int64_t block, PlanOptions& options,
                   const OptionValues& given);
/// The environment is as the training data's was, where they said, and so are a Gymnasium
/// environment's frames.
/// @throws CheckpointError where another was asked for
void take_environment(const std::string& source, const eval::dynamics::RunShape& run,
                      PlanOptions& options, const OptionValues& given);
/// CEM starts from the published variant that `planner.variant` names; what was given of `cem.*`
/// goes on top, and the variant is none from then on.
/// @throws ConfigError for a variant of another planner than cem
void take_variant(PlanOptions& options, const OptionValues& given);
/// The longest step as the planner counts it; 0: any, or its numbers are scaled differently.
double planner_length(const eval::dynamics::ActionScale& scale);
/// Bounds of a step's action, where the planner is not told others.
/// @param world_bounds also the least and largest numbers that the world states
/// @throws ConfigError where it was told to go beyond the protocol's longest step
void bound_actions(PlanOptions& options, const OptionValues& given,
                   const eval::worlds::WorldInfo& info, const eval::dynamics::ActingModel& acting,
                   bool world_bounds);
/// What the numbers were made with: planner, horizon, cost, factors, protocol.
nlohmann::json plan_settings(const PlanOptions& options,
                             const eval::dynamics::EvaluationProtocol& protocol);

}  // namespace jepa::examples
