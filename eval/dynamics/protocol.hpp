// What a run of train_dynamics keeps for whoever reads it: the model's shape and how it is to be
// evaluated.
#pragma once

#include <eval/dynamics/training.hpp>
#include <jepa/options.hpp>

#include <string>
#include <vector>

namespace jepa::eval::dynamics {

/// How the model is evaluated. It travels in the checkpoint: success rates of other protocols are
/// not comparable.
struct EvaluationProtocol {
  std::string world = "two_rooms";
  int64_t steps = 200;        ///< of an episode; success counts at the last
  int64_t history = 1;        ///< frames that the model sees before it plans
  double longest_step = 1.8;  ///< of an action [px]; 0: any

  void describe(OptionVisitor& visit);
};

/// Model, both predictors and protocol as they stand in a run's config.ini.
struct RunShape {
  ModelOptions model;
  PredictorShape predictor;
  SecondPhaseOptions second;
  EvaluationProtocol protocol;

  /// [model], [predictor], [second], [protocol]
  std::vector<OptionSection> sections();
};

/// A run read back: its shape and its newest model.
struct SavedDynamics {
  RunShape shape;
  std::string checkpoint;  ///< folder
  DynamicsModel model;
};

/// @param path a run folder or one of its checkpoints
/// @throws CheckpointError where it is no run of train_dynamics
SavedDynamics open_dynamics(const std::string& path);

/// What is asked for beside what the run was trained for.
/// @param asked `section.key` -> value, of the sections of RunShape; others are passed over
/// @throws CheckpointError naming the first key that differs from the run's
void require_same(const SavedDynamics& run, const OptionValues& asked);

}  // namespace jepa::eval::dynamics
