// A world model of small frames: convolutional encoder, predictor of blocks of actions, and which
// action led from one latent to the next.
#pragma once

#include <encoders/convolution_stack.hpp>
#include <eval/dynamics/latent_predictor.hpp>
#include <eval/planning/world_model.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/model.hpp>
#include <jepa/options.hpp>
#include <jepa/training/processes.hpp>
#include <predictors/recurrent.hpp>

#include <ATen/core/Generator.h>
#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::dynamics {

/// Shape of the model. Sizes that are the data's are 0 until `fitted`.
struct ModelOptions {
  encoders::ConvolutionStackOptions encoder{.channels = 0, .height = 0, .width = 0};
  PixelStatistics pixels = {};
  int64_t action_width = 0;  ///< numbers of one step's action
  int64_t block = 5;         ///< steps that one prediction covers
  int64_t inverse_hidden = 256;
  /// Of a step's numbers in the data, one value or each, and what they are divided by; the model
  /// sees the rest. Empty: measured, until `take_action_statistics`.
  std::vector<double> action_mean = {0};
  std::vector<double> action_std = {1};

  /// What the model takes, of the world's actions side by side [..., n * action_width].
  torch::Tensor model_actions(const torch::Tensor& actions) const;
  /// The other way.
  torch::Tensor world_actions(const torch::Tensor& actions) const;

  void describe(OptionVisitor& visit);
  /// With the sizes of clips [B, C, T, H, W] and actions [B, T, block * action_width].
  /// @throws DataError where actions do not divide into blocks or sizes given before differ
  ModelOptions fitted(at::IntArrayRef clips, int64_t actions) const;
  bool measures_actions() const { return action_mean.empty() || action_std.empty(); }
  /// Fills what is empty of the actions' statistics. @param steps that a row has side by side
  /// @throws DataError where rows do not divide into them, or a number never varies
  void take_action_statistics(const ColumnStatistics& rows, int64_t steps);
};

/// The model as a planner takes it: frames are uint8, one latent each, and an action is a block.
class DynamicsModel : public planning::WorldModel {
 public:
  /// Without weights until `initialise` or a load.
  DynamicsModel(const ModelOptions& options, const PredictorShape& predictor);

  /// @param frames uint8 [N, C, H, W] @throws DataError for frames of another size
  torch::Tensor encode(const torch::Tensor& frames) override;
  /// Looks back over the last history(). Rows in parts that stay in the processor's cache; with
  /// gradient where the actions have one.
  torch::Tensor rollout(const torch::Tensor& past, const torch::Tensor& past_actions,
                        const torch::Tensor& actions) override;
  int64_t action_width() const override { return options.action_width * options.block; }

  /// Latents that a prediction looks back over at most.
  int64_t history() const { return predictor->history(); }
  /// Latents of every frame. @param clips uint8 [B, C, T, H, W] @returns [B, T, D]
  /// @throws DataError for frames of another size
  torch::Tensor encode_clips(const torch::Tensor& clips);
  /// A predictor of another shape, without weights, in place of the present one.
  void replace_predictor(const PredictorShape& shape);
  void initialise(uint64_t seed);

  ModelOptions options;
  PredictorShape predictor_shape;
  torch::ScalarType precision = torch::kFloat32;  ///< of matrix products
  encoders::ConvolutionStack encoder{nullptr};
  std::shared_ptr<LatentPredictor> predictor;
  predictors::InverseDynamics inverse{nullptr};  ///< null: stored without
};

/// Weights of the loss's terms; what has none is not computed. The regularisers are VICReg's and
/// SIGReg on the latents of all frames, as in eb_jepa (arXiv 2602.03604) and LeWorldModel
/// (arXiv 2603.19312).
struct ObjectiveWeights {
  double rollout = 1;   ///< error of predictions fed back in, from the first frame on
  double one_step = 1;  ///< error of predictions from true latents, see teacher_forced_error()
  double variance = 16;
  double covariance = 8;
  double similarity = 1;  ///< of latents one block apart
  double inverse = 4;     ///< error of the mean action of a block, read from its two latents
  double sigreg = 0;      ///< on the statistic that is not multiplied by n
  int64_t slices = 128;

  void describe(OptionVisitor& visit);
};

/// A batch's loss. Terms are unweighted scalars, undefined where their weight is 0.
struct DynamicsLoss {
  torch::Tensor rollout, one_step, variance, covariance, similarity, inverse, sigreg;
  torch::Tensor total;
};

/// Mean squared errors of `model`'s predictor alone. Gradient flows through the targets where they
/// have one.
/// @param latents [B, T, D] @param actions [B, T - 1, block * A]
DynamicsLoss prediction_loss(DynamicsModel& model, const torch::Tensor& latents,
                             const torch::Tensor& actions, const ObjectiveWeights& weights);
/// All terms. @param generator draws SIGReg's slices
/// @param processes that share the batch: the regularisers see the latents of all
DynamicsLoss joint_loss(DynamicsModel& model, const torch::Tensor& latents,
                        const torch::Tensor& actions, const ObjectiveWeights& weights,
                        at::Generator generator, Processes& processes = process_alone());

}  // namespace jepa::eval::dynamics
