// Published checkpoints as models that act in our worlds.
#pragma once

#include <eval/planning/planner.hpp>
#include <eval/planning/receding_horizon.hpp>
#include <eval/planning/world_model.hpp>

#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::planning {

/// What the world that it is to act in looks like.
struct ActedWorld {
  std::string name;
  std::vector<int64_t> frame;  ///< {C, H, W}
  int64_t action_width = 2;
};

/// A checkpoint that can act: it takes the world's frames as they are, uint8 [N, C, H, W], and
/// prepares them as published. The other fields are the published way to plan with it.
struct PublishedModel {
  std::unique_ptr<WorldModel> model;
  std::string kind;   ///< eb_jepa, lewm
  int64_t block = 1;  ///< steps of the world that one action of the model covers
  int64_t longest_history = 1;
  std::string variant;      ///< of cem
  double longest_step = 0;  ///< of an action, as published; 0: any
  RecedingHorizonOptions horizon;
  GoalCost cost;
};

/// eb_jepa's checkpoint (a file), or LeWorldModel's (a folder, or a `.pt` beside its config.json).
/// @throws CheckpointError naming the file, and what does not fit: frames of another size or number
///   of channels, actions of another width
PublishedModel open_published(const std::string& path, const ActedWorld& world);

}  // namespace jepa::eval::planning
