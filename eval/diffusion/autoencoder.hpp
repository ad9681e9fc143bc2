// A small video autoencoder: the first of two stages, as in Sora.
#pragma once

#include <jepa/options.hpp>
#include <jepa/training/loop.hpp>
#include <jepa/training/optimizer.hpp>
#include <jepa/training/processes.hpp>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

namespace jepa::eval::diffusion {

/// Clips of bytes, any sizes -> float in [-1, 1] on `device`, as the generative models see pixels.
torch::Tensor to_unit_range(const torch::Tensor& clips, torch::Device device);
/// And back: uint8, rounded and cut to what a byte holds, on the CPU.
torch::Tensor from_unit_range(const torch::Tensor& pixels);

/// Shape of the autoencoder: time halves once, sides halve `halvings` times.
struct AutoencoderOptions {
  int64_t channels = 1;  ///< of the clips; no option, they say it themselves
  int64_t width = 32;    ///< channels after the first halving; they double at each further
  int64_t halvings = 2;  ///< of the sides
  int64_t latent_channels = 8;
  double latent_noise = 0.1;  ///< deviation of noise on the latents in training; theirs is 1

  void describe(OptionVisitor& visit);
  int64_t side_factor() const { return int64_t{1} << halvings; }
  static constexpr int64_t kTimeFactor = 2;
};

/// A 3D convolution of odd or unit kernel that keeps sizes, or halves them by its stride.
/// Uninitialised until filled.
class ConvolutionImpl : public torch::nn::Module {
 public:
  ConvolutionImpl(int64_t in, int64_t out, int64_t kernel = 3,
                  std::vector<int64_t> stride = {1, 1, 1});
  torch::Tensor forward(const torch::Tensor& x) const;
  /// Floating-point operations for so many output positions.
  double flops(int64_t positions) const;

  torch::Tensor weight;  ///< [out, in, k, k, k]
  torch::Tensor bias;    ///< [out]

 private:
  std::vector<int64_t> stride_;
};
TORCH_MODULE(Convolution);

/// Convolutional video autoencoder (3D convolutions, SiLU), deterministic, with noise on its
/// latents in training so that near-by latents decode alike.
///
/// Latents are normalised channel by channel, in training by their batch's statistics: what the
/// noise is to them cannot be escaped by growing. Running statistics are buffers of the module,
/// travel with its weights, and serve everywhere else.
class AutoencoderImpl : public torch::nn::Module {
 public:
  /// @throws ConfigError where a size is not positive
  explicit AutoencoderImpl(const AutoencoderOptions& options);

  /// float [B, C, T, H, W], -1..1 -> normalised latents [B, Z, T/2, H/f, W/f].
  /// @throws DataError where sizes do not divide
  torch::Tensor encode(const torch::Tensor& clips);
  /// Normalised latents -> float [B, C, T, H, W].
  torch::Tensor decode(const torch::Tensor& latents);
  /// The training pass: clips through noisy latents. Moves the running statistics.
  /// @param clips of this process, whose `processes` share a micro-batch: statistics and noise are
  ///   those of all its clips
  torch::Tensor reconstruct(const torch::Tensor& clips, at::Generator generator,
                            Processes& processes = process_alone());
  /// Sets the statistics exactly, from latents as `encode` gives them now.
  void fit_statistics(const torch::Tensor& latents);

  /// Kaiming normal weights, zero biases, latents taken as they are.
  void initialise(at::Generator generator);
  /// Floating-point operations of encoding and of decoding one clip of T x H x W.
  double encode_flops(int64_t frames, int64_t height, int64_t width) const;
  double decode_flops(int64_t frames, int64_t height, int64_t width) const;
  const AutoencoderOptions& options() const { return options_; }

 private:
  torch::Tensor compress(const torch::Tensor& clips) const;
  torch::Tensor normalise(const torch::Tensor& latents, bool by_batch) const;
  torch::Tensor normalise_together(const torch::Tensor& latents, Processes& processes);

  AutoencoderOptions options_;
  std::vector<Convolution> down_, up_;                        ///< one a halving
  std::vector<Convolution> encoder_branch_, decoder_branch_;  ///< residual, where it is coarsest
  Convolution to_latent_{nullptr}, from_latent_{nullptr}, to_pixels_{nullptr};
  torch::Tensor mean_, variance_;  ///< [Z], buffers
};
TORCH_MODULE(Autoencoder);

/// Trains an autoencoder: mean absolute error of clips through noisy latents.
class AutoencoderTask : public TrainingTask {
 public:
  /// @param validation held-out clips uint8 [B, C, T, H, W]; undefined: none
  /// @param processes that train together, each given the whole batch, of which it takes its rows;
  ///   null: this one alone
  AutoencoderTask(Autoencoder model, const OptimisationOptions& optimisation, uint64_t seed,
                  torch::Tensor validation, Processes* processes = nullptr);

  int64_t steps_done() const override { return step_; }
  StepMetrics step(const ClipBatch& batch, bool watched,
                   std::map<std::string, std::string>& texts) override;
  /// `psnr` [dB] of the validation clips; it is the `score`.
  StepMetrics evaluate() override;
  /// `model` and `optimizer`.
  std::map<std::string, TensorMap> tensors() const override;
  void restore(int64_t step, const std::string& checkpoint_folder) override;

 private:
  Autoencoder model_;
  OptimisationOptions optimisation_;
  uint64_t seed_;
  torch::Tensor validation_;
  torch::Device device_;
  Processes& processes_;
  AdamW optimizer_;
  int64_t step_ = 0;
};

/// The autoencoder of a run or checkpoint of `train_diffusion --stage autoencoder`: its shape from
/// [autoencoder] of config.ini, its weights from model.safetensors; in evaluation mode, frozen.
/// @throws CheckpointError naming the file and what is missing
Autoencoder load_autoencoder(const std::string& path);

}  // namespace jepa::eval::diffusion
