#include <jepa/nn/patch_embedding.hpp>

#include <torch/torch.h>

namespace jepa::nn {

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
  const int64_t batch = clip.size(0);
  const int64_t channels = clip.size(1);
  const TokenGrid grid{clip.size(2) / tubelet_, clip.size(3) / patch_, clip.size(4) / patch_};
  // [B, C, t, tau, h, P, w, P] -> [B, t, h, w, C, tau, P, P]: rows in the weight's own order.
  const auto patches =
      clip.view({batch, channels, grid.t, tubelet_, grid.h, patch_, grid.w, patch_})
          .permute({0, 2, 4, 6, 1, 3, 5, 7})
          .reshape({batch, grid.size(), channels * tubelet_ * patch_ * patch_});
  return at::linear(patches, proj_->weight.flatten(1), proj_->bias);
}

}  // namespace jepa::nn
