// A diffusion model as it is used: clips in, clips out.
#pragma once

#include <eval/diffusion/autoencoder.hpp>
#include <eval/diffusion/diffusion_transformer.hpp>
#include <eval/diffusion/jepa_latents.hpp>
#include <eval/diffusion/prompt.hpp>
#include <eval/diffusion/training.hpp>

#include <memory>
#include <optional>
#include <string>

namespace jepa::eval::diffusion {

/// What a diffusion model works on, and its condition.
struct GenerativeOptions {
  std::string prompts = "none";  ///< vocabulary: none, digits, shapes, creatures
  std::string autoencoder = {};  ///< its run folder: diffusion in its latents; empty: in pixels
  std::string jepa = {};         ///< run or weights whose latents are decoded; empty: no decoder
  /// Time steps that the predictor is shown; a decoder draws those that follow.
  int64_t context_steps = 2;
  /// Latents to train a decoder on: the encoder's, then from this share of the run on the
  /// predictor's.
  double predicted_from = 0.5;
  double latent_noise = 0.4;  ///< largest deviation of noise added to them in training
  DiffusionTransformerOptions transformer = {};
  DiffusionOptions diffusion = {};

  std::vector<OptionSection> sections();
};

/// Which frames of a clip are known when the rest is drawn.
struct KnownFrames {
  torch::Tensor clips;   ///< uint8 [B, C, T, H, W]; undefined: none
  torch::Tensor frames;  ///< bool [T] or [B, T]; whole groups of `tubelet` frames
};

/// A diffusion transformer with what it works on. Weights are uninitialised, or a run's averages.
class GenerativeModel {
 public:
  /// @param channels of the clips
  /// @throws ConfigError, CheckpointError
  GenerativeModel(GenerativeOptions options, int64_t channels);
  /// The averaged weights of a run or checkpoint of `train_diffusion`, in evaluation mode.
  /// The JEPA or autoencoder that it names is looked for from its own folder first.
  /// @throws CheckpointError naming the file and what is missing
  static GenerativeModel load(const std::string& path);

  /// Moves all of it. Clips are taken from and given to the CPU, wherever the model is; latents and
  /// features stay with it. Noise is drawn on the CPU, so that a seed means the same everywhere.
  void to(torch::Device device);

  /// Draws fresh weights, on the CPU so that a seed means the same everywhere.
  /// @returns a copy to train, on the model's device; the transformer here is to be its average
  DiffusionTransformer initialise(uint64_t seed);

  const GenerativeOptions& options() const { return options_; }
  DiffusionTransformer& transformer() { return transformer_; }
  const std::optional<PromptVocabulary>& vocabulary() const { return vocabulary_; }
  const JepaLatents* jepa() const { return jepa_.get(); }
  Autoencoder* autoencoder() const { return autoencoder_.get(); }  ///< null: it works on pixels
  int64_t channels() const { return channels_; }
  /// Frames that share one time: a known frame brings its whole group.
  int64_t frames_per_group() const;
  /// Sizes of the data x for clips of sizes [B, C, T, H, W].
  std::vector<int64_t> data_sizes(at::IntArrayRef clip_sizes) const;

  /// Clips uint8 [B, C, T, H, W] -> what diffuses, float, about unit scale.
  torch::Tensor encode(const torch::Tensor& clips) const;
  /// And back, uint8.
  torch::Tensor decode(const torch::Tensor& x) const;

  /// Draws clips of sizes [B, C, T, H, W].
  /// @param asked prompt ids (undefined: none), latents
  /// @returns uint8; known frames come back as they were given
  torch::Tensor draw(at::IntArrayRef clip_sizes, const Condition& asked, const KnownFrames& known,
                     const SamplerOptions& options, uint64_t seed);
  /// Draws clips longer than what it was trained on: each window of `window` frames is drawn with
  /// its first `overlap` frames known. @returns uint8 [B, C, frames, H, W]
  torch::Tensor draw_long(at::IntArrayRef clip_sizes, const Condition& condition,
                          const KnownFrames& known, int64_t window, int64_t overlap,
                          const SamplerOptions& options, uint64_t seed);

  /// Draws what follows the first `context` frames of clips [B, C, T, H, W]; later ones are not
  /// looked at. Not of a decoder, which draws latents.
  /// @returns uint8 [B, C, T - context, H, W]
  torch::Tensor draw_future(const torch::Tensor& clips, int64_t context,
                            const SamplerOptions& options, uint64_t seed);
  /// What a decoder draws of `latents`, as many frames as clips of `clip_sizes` have after the
  /// context.
  torch::Tensor draw_latents(const torch::Tensor& latents, at::IntArrayRef clip_sizes,
                             const SamplerOptions& options, uint64_t seed);
  /// Frames that a decoder's predictor is shown.
  int64_t context_frames() const;

  /// Sets what a decoder's latents are normalised by, from those of the encoder on these clips.
  void fit_latent_statistics(const torch::Tensor& clips);
  /// A decoder's condition: latents of the time steps from `context_steps` on.
  /// @param predicted the predictor's, else the encoder's
  torch::Tensor latents(const torch::Tensor& clips, bool predicted) const;

  /// Outputs of all blocks, each [B, N, dim], for clips noised to time `t` (1: clean) with the
  /// noise of `seed` under no condition: frozen features for probes.
  std::vector<torch::Tensor> features(const torch::Tensor& clips, double t, uint64_t seed);

  /// What clips are to the network.
  /// @param prompts word ids of all clips of the source, int64 [clips, slots]; undefined: none
  /// @param predicted of a decoder: the predictor's latents, else the encoder's
  DiffusionTask::Example example(const ClipBatch& batch, const torch::Tensor& prompts,
                                 bool predicted) const;
  /// The same in training, at step `step` of `steps`: a decoder's latents are noisy, and the
  /// predictor's from a share of the run on.
  DiffusionTask::Example training_example(const ClipBatch& batch, const torch::Tensor& prompts,
                                          int64_t step, int64_t steps, uint64_t seed) const;

 private:
  GenerativeOptions options_;
  int64_t channels_;
  std::optional<PromptVocabulary> vocabulary_;
  std::shared_ptr<Autoencoder> autoencoder_;
  std::shared_ptr<JepaLatents> jepa_;
  DiffusionTransformer transformer_{nullptr};
  torch::Device device_ = torch::kCPU;
};

}  // namespace jepa::eval::diffusion
