#include <jepa/nn/patch_embedding.hpp>

#include <torch/types.h>

namespace jepa::nn {

torch::Tensor unfold_patches(const torch::Tensor& clips, int64_t tubelet, int64_t patch) {
  const int64_t batch = clips.size(0);
  const int64_t channels = clips.size(1);
  const TokenGrid grid{clips.size(2) / tubelet, clips.size(3) / patch, clips.size(4) / patch};
  // [B, C, t, tau, h, P, w, P] -> [B, t, h, w, C, tau, P, P]
  return clips.view({batch, channels, grid.t, tubelet, grid.h, patch, grid.w, patch})
      .permute({0, 2, 4, 6, 1, 3, 5, 7})
      .reshape({batch, grid.size(), channels * tubelet * patch * patch});
}

torch::Tensor fold_patches(const torch::Tensor& patches, const TokenGrid& grid, int64_t tubelet,
                           int64_t patch) {
  const int64_t channels = patches.size(2) / (tubelet * patch * patch);
  return patches.view({patches.size(0), grid.t, grid.h, grid.w, channels, tubelet, patch, patch})
      .permute({0, 4, 1, 5, 2, 6, 3, 7})
      .reshape({patches.size(0), channels, grid.t * tubelet, grid.h * patch, grid.w * patch});
}

PatchProjectionImpl::PatchProjectionImpl(at::IntArrayRef weight_shape) {
  weight = register_parameter("weight", torch::empty(weight_shape));
  bias = register_parameter("bias", torch::empty({weight_shape[0]}));
}

PatchEmbeddingImpl::PatchEmbeddingImpl(int64_t channels, int64_t dim, int64_t tubelet,
                                       int64_t patch, bool flat)
    : tubelet_(flat ? 1 : tubelet), patch_(patch) {
  std::vector<int64_t> shape = {dim, channels, patch, patch};
  if (!flat) shape.insert(shape.begin() + 2, tubelet);
  proj_ = register_module("proj", PatchProjection(shape));
}

torch::Tensor PatchEmbeddingImpl::forward(const torch::Tensor& clip) const {
  TORCH_CHECK(clip.dim() == 5, "PatchEmbedding: a clip [B, C, T, H, W] expected, got ",
              clip.sizes());
  const auto patches = unfold_patches(clip, tubelet_, patch_);  // in the weight's own order
  return at::linear(patches, proj_->weight.flatten(1), proj_->bias);
}

}  // namespace jepa::nn
