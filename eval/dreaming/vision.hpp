// V: what turns frames into latents. A variational autoencoder as Ha and Schmidhuber have it, one
// whose latents stay a map, or a joint-embedding encoder that predicts its own latents and never
// draws a pixel.
#pragma once

#include <eval/dreaming/episodes.hpp>
#include <eval/dreaming/fit.hpp>
#include <jepa/options.hpp>

#include <torch/nn/module.h>
#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::dreaming {

/// Shape and training of V.
struct VisionOptions {
  std::string kind = "vae";
  int64_t latent = 32;
  int64_t width = 16;    ///< channels of the first convolution; they double at each further
  int64_t halvings = 4;  ///< convolutions of stride 2; jepa has 3
  int64_t shrink = 2;    ///< frames are averaged down by this before anything
  int64_t steps = 2000;
  int64_t batch = 64;
  double lr = 1e-3;
  double free_nats = 0.5;  ///< vae: KL below this a dimension costs nothing
  double end_weight = 1;   ///< jepa: of telling whether the episode ends within `end_window`
  int64_t end_window = 3;  ///< decisions

  void describe(OptionVisitor& visit);
};

/// Frames to latents.
class VisionImpl : public torch::nn::Module {
 public:
  /// @param frame {C, H, W}
  /// @throws ConfigError where sides do not divide by 2^halvings times `shrink`
  VisionImpl(VisionOptions options, std::vector<int64_t> frame);

  /// Frames uint8 [N, C, H, W] -> latents float [N, Z]; without gradient, some at a time.
  /// @param mirrored left and right exchanged first
  /// @throws Stopped
  torch::Tensor encode(const torch::Tensor& frames, bool mirrored = false,
                       const StopRequest& stop = {});
  /// Whether latents can be drawn.
  virtual bool decodes() const { return false; }
  /// Latents [N, Z] -> uint8 [N, C, H, W], of full size.
  virtual torch::Tensor decode(const torch::Tensor& latents);
  /// The loss of a batch. @param starts int64 [B], rows of `episodes` with two rows after them in
  ///   the same episode
  virtual torch::Tensor loss(const Episodes& episodes, const torch::Tensor& starts,
                             at::Generator& generator) = 0;
  /// Fills the weights.
  virtual void initialise(at::Generator generator) = 0;
  const VisionOptions& options() const { return options_; }

 protected:
  /// uint8 [N, C, H, W] -> float in [0, 1], smaller.
  torch::Tensor prepare(const torch::Tensor& frames) const;
  /// Prepared frames -> latents, with gradient.
  virtual torch::Tensor latents(const torch::Tensor& prepared) = 0;

  VisionOptions options_;
  std::vector<int64_t> frame_;  ///< {C, H, W} as given
};
using Vision = std::shared_ptr<VisionImpl>;

/// V of `options.kind`, uninitialised.
Vision make_vision(const VisionOptions& options, const GameInfo& game);

/// Trains V on random rows of the episodes that M will be trained on (is_held_out).
/// @returns mean loss of the last tenth of the steps
double train_vision(VisionImpl& vision, const Episodes& episodes, double held_out, uint64_t seed,
                    const TrainingProgress& progress = {});

}  // namespace jepa::eval::dreaming
