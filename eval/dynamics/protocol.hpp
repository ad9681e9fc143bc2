// What a run of train_dynamics keeps for whoever reads it: the model's shape and how it is to be
// evaluated.
#pragma once

#include <eval/dynamics/patch_training.hpp>
#include <eval/dynamics/training.hpp>
#include <eval/worlds/registry.hpp>
#include <eval/worlds/world.hpp>
#include <jepa/options.hpp>

#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::dynamics {

/// How the model is evaluated. It travels in the checkpoint: success rates of other protocols are
/// not comparable.
struct EvaluationProtocol {
  std::string world = worlds::kTwoRooms;
  int64_t steps = 200;        ///< of an episode; success counts at the last
  int64_t history = 1;        ///< frames that the model sees before it plans
  double longest_step = 1.8;  ///< of an action in the world's unit; 0: any
  /// Of the world in the training data, in the words of `collect --factors`: standard, training,
  /// or the factor that was drawn from its unseen values; empty: not known.
  std::string factors = {};
  int64_t frame_skip = 0;     ///< of a Gymnasium environment; 0: not known
  std::string gym_make = {};  ///< its arguments, as `gym.make`; empty: not known

  void describe(OptionVisitor& visit);
};

/// Whether training showed unseen values of a factor.
enum class Seen { no, yes, unknown };
/// @param factors of the training data, see EvaluationProtocol
Seen unseen_values_seen(const worlds::Factor& factor, const std::string& factors);

/// Model, both predictors and protocol as they stand in a run's config.ini.
struct RunShape {
  ModelOptions model;
  PredictorShape predictor;
  SecondPhaseOptions second;
  PatchOptions patches;  ///< where `given()`, of [model] frames and actions alone are used
  EvaluationProtocol protocol;

  /// [model], [predictor], [second], [patches] and its predictors, [protocol]
  std::vector<OptionSection> sections();
};

/// What a run's config.ini says. @param folder of the checkpoint
/// @throws CheckpointError where there is none
RunShape read_run_shape(const std::string& folder);

/// Folder of the newest checkpoint, for its encoder. @param path a run folder or a checkpoint
/// @throws CheckpointError where it is no run of train_dynamics, or one over patches
std::string encoder_folder(const std::string& path);

/// A run read back: its shape and its newest model.
struct SavedDynamics {
  RunShape shape;
  std::string checkpoint;  ///< folder
  DynamicsModel model;
};

/// @param path a run folder or one of its checkpoints
/// @throws CheckpointError where it is no run of train_dynamics, or one over patches
SavedDynamics open_dynamics(const std::string& path);

/// A run over patches read back.
struct SavedPatchDynamics {
  RunShape shape;
  std::string checkpoint;  ///< folder
  std::unique_ptr<PatchDynamicsModel> model;
};

/// @param path a run folder or one of its checkpoints, see is_patch_run()
/// @param weights where the encoder is now; empty: where the run found it
/// @throws CheckpointError, also where the encoder is another one
SavedPatchDynamics open_patch_dynamics(const std::string& path, const std::string& weights = {});

/// What is asked for beside what the run was trained for.
/// @param asked `section.key` -> value, of the sections of RunShape; others are passed over, and
///   where the encoder of patches is, too
/// @param checkpoint its folder
/// @throws CheckpointError naming the first key that differs from the run's
void require_same(const RunShape& shape, const std::string& checkpoint, const OptionValues& asked);

}  // namespace jepa::eval::dynamics
