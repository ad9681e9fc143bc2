// One training step of every masked-prediction recipe, from top to bottom.
#pragma once

#include <jepa/model.hpp>
#include <jepa/objectives/clip_agreement.hpp>
#include <jepa/objectives/latent_regression.hpp>
#include <jepa/objectives/regulariser.hpp>
#include <jepa/training/loop.hpp>
#include <jepa/training/optimizer.hpp>
#include <jepa/training/schedules.hpp>

#include <string>
#include <vector>

namespace jepa {

/// What is minimised.
struct ObjectiveOptions {
  std::string loss = "l1";  ///< l1, l2, smooth_l1, on normalised targets
  /// "token": layer norm of each token (V-JEPA; pixels stay as they are); "content": less the
  /// position's batch mean, over the dimension's deviation.
  std::string target_norm = "token";
  /// What is predicted of hidden patches: the target encoder's latents, or (the generative control
  /// with the same trunk) their normalised pixels as they are.
  std::string targets = "latents";
  /// V-JEPA 2.1: weight of the loss on visible tokens, rising linearly between the two steps.
  double context_weight = 0.0;
  int64_t context_from_step = 15000;
  int64_t context_full_step = 30000;
  bool context_distance = true;        ///< weight a token by 1/sqrt(distance to the nearest target)
  bool normalise_predictions = false;  ///< layer-norm the predictions as the targets
  double prediction_weight = 1.0;      ///< of the masked prediction; 0 leaves the other terms alone
  bool freeze_encoder = false;         ///< only the predictor learns, as a control
  RegulariserOptions regulariser = {};
  AgreementOptions agreement = {};

  /// All but regulariser and agreement, which are sections of their own.
  void describe(OptionVisitor& visit);
  /// Rows that a step makes of a clip: two where views are compared.
  int64_t views() const { return agreement.weight > 0 ? 2 : 1; }
  /// @throws ConfigError where a term compares clips and micro-batches of `clips` have but one
  void check_clips(int64_t clips) const;
};

/// All that a step depends on besides the data.
struct TrainerOptions {
  OptimisationOptions optimisation = {};
  ObjectiveOptions objective = {};
  PixelStatistics pixels = {};
  torch::Device device = torch::kCPU;
  torch::ScalarType precision = torch::kFloat32;
  uint64_t seed = 0;
};

/// Tensors of a step that tests and diagnostics look at. Lists have an entry for each mask of the
/// first micro-batch, then of the second, and so on.
struct StepTrace {
  torch::Tensor target_tokens;             ///< [B, N, D] of all clips, as the target encoder gave
  std::vector<torch::Tensor> targets;      ///< normalised and gathered
  std::vector<torch::Tensor> predictions;  ///< as the loss saw them
  std::vector<torch::Tensor> context_predictions;  ///< where the predictor gives them
};

/// Trains an encoder and a predictor against the encoder's moving average.
class Trainer {
 public:
  /// Takes over the three modules (moved to the device, parameters flattened).
  /// `target_encoder` starts as it is: call `copy_parameters` first for a fresh run.
  Trainer(Encoder encoder, Encoder target_encoder, Predictor predictor, TrainerOptions options);

  /// One optimiser step on clips [B, C, T, H, W], uint8 or float 0..255, with one or more masks,
  /// each of which adds its own loss; the mean is minimised. Masks have `ObjectiveOptions::views`
  /// rows a clip, one behind the other.
  /// With a trace the metrics have `predicted_content`: how much of what tells the targets' clips
  /// apart (targets less their position's batch mean) the predictions explain, R squared, at most
  /// 1; position codes have 0 at any loss.
  /// @throws Error where the loss or a gradient is not finite; the weights are then untouched.
  ///   ConfigError as `ObjectiveOptions::check_clips`, of the smallest micro-batch.
  StepMetrics step(const torch::Tensor& clips, const std::vector<Mask>& masks,
                   StepTrace* trace = nullptr);

  int64_t steps_done() const { return step_; }
  Encoder& encoder() { return encoder_; }
  Encoder& target_encoder() { return target_encoder_; }
  Predictor& predictor() { return predictor_; }
  /// Of the agreement; empty without one.
  ClipProjector& projector() { return projector_; }
  const TrainerOptions& options() const { return options_; }

  /// The optimiser's moments and counters; with the modules' weights, all that a resume needs.
  TensorMap optimizer_state() const { return optimizer_.state(); }
  void restore(int64_t step, const TensorMap& optimizer_state);

 private:
  void accumulate_gradients(const torch::Tensor& clips, const torch::Tensor& shifts,
                            const std::vector<Mask>& masks, double share, StepMetrics& metrics,
                            StepTrace* trace);
  torch::Tensor mask_loss(const torch::Tensor& tokens, const torch::Tensor& targets,
                          const torch::Tensor& shifts, const TokenGrid& grid, const Mask& mask,
                          int64_t mask_index, double share, StepMetrics& metrics, StepTrace* trace);
  std::map<std::string, std::shared_ptr<torch::nn::Module>> trained_modules();
  double context_weight() const;

  TrainerOptions options_;
  LatentLoss loss_;
  Encoder encoder_;
  Encoder target_encoder_;
  Predictor predictor_;
  ClipProjector projector_{nullptr};
  AdamW optimizer_;
  MovingAverage average_;
  int64_t step_ = 0;
};

}  // namespace jepa
