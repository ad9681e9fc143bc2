// From pixels to tokens.
#pragma once

#include <jepa/grid.hpp>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

namespace jepa::nn {

/// Cuts clips into tubelets: [B, C, T, H, W] -> [B, N, C * tubelet * patch * patch], tokens
/// time-major and row-major, values in the order channel, frame, row, column.
torch::Tensor unfold_patches(const torch::Tensor& clips, int64_t tubelet, int64_t patch);

/// The way back: patches [B, N, C * tubelet * patch * patch] of `grid` -> [B, C, T, H, W].
torch::Tensor fold_patches(const torch::Tensor& patches, const TokenGrid& grid, int64_t tubelet,
                           int64_t patch);

/// Holds the projection under its published name and shape: weight [D, C, tubelet, P, P]
/// (images: [D, C, P, P]) and bias [D].
class PatchProjectionImpl : public torch::nn::Module {
 public:
  PatchProjectionImpl(at::IntArrayRef weight_shape);

  torch::Tensor weight;
  torch::Tensor bias;
};
TORCH_MODULE(PatchProjection);

/// Cuts a clip into tubelets and projects each: the published strided convolution, computed as one
/// linear layer on unfolded patches.
class PatchEmbeddingImpl : public torch::nn::Module {
 public:
  /// @param flat 2D weights [D, C, P, P] for images (tubelet 1)
  PatchEmbeddingImpl(int64_t channels, int64_t dim, int64_t tubelet, int64_t patch, bool flat);

  /// float [B, C, T, H, W] -> [B, (T/tubelet)*(H/P)*(W/P), D], time-major, row-major.
  torch::Tensor forward(const torch::Tensor& clip) const;

 private:
  int64_t tubelet_;
  int64_t patch_;
  PatchProjection proj_{nullptr};
};
TORCH_MODULE(PatchEmbedding);

}  // namespace jepa::nn
