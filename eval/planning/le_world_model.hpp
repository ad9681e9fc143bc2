// LeWorldModel (arXiv 2603.19312): class-token encoder, AdaLN predictor, action encoder.
#pragma once

#include <encoders/class_token.hpp>
#include <eval/planning/world_model.hpp>
#include <jepa/io/safetensors.hpp>
#include <predictors/adaln.hpp>

#include <string>

namespace jepa::eval::planning {

/// Shape of the model. The defaults are the published ones, for actions of 5 x 2 numbers.
struct LeWorldModelOptions {
  encoders::ClassTokenOptions encoder = {};
  predictors::AdaLnOptions predictor = {};
  int64_t action_width = 10;  ///< of a block: frame skip times the action's numbers
  int64_t smoothed = 10;      ///< channels of the action encoder's smoothing
  int64_t action_scale = 4;   ///< its hidden width over the token width
  int64_t projector_hidden = 2048;
  int64_t sigreg_knots = 17;
};

/// One training pass.
struct LeWorldModelLoss {
  torch::Tensor latents;     ///< [B, T, D]
  torch::Tensor actions;     ///< embedded, [B, T, D]
  torch::Tensor predicted;   ///< [B, history, D]
  torch::Tensor prediction;  ///< mean squared error; gradient flows through the targets
  torch::Tensor sigreg;
  torch::Tensor total;
};

/// The model.
class LeWorldModel : public WorldModel {
 public:
  explicit LeWorldModel(const LeWorldModelOptions& options);

  /// @param frames ImageNet-normalised [N, 3, size, size] -> [N, D]
  torch::Tensor encode(const torch::Tensor& frames) override;
  /// Looks back over the last `predictor.frames` latents; positions count from the window's start.
  torch::Tensor rollout(const torch::Tensor& past, const torch::Tensor& past_actions,
                        const torch::Tensor& actions) override;
  int64_t action_width() const override { return options.action_width; }

  /// One latent ahead of each frame of a window. @param latents [N, h, D]
  /// @param actions embedded, [N, h, D] @returns [N, h, D]
  torch::Tensor predict(const torch::Tensor& latents, const torch::Tensor& actions);

  /// @param pixels [B, T, C, H, W], T = history + ahead
  /// @param actions [B, T, action_width]; what is not a number counts as 0
  /// @param directions unit columns of SIGReg, [D, M]
  LeWorldModelLoss loss(const torch::Tensor& pixels, const torch::Tensor& actions, int64_t ahead,
                        double sigreg_weight, const torch::Tensor& directions);

  void train(bool on);
  /// Every module under its name in the published state dict.
  std::vector<std::pair<std::string, std::shared_ptr<torch::nn::Module>>> modules() const;

  LeWorldModelOptions options;
  encoders::ClassTokenVit encoder{nullptr};
  predictors::AdaLnPredictor predictor{nullptr};
  predictors::ActionEncoder action_encoder{nullptr};
  predictors::BatchNormMlp projector{nullptr};
  predictors::BatchNormMlp pred_proj{nullptr};
};

/// The cost that LeWorldModel plans with: the sum of squares of the last difference.
inline GoalCost le_world_model_cost() { return {.over_time = "last", .sum_width = true}; }

/// Reads a folder with `weights.pt` (or `weights_epoch_N.pt`, the highest N) and `config.json`, or
/// such a `.pt` beside its config. ViT keys of transformers 4 and 5 are both understood, the state
/// dict may lie under `state_dict` or `model`. In evaluation mode.
/// @throws CheckpointError naming the file and key; for a pickled Python object too
LeWorldModel load_le_world_model(const std::string& path);

}  // namespace jepa::eval::planning
