// A plain stack of strided convolutions: the cheapest encoder of small frames.
#pragma once

#include <encoders/convolutional.hpp>
#include <jepa/options.hpp>

#include <vector>

namespace jepa::encoders {

/// Shape of a stack. The lists have one entry a convolution.
struct ConvolutionStackOptions {
  int64_t channels = 2;
  int64_t height = 65;
  int64_t width = 65;
  std::vector<int64_t> widths = {16, 32, 32, 32};
  std::vector<int64_t> kernels = {5, 3, 3, 3};  ///< odd
  std::vector<int64_t> strides = {2, 2, 2, 1};
  int64_t dim = 64;  ///< width of a frame's latent

  /// All but the frame's sizes, which are the data's.
  void describe(OptionVisitor& visit);
};

/// Convolutions with ReLU, then one Linear over the whole frame and a layer norm: one token a
/// frame.
class ConvolutionStackImpl : public FrameEncoderImpl {
 public:
  /// @throws ConfigError where lists differ in length or sizes are missing
  explicit ConvolutionStackImpl(ConvolutionStackOptions options);

  torch::Tensor frames(const torch::Tensor& x) override;
  double flops(int64_t tokens) const override;
  const ConvolutionStackOptions& options() const { return options_; }

 private:
  ConvolutionStackOptions options_;
  std::vector<Convolution> convolutions_;
  nn::Linear project_{nullptr};
  nn::LayerNorm norm_{nullptr};
};
TORCH_MODULE(ConvolutionStack);

}  // namespace jepa::encoders
