// Vision transformer with a class token over single frames: Hugging Face's ViT, LeWorldModel's
// encoder.
#pragma once

#include <encoders/convolutional.hpp>
#include <jepa/nn/layers.hpp>
#include <jepa/nn/patch_embedding.hpp>

#include <vector>

namespace jepa::encoders {

/// Shape of the encoder. The defaults are LeWorldModel's (ViT-tiny, patch 14).
struct ClassTokenOptions {
  int64_t channels = 3;
  int64_t size = 224;  ///< side of a frame, px
  int64_t patch = 14;
  int64_t dim = 192;
  int64_t depth = 12;
  int64_t heads = 3;
  int64_t mlp_hidden = 768;
};

/// Each frame becomes the class token after the last layer norm. Pre-norm blocks, exact GELU, layer
/// norms of eps 1e-12, learned positions (of the class token too). Parameter names are those of
/// transformers 4 (`encoder.layer.N.attention.attention.query`, ...), without a pooler.
class ClassTokenVitImpl : public FrameEncoderImpl {
 public:
  /// @throws ConfigError where sizes are missing or do not divide
  explicit ClassTokenVitImpl(ClassTokenOptions options);

  /// Frames [N, C, size, size] -> [N, dim].
  torch::Tensor frames(const torch::Tensor& x) override;

  void initialise(at::Generator generator) override;
  double flops(int64_t tokens) const override;
  ActivationShape activations() const override;
  const ClassTokenOptions& options() const { return options_; }

 private:
  struct Block {
    nn::LayerNorm before{nullptr}, after{nullptr};
    nn::Linear query{nullptr}, key{nullptr}, value{nullptr}, out{nullptr};
    nn::Linear up{nullptr}, down{nullptr};
  };
  Block make_block(torch::nn::Module& place) const;
  torch::Tensor run(const Block& block, const torch::Tensor& x) const;

  ClassTokenOptions options_;
  torch::Tensor cls_token_;  // [1, 1, dim]
  torch::Tensor positions_;  // [1, 1 + patches, dim]
  nn::PatchProjection patches_{nullptr};
  std::vector<Block> blocks_;
  nn::LayerNorm norm_{nullptr};
};
TORCH_MODULE(ClassTokenVit);

}  // namespace jepa::encoders
