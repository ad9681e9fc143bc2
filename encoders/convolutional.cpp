#include <encoders/convolutional.hpp>
#include <jepa/errors.hpp>
#include <jepa/nn/folder.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::encoders {
namespace {

using nn::folder;

constexpr double kNormEps = 1e-5;

int64_t half(int64_t side) { return (side + 1) / 2; }

// [B, C, T, H, W] -> [B*T, C, H, W]
torch::Tensor by_frame(const torch::Tensor& clip) { return clip.transpose(1, 2).flatten(0, 1); }

void check_clip(const std::string& who, at::IntArrayRef sizes, int64_t channels, int64_t height,
                int64_t width) {
  if (sizes.size() == 5 && sizes[1] == channels && sizes[3] == height && sizes[4] == width) return;
  throw DataError(c10::str(who, ": clips [B, ", channels, ", T, ", height, ", ", width,
                           "] expected, found ", sizes));
}

// He's initialisation: normal with deviation sqrt(2 / inputs), biases 0.
void initialise_convolutions(torch::nn::Module& root, at::Generator& generator) {
  const torch::NoGradGuard no_grad;
  for (const auto& module : root.modules()) {
    if (auto* convolution = module->as<ConvolutionImpl>()) {
      const auto inputs = static_cast<double>(convolution->weight[0].numel());
      convolution->weight.normal_(0, std::sqrt(2.0 / inputs), generator);
      convolution->bias.zero_();
    }
  }
}

torch::Tensor at_ids(const torch::Tensor& tokens, const torch::Tensor& ids) {
  return ids.defined() ? gather_tokens(tokens, ids) : tokens;
}

}  // namespace

ConvolutionImpl::ConvolutionImpl(int64_t in, int64_t out, int64_t kernel, int64_t stride)
    : stride_(stride) {
  weight = register_parameter("weight", torch::empty({out, in, kernel, kernel}));
  bias = register_parameter("bias", torch::empty({out}));
}

torch::Tensor ConvolutionImpl::forward(const torch::Tensor& x) const {
  return at::conv2d(x, weight, bias, stride_, weight.size(2) / 2);
}

TokenGrid FrameEncoderImpl::grid(at::IntArrayRef sizes) const {
  check_clip(name_, sizes, channels_, height_, width_);
  return {sizes[2], 1, 1};
}

torch::Tensor FrameEncoderImpl::embed(const torch::Tensor& clip) {
  grid(clip.sizes());
  return frames(by_frame(clip)).view({clip.size(0), clip.size(2), dim_});
}

torch::Tensor FrameEncoderImpl::encode(const torch::Tensor& tokens, const TokenGrid&,
                                       const torch::Tensor& ids) {
  return at_ids(tokens, ids);
}

std::vector<torch::Tensor> FrameEncoderImpl::layers(const torch::Tensor& clip,
                                                    const std::vector<int64_t>& layers) {
  TORCH_CHECK(layers == std::vector<int64_t>{0}, name_, ": only layer 0 is given");
  return {embed(clip)};
}

void FrameEncoderImpl::initialise(at::Generator generator) {
  nn::initialise_layers(*this, generator, /*xavier=*/true);
  initialise_convolutions(*this, generator);
}

ImpalaImpl::ImpalaImpl(ImpalaOptions options)
    : FrameEncoderImpl("impala encoder", options.channels, options.height, options.width,
                       options.dim),
      options_(std::move(options)) {
  const auto& o = options_;
  if (o.channels < 1 || o.height < 1 || o.width < 1 || o.dim < 1 || o.stacks.empty()) {
    throw ConfigError("impala encoder: channels, sides, dim and stacks are needed");
  }
  auto list = folder(*this, "stack_blocks");
  int64_t channels = o.channels, height = o.height, width = o.width;
  for (size_t s = 0; s < o.stacks.size(); ++s) {
    auto place = folder(*list, std::to_string(s));
    Stack stack;
    stack.initial = place->register_module("initial_conv", Convolution(channels, o.stacks[s]));
    auto blocks = folder(*place, "blocks");
    for (int64_t b = 0; b < o.blocks; ++b) {
      auto block = folder(*blocks, std::to_string(b));
      stack.blocks.push_back(
          {block->register_module("conv1", Convolution(o.stacks[s], o.stacks[s])),
           block->register_module("conv2", Convolution(o.stacks[s], o.stacks[s]))});
    }
    stacks_.push_back(std::move(stack));
    channels = o.stacks[s];
    height = half(height);
    width = half(width);
  }
  mlp_ = register_module("mlp", nn::Linear(channels * height * width, o.dim));
  final_ln_ = register_module("final_ln", nn::LayerNorm(o.dim, kNormEps));
}

torch::Tensor ImpalaImpl::frames(const torch::Tensor& frames) {
  auto x = frames;
  for (auto& stack : stacks_) {
    x = at::max_pool2d(stack.initial->forward(x), 3, 2, 1);
    for (auto& block : stack.blocks) {
      x = at::relu(block.conv2->forward(at::relu(block.conv1->forward(x))) + x);
    }
  }
  return final_ln_->forward(mlp_->forward(x.flatten(1)));
}

double ImpalaImpl::flops(int64_t tokens) const {
  double frame = 0;
  double channels = static_cast<double>(options_.channels);
  int64_t height = options_.height, width = options_.width;
  for (const int64_t stack : options_.stacks) {
    const auto out = static_cast<double>(stack);
    frame += 9 * channels * out * static_cast<double>(height * width);
    height = half(height);
    width = half(width);
    frame += 2 * static_cast<double>(options_.blocks) * 9 * out * out *
             static_cast<double>(height * width);
    channels = out;
  }
  frame += static_cast<double>(mlp_->weight.numel());
  return 2 * frame * static_cast<double>(tokens);
}

ConvolutionalImpl::ConvolutionalImpl(ConvolutionalOptions options) : options_(std::move(options)) {
  const auto& o = options_;
  if (o.channels < 1 || o.height < 1 || o.width < 1 || o.dim < 1 || o.stages.empty()) {
    throw ConfigError("convolutional encoder: channels, sides, dim and stages are needed");
  }
  if (o.tokens != "frame" && o.tokens != "grid") {
    throw ConfigError("convolutional encoder: tokens is 'frame' or 'grid', not '" + o.tokens + "'");
  }
  auto list = folder(*this, "stages");
  int64_t channels = o.channels;
  for (size_t s = 0; s < o.stages.size(); ++s) {
    if (o.stages[s] % o.groups != 0) {
      throw ConfigError(c10::str("convolutional encoder: ", o.stages[s],
                                 " channels do not divide into ", o.groups, " groups"));
    }
    auto place = folder(*list, std::to_string(s));
    Stage stage;
    stage.down = place->register_module("down", Convolution(channels, o.stages[s], 3, 2));
    auto blocks = folder(*place, "blocks");
    for (int64_t b = 0; b < o.blocks; ++b) {
      auto block = folder(*blocks, std::to_string(b));
      stage.blocks.push_back(
          {block->register_module("norm1", nn::LayerNorm(o.stages[s], kNormEps)),
           block->register_module("norm2", nn::LayerNorm(o.stages[s], kNormEps)),
           block->register_module("conv1", Convolution(o.stages[s], o.stages[s])),
           block->register_module("conv2", Convolution(o.stages[s], o.stages[s]))});
    }
    stages_.push_back(std::move(stage));
    channels = o.stages[s];
  }
  const int64_t places = o.tokens == "frame" ? side(o.height) * side(o.width) : 1;
  project_ = register_module("project", nn::Linear(channels * places, o.dim));
  norm_ = register_module("norm", nn::LayerNorm(o.dim, kNormEps));
}

int64_t ConvolutionalImpl::side(int64_t pixels) const {
  for (size_t s = 0; s < options_.stages.size(); ++s) pixels = half(pixels);
  return pixels;
}

torch::Tensor ConvolutionalImpl::group_norm(const torch::Tensor& x,
                                            const nn::LayerNorm& norm) const {
  return at::group_norm(x, options_.groups, norm->weight, norm->bias, kNormEps);
}

TokenGrid ConvolutionalImpl::grid(at::IntArrayRef sizes) const {
  const auto& o = options_;
  check_clip("convolutional encoder", sizes, o.channels, o.height, o.width);
  if (o.tokens == "frame") return {sizes[2], 1, 1};
  return {sizes[2], side(o.height), side(o.width)};
}

torch::Tensor ConvolutionalImpl::embed(const torch::Tensor& clip) {
  const TokenGrid tokens = grid(clip.sizes());
  auto x = by_frame(clip);
  for (auto& stage : stages_) {
    x = stage.down->forward(x);
    for (auto& block : stage.blocks) {
      auto y = block.conv1->forward(at::silu(group_norm(x, block.norm1)));
      x = x + block.conv2->forward(at::silu(group_norm(y, block.norm2)));
    }
  }
  x = at::silu(x);
  x = options_.tokens == "frame" ? x.flatten(1) : x.flatten(2).transpose(1, 2);
  return project_->forward(x).view({clip.size(0), tokens.size(), options_.dim});
}

torch::Tensor ConvolutionalImpl::encode(const torch::Tensor& tokens, const TokenGrid&,
                                        const torch::Tensor& ids) {
  return norm_->forward(at_ids(tokens, ids));
}

std::vector<torch::Tensor> ConvolutionalImpl::layers(const torch::Tensor& clip,
                                                     const std::vector<int64_t>& layers) {
  TORCH_CHECK(layers == std::vector<int64_t>{0}, "convolutional encoder: only layer 0 is given");
  return {forward(clip)};
}

void ConvolutionalImpl::initialise(at::Generator generator) {
  nn::initialise_layers(*this, generator, /*xavier=*/true);
  initialise_convolutions(*this, generator);
  // Blocks begin as the identity.
  const torch::NoGradGuard no_grad;
  for (auto& stage : stages_) {
    for (auto& block : stage.blocks) block.conv2->weight.mul_(0.1);
  }
}

ActivationShape ConvolutionalImpl::activations() const {
  // A stage keeps its first map and, a block, what two norms, activations and convolutions give.
  int64_t height = options_.height, width = options_.width, frame = 0;
  for (const int64_t channels : options_.stages) {
    height = half(height);
    width = half(width);
    frame += height * width * channels * (1 + 6 * options_.blocks);
  }
  const int64_t per_frame = options_.tokens == "frame" ? 1 : height * width;
  return {.feature_maps = static_cast<double>(frame) / static_cast<double>(per_frame)};
}

double ConvolutionalImpl::flops(int64_t tokens) const {
  const auto& o = options_;
  double frame = 0;
  auto channels = static_cast<double>(o.channels);
  int64_t height = o.height, width = o.width;
  for (const int64_t stage : o.stages) {
    const auto out = static_cast<double>(stage);
    height = half(height);
    width = half(width);
    const auto places = static_cast<double>(height * width);
    frame += places * 9 * out * (channels + 2 * static_cast<double>(o.blocks) * out);
    channels = out;
  }
  const int64_t per_frame = o.tokens == "frame" ? 1 : height * width;
  frame += static_cast<double>(project_->weight.numel() * per_frame);
  return 2 * frame * static_cast<double>(tokens) / static_cast<double>(per_frame);
}

}  // namespace jepa::encoders
