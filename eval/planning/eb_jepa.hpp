// eb_jepa's action-conditioned model (arXiv 2602.03604): Impala encoder, GRU, inverse dynamics.
#pragma once

#include <encoders/convolutional.hpp>
#include <eval/planning/world_model.hpp>
#include <jepa/io/safetensors.hpp>
#include <predictors/recurrent.hpp>

#include <string>

namespace jepa::eval::planning {

/// Weights of the loss terms. The defaults are eb_jepa's for two rooms.
struct EbJepaWeights {
  double covariance = 8;
  double variance = 16;
  double similarity = 12;
  double inverse = 1;
};

/// What one batch costs, and what it was computed from.
struct EbJepaLoss {
  torch::Tensor states;           ///< [B, T, D]
  torch::Tensor predicted;        ///< [B, 1 + steps, D], the first frame's state, then predictions
  torch::Tensor inverse_actions;  ///< [B, T - 1, A]
  torch::Tensor prediction;  ///< mean over steps of the mean squared error; targets not detached
  torch::Tensor covariance, variance, similarity, inverse;  ///< unweighted
  torch::Tensor regulariser;                                ///< weighted sum of these four
  torch::Tensor total;                                      ///< regulariser + prediction
};

/// The model. Predictor and encoder share their last layer norm, as published.
class EbJepa : public WorldModel {
 public:
  EbJepa(const encoders::ImpalaOptions& encoder, int64_t action_width,
         int64_t inverse_hidden = 256);

  torch::Tensor encode(const torch::Tensor& frames) override;
  torch::Tensor rollout(const torch::Tensor& past, const torch::Tensor& past_actions,
                        const torch::Tensor& actions) override;
  int64_t action_width() const override { return predictor->options().action_width; }

  /// @param clip as normalised, [B, C, T, H, W] @param actions [B, T, A], action t leaving frame t
  /// @param steps of the unrolled prediction from the first frame
  EbJepaLoss loss(const torch::Tensor& clip, const torch::Tensor& actions, int64_t steps,
                  const EbJepaWeights& weights = {});

  encoders::Impala encoder{nullptr};
  predictors::GruPredictor predictor{nullptr};
  predictors::InverseDynamics inverse{nullptr};
};

/// Reads eb_jepa's own checkpoint (`model_state_dict`, keys that begin with `_orig_mod` too) or a
/// plain state dict of its model. All sizes but the frame's are in the weights.
/// @param height, width of a frame [px]
/// @throws CheckpointError naming the file and key
EbJepa load_eb_jepa(const std::string& path, int64_t height = 65, int64_t width = 65);

/// The same from tensors under eb_jepa's names.
EbJepa eb_jepa_from(const TensorMap& weights, const std::string& source, int64_t height,
                    int64_t width);

}  // namespace jepa::eval::planning
