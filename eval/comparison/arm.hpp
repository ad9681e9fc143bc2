// The contestants: trained from scratch on the same clips within the same budget of floating-point
// operations, and asked the same questions.
#pragma once

#include <eval/diffusion/generative_model.hpp>
#include <eval/probes/features.hpp>
#include <eval/training/recipe.hpp>
#include <jepa/data/clip_source.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::comparison {

/// How arms are built; the same for every cell of a comparison.
struct ArmOptions {
  training::Recipe jepa;
  diffusion::GenerativeOptions generative;
  diffusion::AutoencoderOptions autoencoder;
  OptimisationOptions diffusion_optimisation{.warmup_steps = 50,
                                             .lr = 1e-3,
                                             .weight_decay = 0,
                                             .final_weight_decay = 0,
                                             .beta2 = 0.99,
                                             .clip_gradient = 1.0};
  diffusion::SamplerOptions sampler{.method = "euler", .steps = 16};
  int64_t batch = 32;              ///< clips a step, of every arm
  int64_t context_frames = 4;      ///< shown when a future is asked for
  double decoder_tera = 20;        ///< TFLOP to train a decoder of latents, counted apart
  double autoencoder_share = 0.2;  ///< of the budget of diffusion in latents
  std::vector<double> feature_times = {0.5, 0.75, 1.0};  ///< at which diffusion features are read
  torch::Device device = torch::kCPU;  ///< where arms are trained and asked, in float32
};

/// What an arm is to be.
struct ArmPlan {
  std::string arm;  ///< one of arm_names()
  double tera = 0;  ///< training budget, TFLOP
  int64_t seed = 0;
  std::string folder;  ///< of its runs; training that was cut off goes on from there
};

/// What it cost.
struct ArmCosts {
  double train_flops = 0;    ///< everything but the decoder
  double decoder_flops = 0;  ///< training the decoder of latents
  double train_seconds = 0;  ///< without the decoder
  double clips = 0;          ///< seen in training
  double steps = 0;
  double parameters = 0;  ///< that are trained, without the decoder
  double peak_rss_mb = 0;
  double flops_per_frame = 0;  ///< to predict one frame of one clip; 0: it does not
};

/// Frozen features and predicted futures of a trained model.
struct Arm {
  /// Names of the features that `features` gives: layers, and times of diffusion.
  std::vector<std::string> feature_names;
  /// Clips uint8 [B, C, T, H, W] -> tokens [B, N, D] for each name, on the CPU. Empty: the arm has
  /// none of its own.
  probes::FeatureFunction features;
  /// Futures of clips from their first `context_frames` frames, later ones are not looked at:
  /// uint8 [K, B, C, T - context, H, W]. Empty: the arm has none. A deterministic one gives K = 1.
  std::function<torch::Tensor(const torch::Tensor& clips, int64_t futures, uint64_t seed)> predict;
  /// Clips of sizes [B, C, T, H, W] from words alone, ids int64 [B, slots] of a prompt vocabulary.
  /// Empty: the arm is told none.
  std::function<torch::Tensor(const torch::Tensor& prompts, at::IntArrayRef sizes, uint64_t seed)>
      draw;
  /// A decoder's ceiling and floor: futures from the encoder's own latents, and from latents of
  /// another clip. Empty for arms without a decoder.
  std::function<torch::Tensor(const torch::Tensor& clips, uint64_t seed)> ceiling;
  std::function<torch::Tensor(const torch::Tensor& clips, uint64_t seed)> floor;
  ArmCosts costs;
};

/// All arms there are: jepa; pixels, latents (diffusion); masked_pixels (the JEPA's trunk and
/// masks); and the controls random_init (features alone) and frozen_random (futures alone: a
/// predictor and a decoder trained on a random encoder, within the same budget).
const std::vector<std::string>& arm_names();

/// Trains an arm, or takes up where its training was cut off.
/// @param hooks progress and stop; a stopped arm throws Stopped
/// @throws ConfigError for an unknown arm or a budget below one step
Arm train_arm(const ArmPlan& plan, const ArmOptions& options,
              const std::shared_ptr<const ClipSource>& clips,
              const std::function<LoopHooks(const std::string& what, int64_t steps)>& hooks);

/// Trains the model of an arm alone, without a decoder for it: of jepa, masked_pixels, pixels or
/// latents. Within the same budget and in the same folders as `train_arm`.
/// @returns the folder of its run; @throws ConfigError for an arm that has no such model
std::string train_model(
    const ArmPlan& plan, const ArmOptions& options, const std::shared_ptr<const ClipSource>& clips,
    const std::function<LoopHooks(const std::string& what, int64_t steps)>& hooks);

/// The folder of the run that train_model() leaves; nothing is looked at on disk.
/// @throws ConfigError for an arm that has no such model
std::string model_folder(const ArmPlan& plan);

}  // namespace jepa::eval::comparison
