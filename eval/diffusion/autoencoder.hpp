// A small video autoencoder: the first of two stages, as in Sora.
#pragma once

#include <jepa/options.hpp>
#include <jepa/training/loop.hpp>
#include <jepa/training/optimizer.hpp>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

namespace jepa::eval::diffusion {

/// Shape of the autoencoder: time halves once, sides halve `halvings` times.
struct AutoencoderOptions {
  int64_t channels = 1;
  int64_t width = 32;           ///< channels of the first stage; they double at each halving
  int64_t halvings = 2;         ///< of the sides
  int64_t latent_channels = 8;
  double latent_noise = 0.1;    ///< deviation of noise on the latents in training

  void describe(OptionVisitor& visit);
  int64_t side_factor() const { return int64_t{1} << halvings; }
  static constexpr int64_t kTimeFactor = 2;
};

/// Convolutional video autoencoder (3D convolutions, SiLU), deterministic, with noise on its
/// latents in training so that near-by latents decode alike. Latents are normalised channel by
/// channel; the statistics are buffers of the module and travel with its weights.
class AutoencoderImpl : public torch::nn::Module {
 public:
  explicit AutoencoderImpl(const AutoencoderOptions& options);

  /// float [B, C, T, H, W], -1..1 -> normalised latents [B, Z, T/2, H/f, W/f].
  /// @throws DataError where sizes do not divide
  torch::Tensor encode(const torch::Tensor& clips);
  /// Normalised latents -> float [B, C, T, H, W].
  torch::Tensor decode(const torch::Tensor& latents);
  /// Sets the statistics from latents as `encode` gives them now.
  void fit_statistics(const torch::Tensor& latents);

  void initialise(at::Generator generator);
  /// Floating-point operations of encoding and of decoding one clip of T x H x W.
  double encode_flops(int64_t frames, int64_t height, int64_t width) const;
  double decode_flops(int64_t frames, int64_t height, int64_t width) const;
  const AutoencoderOptions& options() const { return options_; }

 private:
  AutoencoderOptions options_;
  torch::nn::ModuleList encoder_, decoder_;
  torch::Tensor mean_, std_;  ///< [Z], buffers
};
TORCH_MODULE(Autoencoder);

/// Trains an autoencoder: mean absolute error of clips through noisy latents.
class AutoencoderTask : public TrainingTask {
 public:
  /// @param validation held-out clips uint8 [B, C, T, H, W]; undefined: none
  AutoencoderTask(Autoencoder model, const OptimisationOptions& optimisation, uint64_t seed,
                  torch::Tensor validation);

  int64_t steps_done() const override { return step_; }
  StepMetrics step(const ClipBatch& batch, bool watched,
                   std::map<std::string, std::string>& texts) override;
  /// `psnr` [dB] of the validation clips; it is the `score`.
  StepMetrics evaluate() override;
  std::map<std::string, TensorMap> tensors() const override;
  void restore(int64_t step, const std::string& checkpoint_folder) override;

 private:
  Autoencoder model_;
  OptimisationOptions optimisation_;
  uint64_t seed_;
  torch::Tensor validation_;
  AdamW optimizer_;
  int64_t step_ = 0;
};

/// The autoencoder of a run or checkpoint of `train_diffusion --stage autoencoder`.
/// @throws CheckpointError naming the file and what is missing
Autoencoder load_autoencoder(const std::string& path);

}  // namespace jepa::eval::diffusion
