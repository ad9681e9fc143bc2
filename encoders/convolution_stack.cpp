#include <encoders/convolution_stack.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

namespace jepa::encoders {
namespace {

constexpr double kStackEps = 1e-5;

int64_t strided(int64_t side, int64_t stride) { return (side + stride - 1) / stride; }

}  // namespace

void ConvolutionStackOptions::describe(OptionVisitor& visit) {
  visit("widths", widths, {.help = "channels of each convolution", .min = 1});
  visit("kernels", kernels, {.help = "side of each kernel, odd", .unit = "px", .min = 1});
  visit("strides", strides, {.help = "of each convolution", .unit = "px", .min = 1});
  visit("dim", dim, {.help = "width of a latent", .min = 1});
}

ConvolutionStackImpl::ConvolutionStackImpl(ConvolutionStackOptions options)
    : FrameEncoderImpl("convolution stack", options.channels, options.height, options.width,
                       options.dim),
      options_(std::move(options)) {
  const auto& o = options_;
  if (o.channels < 1 || o.height < 1 || o.width < 1 || o.dim < 1 || o.widths.empty()) {
    throw ConfigError("convolution stack: channels, sides, dim and widths are needed");
  }
  if (o.kernels.size() != o.widths.size() || o.strides.size() != o.widths.size()) {
    throw ConfigError(c10::str("convolution stack: ", o.widths.size(), " widths, ",
                               o.kernels.size(), " kernels and ", o.strides.size(), " strides"));
  }
  int64_t channels = o.channels, height = o.height, width = o.width;
  for (size_t i = 0; i < o.widths.size(); ++i) {
    if (o.kernels[i] % 2 == 0) {
      throw ConfigError(
          c10::str("convolution stack: a kernel of side ", o.kernels[i], " has no middle"));
    }
    convolutions_.push_back(register_module(
        c10::str("conv", i), Convolution(channels, o.widths[i], o.kernels[i], o.strides[i])));
    channels = o.widths[i];
    height = strided(height, o.strides[i]);
    width = strided(width, o.strides[i]);
  }
  project_ = register_module("project", nn::Linear(channels * height * width, o.dim));
  norm_ = register_module("norm", nn::LayerNorm(o.dim, kStackEps));
}

torch::Tensor ConvolutionStackImpl::frames(const torch::Tensor& frames) {
  auto x = frames;
  for (auto& convolution : convolutions_) {
    x = convolution->forward(x);
    at::relu_(x);  // a convolution's gradient does not need what it gave
  }
  return norm_->forward(project_->forward(x.flatten(1)));
}

double ConvolutionStackImpl::flops(int64_t tokens) const {
  double frame = static_cast<double>(project_->weight.numel());
  int64_t height = options_.height, width = options_.width;
  for (size_t i = 0; i < convolutions_.size(); ++i) {
    height = strided(height, options_.strides[i]);
    width = strided(width, options_.strides[i]);
    frame += static_cast<double>(convolutions_[i]->weight.numel() * height * width);
  }
  return 2 * frame * static_cast<double>(tokens);
}

}  // namespace jepa::encoders
