// Predictors from weight files.
#pragma once

#include <jepa/io/published.hpp>
#include <predictors/registry.hpp>

namespace jepa::predictors {

/// A masked predictor with the weights of a file, in evaluation mode.
struct LoadedPredictor {
  Predictor predictor{nullptr};
  PredictorOptions options;
};

/// Builds the masked predictor that `file` holds and gives it the weights without copying them.
/// Where a file has many mask tokens (V-JEPA 2: ten), number 1 is used, as the published code and
/// Hugging Face's do outside training.
/// @param heads 0: from the file or by family (V-JEPA 2 and 2.1: 12; else `encoder_heads`)
/// @param grid token grid of the clips it was trained on (a stored position table's)
/// @throws CheckpointError naming what is missing; ConfigError for an action-conditioned predictor
LoadedPredictor load_predictor(const WeightFile& file, ModelFamily family, int64_t heads,
                               int64_t encoder_heads, const TokenGrid& grid);

}  // namespace jepa::predictors
