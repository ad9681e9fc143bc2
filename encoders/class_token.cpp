#include <encoders/class_token.hpp>
#include <jepa/errors.hpp>
#include <jepa/nn/attention.hpp>
#include <jepa/nn/folder.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::encoders {
namespace {

using nn::folder;

constexpr double kEps = 1e-12;
constexpr double kDeviation = 0.02;

}  // namespace

ClassTokenVitImpl::ClassTokenVitImpl(ClassTokenOptions options)
    : FrameEncoderImpl("class-token encoder", options.channels, options.size, options.size,
                       options.dim),
      options_(options) {
  const auto& o = options_;
  if (o.patch < 1 || o.heads < 1 || o.size % o.patch != 0 || o.dim % o.heads != 0 || o.dim < 1) {
    throw ConfigError(c10::str("class-token encoder: frames of ", o.size, " px, patches of ",
                               o.patch, ", width ", o.dim, " and ", o.heads,
                               " heads do not divide"));
  }
  set_heads(o.heads);
  const int64_t side = o.size / o.patch;
  auto embeddings = folder(*this, "embeddings");
  cls_token_ = embeddings->register_parameter("cls_token", torch::empty({1, 1, o.dim}));
  positions_ = embeddings->register_parameter("position_embeddings",
                                              torch::empty({1, 1 + side * side, o.dim}));
  patches_ = folder(*embeddings, "patch_embeddings")
                 ->register_module("projection", nn::PatchProjection(std::vector<int64_t>{
                                                     o.dim, o.channels, o.patch, o.patch}));
  auto list = folder(*folder(*this, "encoder"), "layer");
  for (int64_t i = 0; i < o.depth; ++i) {
    blocks_.push_back(make_block(*folder(*list, std::to_string(i))));
  }
  norm_ = register_module("layernorm", nn::LayerNorm(o.dim, kEps));
}

ClassTokenVitImpl::Block ClassTokenVitImpl::make_block(torch::nn::Module& place) const {
  const auto& o = options_;
  auto attention = folder(place, "attention");
  auto inner = folder(*attention, "attention");
  Block block;
  block.query = inner->register_module("query", nn::Linear(o.dim, o.dim));
  block.key = inner->register_module("key", nn::Linear(o.dim, o.dim));
  block.value = inner->register_module("value", nn::Linear(o.dim, o.dim));
  block.out = folder(*attention, "output")->register_module("dense", nn::Linear(o.dim, o.dim));
  block.up =
      folder(place, "intermediate")->register_module("dense", nn::Linear(o.dim, o.mlp_hidden));
  block.down = folder(place, "output")->register_module("dense", nn::Linear(o.mlp_hidden, o.dim));
  block.before = place.register_module("layernorm_before", nn::LayerNorm(o.dim, kEps));
  block.after = place.register_module("layernorm_after", nn::LayerNorm(o.dim, kEps));
  return block;
}

torch::Tensor ClassTokenVitImpl::run(const Block& block, const torch::Tensor& x) const {
  const auto heads = [&](const nn::Linear& projection, const torch::Tensor& y) {
    return projection->forward(y).unflatten(2, {options_.heads, -1}).transpose(1, 2);
  };
  const auto y = block.before->forward(x);
  const auto seen = nn::attend(heads(block.query, y), heads(block.key, y), heads(block.value, y));
  const auto z = block.out->forward_onto(x, seen.transpose(1, 2).flatten(2));
  return block.down->forward_onto(z, at::gelu(block.up->forward(block.after->forward(z))));
}

torch::Tensor ClassTokenVitImpl::frames(const torch::Tensor& frames) {
  const auto& o = options_;
  // A strided convolution as published, also in its rounding: gradients behind the batch norms
  // magnify that tenfold.
  auto x = at::conv2d(frames, patches_->weight, patches_->bias, o.patch).flatten(2).transpose(1, 2);
  x = torch::cat({cls_token_.expand({frames.size(0), 1, o.dim}), x}, 1) + positions_;
  for (const auto& block : blocks_) x = run(block, x);
  return norm_->forward(x.select(1, 0));
}

void ClassTokenVitImpl::initialise(at::Generator generator) {
  nn::initialise_layers(*this, generator);
  nn::truncated_normal(cls_token_, kDeviation, generator);
  nn::truncated_normal(positions_, kDeviation, generator);
  const torch::NoGradGuard no_grad;
  nn::truncated_normal(patches_->weight, kDeviation, generator);
  patches_->bias.zero_();
}

ActivationShape ClassTokenVitImpl::activations() const {
  // Of a frame's one token: all patches and the class token pass through the blocks.
  const int64_t side = options_.size / options_.patch;
  return {.dim = options_.dim, .depth = options_.depth * (side * side + 1)};
}

double ClassTokenVitImpl::flops(int64_t tokens) const {
  const auto& o = options_;
  const auto side = static_cast<double>(o.size / o.patch);
  const double n = side * side + 1, dim = static_cast<double>(o.dim);
  const double block =
      n * dim * (4 * dim + 2 * static_cast<double>(o.mlp_hidden)) + 2 * n * n * dim;
  const double patches = side * side * static_cast<double>(patches_->weight.numel());
  return 2 * static_cast<double>(tokens) * (patches + static_cast<double>(o.depth) * block);
}

}  // namespace jepa::encoders
