// What a trained JEPA knows and foresees of a clip, as a decoder's condition.
#pragma once

#include <jepa/grid.hpp>
#include <jepa/model.hpp>

#include <string>

namespace jepa::eval::diffusion {

/// A frozen encoder with its predictor. Nothing flows back into either.
class JepaLatents {
 public:
  /// Of a run of this library, or of published weights with a masked predictor.
  /// @throws CheckpointError, ConfigError as the loaders do
  explicit JepaLatents(const std::string& path);

  /// Moves it; its results are then there, clips may come from anywhere.
  void to(torch::Device device);

  /// Width of a latent.
  int64_t width() const { return width_; }
  /// The token grid of a clip [B, C, T, H, W]. @throws DataError where it does not divide
  TokenGrid grid(at::IntArrayRef clip_sizes) const { return encoder_->grid(clip_sizes); }
  /// Frames of one time step of the grid.
  int64_t tubelet() const { return tubelet_; }

  /// The target encoder's latents of the time steps from `from` on when it sees the whole clip,
  /// layer-normed as the predictor's targets are: uint8 [B, C, T, H, W] -> [B, N', width].
  torch::Tensor encoded(const torch::Tensor& clips, int64_t from) const;
  /// The predictor's latents of them when only the steps before `from` are shown. Later frames are
  /// not looked at.
  torch::Tensor predicted(const torch::Tensor& clips, int64_t from) const;
  /// Floating-point operations of `predicted` for one clip of sizes [1, C, T, H, W].
  double prediction_flops(at::IntArrayRef clip_sizes, int64_t from) const;

 private:
  mutable Encoder encoder_{nullptr};
  mutable Encoder target_{nullptr};
  mutable Predictor predictor_{nullptr};
  PixelStatistics pixels_;
  int64_t width_ = 0;
  int64_t tubelet_ = 1;
  int64_t mask_index_ = 0;
  torch::Device device_ = torch::kCPU;
};

}  // namespace jepa::eval::diffusion
