// Predictors from weight files.
#pragma once

#include <jepa/io/published.hpp>
#include <predictors/action_conditioned.hpp>
#include <predictors/registry.hpp>

#include <optional>

namespace jepa::predictors {

/// A masked predictor with the weights of a file, in evaluation mode.
struct LoadedPredictor {
  Predictor predictor{nullptr};
  PredictorOptions options;
};

/// Options of the predictor that `file` holds: a run's own, else read off the tensors. Where a file
/// has many mask tokens (V-JEPA 2: ten), number 1 is used, as the published code and Hugging Face's
/// do outside training.
/// @param family of published weights; none for a run
/// @param heads 0: from the file or by family (V-JEPA 2 and 2.1: 12; else `encoder_heads`)
/// @throws CheckpointError naming what is missing; ConfigError for an action-conditioned predictor
PredictorOptions predictor_options(const WeightFile& file, std::optional<ModelFamily> family,
                                   int64_t heads, int64_t encoder_heads);

/// Builds that predictor and gives it the weights without copying them.
/// @param grid token grid of the clips it was trained on (a stored position table's)
LoadedPredictor load_predictor(const WeightFile& file, std::optional<ModelFamily> family,
                               int64_t heads, int64_t encoder_heads, const TokenGrid& grid);

/// Builds the action-conditioned predictor that a V-JEPA 2-AC file holds, in evaluation mode.
/// Extrinsics are left unused, as in the published model.
/// @param heads 0: the published 16
/// @throws CheckpointError naming what is missing
ActionConditionedPredictor load_action_conditioned(const WeightFile& file, int64_t heads = 0);

/// Compares what the file says of its predictor with `own`: all that decides what it computes for a
/// run's; heads and positions for published ones.
/// @throws ConfigError naming the option and both values
void require_same_predictor(const WeightFile& file, std::optional<ModelFamily> family,
                            const PredictorOptions& own, int64_t encoder_heads);

}  // namespace jepa::predictors
