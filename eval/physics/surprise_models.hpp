// The models that are asked for surprise, each by its own error.
#pragma once

#include <eval/diffusion/generative_model.hpp>
#include <eval/physics/surprise.hpp>
#include <jepa/model.hpp>
#include <jepa/objectives/latent_regression.hpp>

#include <memory>
#include <string>

namespace jepa::eval::physics {

/// What a masked predictor foretells from.
struct MaskedModel {
  Encoder encoder{nullptr};         ///< of the frames that are known
  Encoder target_encoder{nullptr};  ///< of all frames; empty: the targets are pixels
  Predictor predictor{nullptr};
  PixelStatistics pixels;
  int64_t tubelet = 1;
  int64_t patch = 1;                 ///< where the targets are pixels
  int64_t mask_index = 0;            ///< the mask by which it learned to foretell
  LatentLoss loss = LatentLoss::l1;  ///< of latents, as it was trained; V-JEPA's is l1
};

/// Distance of what is predicted from the known frames to what the target encoder says of the
/// later ones when it sees the whole window, layer-normed: the loss of training, token by token
/// (V-JEPA's is the mean absolute difference; Garrido et al. 2025, arXiv 2502.11831). Where the
/// targets are pixels: their mean squared error, in the units that the encoder is given.
SurpriseModel masked_surprise(const MaskedModel& model, int64_t window, torch::Device device);

/// Denoising error of the later frames, the earlier ones given, at `times` fixed times with the
/// same noise for every window: the mean over times of what training minimises, so about a bound of
/// the likelihood. In the latents of an autoencoder where the model is in them; there the known
/// frames are encoded without a look at later ones.
SurpriseModel diffusion_surprise(const std::shared_ptr<diffusion::GenerativeModel>& model,
                                 int64_t window, torch::Device device, int64_t times = 10,
                                 uint64_t seed = 0);

/// The controls, [0, 1] of full range a pixel: the last known frame stands for all that follow.
SurpriseModel copy_last_surprise(int64_t window, int64_t tubelet, int64_t patch);
/// Each frame is compared with the one before it.
SurpriseModel pixel_difference_surprise(int64_t window, int64_t tubelet, int64_t patch);

/// The parts of a run of `pretrain`, or of published weights with a masked predictor.
/// @param window the frames of the clips it was trained on
/// @throws CheckpointError, ConfigError as the loaders do
MaskedModel load_masked_model(const std::string& path, int64_t& window);

/// A run of `pretrain` (latents or pixels), `train_diffusion` or `compare`, or published weights
/// with a masked predictor. A JEPA's window is the clip it was trained on.
/// @param window of a diffusion model, in frames
/// @throws CheckpointError, ConfigError as the loaders do
SurpriseModel load_surprise(const std::string& path, int64_t window, torch::Device device);

/// The same model with fresh weights, by its own initialisation, an autoencoder's among them: a
/// control. A fresh diffusion transformer says 0 whatever the seed, so those in pixels are all
/// alike.
SurpriseModel untrained_surprise(const std::string& path, int64_t window, uint64_t seed,
                                 torch::Device device);

/// Whether a run or checkpoint holds a diffusion model.
bool is_diffusion(const std::string& path);

}  // namespace jepa::eval::physics
