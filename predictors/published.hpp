// Predictors from weight files.
#pragma once

#include <jepa/io/published.hpp>
#include <predictors/action_conditioned.hpp>
#include <predictors/registry.hpp>

#include <optional>

namespace jepa::predictors {

/// What a weight file holds of its masked predictor. Asked once, with read_predictor().
struct StoredPredictor {
  std::string path;                   ///< the file, for messages
  std::optional<ModelFamily> family;  ///< of published weights; none for a run
  PredictorOptions options;
  /// As the tensors show it; of width 0 for a run's predictor of another kind than the masked one.
  PublishedPredictor shape;
  int64_t masks = 1;        ///< configured masks, or mask tokens
  bool knows_heads = true;  ///< false: they are the reader's choice
  TensorMap weights;        ///< under the library's names, as they lie in the file
};

/// A masked predictor with the weights of a file, in evaluation mode.
struct LoadedPredictor {
  Predictor predictor{nullptr};
  PredictorOptions options;
};

/// Options, shape and weights of the predictor that `file` holds: a run's options are its own,
/// others are read off the tensors. Where a file has many mask tokens (V-JEPA 2: ten), number 1 is
/// used, as the published code and Hugging Face's do outside training.
/// @param family of published weights; none for a run
/// @param heads 0: from the file or by family (V-JEPA 2 and 2.1: 12; else `encoder_heads`)
/// @throws CheckpointError naming what is missing; ConfigError for an action-conditioned predictor
StoredPredictor read_predictor(const WeightFile& file, std::optional<ModelFamily> family,
                               int64_t heads, int64_t encoder_heads);

/// Builds the predictor that read_predictor() finds and gives it the weights without copying them.
/// @param encoder whose tokens it takes; a stored position table is for its clips
LoadedPredictor load_predictor(const WeightFile& file, std::optional<ModelFamily> family,
                               int64_t heads, const EncoderImpl& encoder);

/// Builds the action-conditioned predictor that a V-JEPA 2-AC file holds, in evaluation mode.
/// Extrinsics are left unused, as in the published model.
/// @param heads 0: the published 16
/// @throws CheckpointError naming what is missing
ActionConditionedPredictor load_action_conditioned(const WeightFile& file, int64_t heads = 0);

/// Compares what `stored` says of a predictor with `own`: all that decides what it computes for a
/// run's; heads and positions for published ones.
/// @throws ConfigError naming the option and both values
void require_same_predictor(const StoredPredictor& stored, const PredictorOptions& own,
                            int64_t encoder_heads);

}  // namespace jepa::predictors
