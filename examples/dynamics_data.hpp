// What train_dynamics asks of the clip stores that it reads.
#pragma once

#include <eval/dynamics/diagnostics.hpp>
#include <eval/dynamics/model.hpp>
#include <jepa/data/clip_source.hpp>
#include <jepa/options.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace jepa::examples {

/// What a clip store of `collect` says of itself; empty where it does not.
struct StoreNotes {
  std::string world = {};
  std::string factors = {};  ///< as eval::dynamics::EvaluationProtocol has them
  int64_t action_block = 1;  ///< actions from one frame to the next
  int64_t choices = 0;       ///< that an action is one of; 0: actions are numbers
  int64_t frame_skip = 0;    ///< of a Gymnasium environment; 0: not known
  std::string make = {};     ///< its arguments
};
/// Of a clip store; of anything else nothing is known. @throws DataError
StoreNotes store_notes(const std::string& path);

/// Opens clips of a store whose frames are `block` actions apart.
/// @param clip completed: its signals and frame step
/// @throws DataError, and ConfigError where the store's frames or `clip.frame_step` do not fit
std::shared_ptr<ClipSource> open_dynamics_store(const std::string& path, int64_t block,
                                                ClipOptions& clip);

/// Fills what `model` leaves empty of the actions' statistics: from all rows of a clip store that
/// have no NaN, from some clips of anything else.
/// @param data what is trained on @param some clips of it
/// @throws DataError naming the data where they cannot be had
void complete_action_statistics(eval::dynamics::ModelOptions& model, const std::string& data,
                                const std::function<ClipBatch()>& some);

/// What `given` does not say of the second phase's predictor is as the first's, but for the sizes
/// of `residual`.
void follow_first(const eval::dynamics::PredictorShape& first,
                  eval::dynamics::PredictorShape& second, const OptionValues& given);

/// @param longest history that predictions are trained from
/// @throws ConfigError where the protocol's is longer
void require_history(int64_t history, int64_t longest);

/// @param path of the clips, for messages
/// @param probed their states are read from latents
/// @throws DataError where a model of this shape does not take them, or they are too few to read
/// states from
void require_fitting(const eval::dynamics::HeldOutClips& held,
                     const eval::dynamics::ModelOptions& shape, const std::string& path,
                     bool probed = true);

}  // namespace jepa::examples
