// Planning with V-JEPA 2-AC: energies of candidate actions under a model of patch tokens.
#pragma once

#include <eval/planning/world_model.hpp>
#include <predictors/action_conditioned.hpp>

#include <torch/types.h>

#include <functional>

namespace jepa::eval::planning {

/// What is known at a decision: h frames and what was done between them.
struct PatchHistory {
  torch::Tensor frames;      ///< layer-normed tokens [B, h * n, D], n of a frame
  torch::Tensor states;      ///< [B, h, state_width]
  torch::Tensor actions;     ///< between them [B, h - 1, action_width]; h = 1: may be undefined
  torch::Tensor extrinsics;  ///< of the camera, which stands still, [B, extrinsics_width]; or none
  TokenGrid frame{1, 0, 0};  ///< of one frame
};

/// Where an action leads. @param state [N, state_width] @param action [N, action_width]
using StateUpdate =
    std::function<torch::Tensor(const torch::Tensor& state, const torch::Tensor& action)>;

/// 2-AC's: position plus motion; the action's turn after the present one (Euler angles about the
/// fixed axes x, y, z [rad]); gripper cut to [0, 1]. @param state, action [N, 7]
torch::Tensor moved_pose(const torch::Tensor& state, const torch::Tensor& action);

/// Energies [B, S] of candidates [B, S, H, A]: mean absolute difference of the last imagined frame
/// and the goal. With `cached` the history is run once, when the costs are made; its keys and
/// values are shared by all candidates and iterations, and a step costs one frame of tokens.
/// Without, every step runs history and imagined frames anew, as published.
/// @param goal layer-normed tokens [B, n, D]
/// @throws DataError where history, goal or candidates have other shapes than the model
CostFunction action_conditioned_costs(predictors::ActionConditionedPredictor model,
                                      const PatchHistory& history, const torch::Tensor& goal,
                                      StateUpdate update = moved_pose, bool cached = true);

}  // namespace jepa::eval::planning
