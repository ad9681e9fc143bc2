// Convolutional encoders: eb_jepa's Impala network and a plain residual one.
#pragma once

#include <jepa/model.hpp>
#include <jepa/nn/layers.hpp>

#include <string>
#include <vector>

namespace jepa::encoders {

/// 2D convolution, square kernel, zero padding of half the kernel. Uninitialised until filled.
class ConvolutionImpl : public torch::nn::Module {
 public:
  ConvolutionImpl(int64_t in, int64_t out, int64_t kernel = 3, int64_t stride = 1);
  /// [N, in, H, W] -> [N, out, ceil(H / stride), ceil(W / stride)]
  torch::Tensor forward(const torch::Tensor& x) const;

  torch::Tensor weight;  ///< [out, in, kernel, kernel]
  torch::Tensor bias;    ///< [out]

 private:
  int64_t stride_;
};
TORCH_MODULE(Convolution);

/// An encoder that makes one token of each frame of a clip, of one size alone.
class FrameEncoderImpl : public EncoderImpl {
 public:
  /// Frames [N, C, H, W] -> [N, output_width()].
  virtual torch::Tensor frames(const torch::Tensor& x) = 0;

  int64_t output_width() const override { return dim_; }
  int64_t depth() const override { return 1; }
  /// @throws DataError for frames of another size
  TokenGrid grid(at::IntArrayRef clip_sizes) const override;
  torch::Tensor embed(const torch::Tensor& clip) override;
  torch::Tensor encode(const torch::Tensor& tokens, const TokenGrid& grid,
                       const torch::Tensor& ids = {}) override;
  std::vector<torch::Tensor> layers(const torch::Tensor& clip,
                                    const std::vector<int64_t>& layers) override;
  /// For encoders by convolutions: He et al. (2015), linear layers by Xavier's scale.
  void initialise(at::Generator generator) override;

 protected:
  /// @param name what errors call it
  FrameEncoderImpl(std::string name, int64_t channels, int64_t height, int64_t width, int64_t dim)
      : name_(std::move(name)), channels_(channels), height_(height), width_(width), dim_(dim) {
    set_clip_sizes({1, channels, 1, height, width});
  }

 private:
  std::string name_;
  int64_t channels_, height_, width_, dim_;
};

/// Shape of an Impala encoder. The defaults are eb_jepa's.
struct ImpalaOptions {
  int64_t channels = 2;
  int64_t height = 65;
  int64_t width = 65;
  std::vector<int64_t> stacks = {16, 32, 32};  ///< channels of each stack, which halves the sides
  int64_t blocks = 2;                          ///< residual blocks a stack
  int64_t dim = 512;                           ///< width of a frame's state
};

/// Impala encoder (Espeholt et al. 2018) as eb_jepa has it: each frame becomes one state. A stack
/// is a convolution, a max-pool 3/2 and blocks relu(conv(relu(conv x)) + x); then Linear and layer
/// norm. Parameter names are the published ones (`stack_blocks`, `mlp`, `final_ln`).
class ImpalaImpl : public FrameEncoderImpl {
 public:
  /// @throws ConfigError where sizes are missing
  explicit ImpalaImpl(ImpalaOptions options);

  torch::Tensor frames(const torch::Tensor& x) override;
  /// The layer norm at the end, which eb_jepa's predictor shares.
  nn::LayerNorm final_norm() const { return final_ln_; }

  double flops(int64_t tokens) const override;
  const ImpalaOptions& options() const { return options_; }

 private:
  struct Block {
    Convolution conv1{nullptr}, conv2{nullptr};
  };
  struct Stack {
    Convolution initial{nullptr};
    std::vector<Block> blocks;
  };
  ImpalaOptions options_;
  std::vector<Stack> stacks_;
  nn::Linear mlp_{nullptr};
  nn::LayerNorm final_ln_{nullptr};
};
TORCH_MODULE(Impala);

/// Shape of a plain convolutional encoder.
struct ConvolutionalOptions {
  int64_t channels = 3;
  int64_t height = 64;
  int64_t width = 64;
  std::vector<int64_t> stages = {32, 64, 128};  ///< channels of each stage, which halves the sides
  int64_t blocks = 1;                           ///< residual blocks a stage
  int64_t groups = 8;                           ///< of the group norms
  int64_t dim = 128;                            ///< width of a token
  std::string tokens = "frame";  ///< "frame": one a frame; "grid": one for each place left
};

/// Residual convolutional encoder with group norm, for clips of any number of frames, each encoded
/// by itself. A stage is a strided convolution and blocks x + conv(silu(norm(conv(silu(norm x)))));
/// then one Linear (over the whole frame, or place by place) and, in `encode`, a layer norm.
/// `embed` sees whole frames: tokens of hidden places leak into their neighbours through the
/// receptive field, so it is no encoder for masks in space.
class ConvolutionalImpl : public EncoderImpl {
 public:
  /// @throws ConfigError where sizes are missing or do not divide
  explicit ConvolutionalImpl(ConvolutionalOptions options);

  int64_t output_width() const override { return options_.dim; }
  int64_t depth() const override { return 1; }
  TokenGrid grid(at::IntArrayRef clip_sizes) const override;
  torch::Tensor embed(const torch::Tensor& clip) override;
  torch::Tensor encode(const torch::Tensor& tokens, const TokenGrid& grid,
                       const torch::Tensor& ids = {}) override;
  std::vector<torch::Tensor> layers(const torch::Tensor& clip,
                                    const std::vector<int64_t>& layers) override;
  void initialise(at::Generator generator) override;
  double flops(int64_t tokens) const override;
  ActivationShape activations() const override;
  const ConvolutionalOptions& options() const { return options_; }

 private:
  struct Block {
    nn::LayerNorm norm1{nullptr}, norm2{nullptr};  // scale and shift of the group norms
    Convolution conv1{nullptr}, conv2{nullptr};
  };
  struct Stage {
    Convolution down{nullptr};
    std::vector<Block> blocks;
  };
  torch::Tensor group_norm(const torch::Tensor& x, const nn::LayerNorm& norm) const;
  int64_t side(int64_t pixels) const;  // after all stages

  ConvolutionalOptions options_;
  std::vector<Stage> stages_;
  nn::Linear project_{nullptr};
  nn::LayerNorm norm_{nullptr};
};
TORCH_MODULE(Convolutional);

}  // namespace jepa::encoders
