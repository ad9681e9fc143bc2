// Predictors of the next latent from those before it: one interface, however far they look back.
#pragma once

#include <jepa/options.hpp>
#include <predictors/adaln.hpp>

#include <torch/nn/module.h>
#include <torch/types.h>

#include <map>
#include <memory>
#include <string>

namespace jepa::eval::dynamics {

/// Predicts latents of frames from those before them and the actions between.
class LatentPredictor {
 public:
  virtual ~LatentPredictor() = default;

  /// Latents that a prediction looks back over at most, the present one included.
  virtual int64_t history() const = 0;
  /// One frame ahead of each of h frames, from it and those before it.
  /// @param latents [B, h, D], h <= history(); any h where that is 1
  /// @param actions leaving each frame [B, h, A] @returns [B, h, D]
  virtual torch::Tensor predict(const torch::Tensor& latents, const torch::Tensor& actions) = 0;
  /// Frames after `past`, predictions fed back in; each looks back over the last history().
  /// @param past [B, h, D] @param actions all of them [B, h - 1 + k, A] @returns [B, k, D]
  virtual torch::Tensor rollout(const torch::Tensor& past, const torch::Tensor& actions) = 0;
  /// What is trained, by the names of its files.
  virtual std::map<std::string, std::shared_ptr<torch::nn::Module>> modules() const = 0;
  /// @param stream prefix of the names of the random streams drawn from
  virtual void initialise(uint64_t seed, const std::string& stream = {}) = 0;

  void to(torch::Device device);
  /// Dropout is of training mode alone.
  void train(bool on);
};

/// Mean squared error of predictions one frame ahead from true latents, of each frame but the first
/// once: in windows of `history()` frames, the last one ending with the clip. Of clips of one
/// window it is LeWorldModel's (arXiv 2603.19312). Where `history()` is 1, over all frames.
/// @param latents of all frames but the last [B, T - 1, D] or more
/// @param later of all frames but the first [B, T - 1, D] @param actions [B, T - 1, A]
torch::Tensor teacher_forced_error(LatentPredictor& predictor, const torch::Tensor& latents,
                                   const torch::Tensor& later, const torch::Tensor& actions);

/// Which predictor of one latent a frame, and its shape; widths of latents and actions are the
/// model's.
struct PredictorShape {
  std::string kind = "residual";  ///< or gru, adaln
  int64_t hidden = 512;           ///< of `residual`, next = LayerNorm(z + f([z, actions]))
  int64_t layers = 2;             ///< hidden layers
  predictors::AdaLnOptions adaln{
      .dim = 0, .depth = 2, .heads = 4, .head_dim = 16, .mlp_hidden = 256};

  void describe(OptionVisitor& visit);
  int64_t history() const { return kind == "adaln" ? adaln.frames : 1; }
};

/// Without weights until `initialise` or a load; in evaluation mode.
/// @throws ConfigError for a kind that there is not
std::shared_ptr<LatentPredictor> make_latent_predictor(const PredictorShape& shape, int64_t dim,
                                                       int64_t action_width);

/// AdaLN and its action encoder over latents of `options.tokens` tokens side by side.
std::shared_ptr<LatentPredictor> make_adaln_predictor(const predictors::AdaLnOptions& options,
                                                      int64_t action_width);

}  // namespace jepa::eval::dynamics
