#include <eval/diffusion/diffusion_transformer.hpp>
#include <eval/diffusion/interpolant.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/nn/block.hpp>
#include <jepa/nn/positions.hpp>

#include <torch/nn/modules/container/modulelist.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::diffusion {
namespace {

constexpr int64_t kTimeWidth = 256;    // of the sinusoidal embedding
constexpr double kTimeScale = 1000.0;  // times 0 to 1 are embedded as 0 to 1000
constexpr double kTableDeviation = 0.02;
constexpr double kModulatedEps = 1e-6;

struct Preset {
  const char* name;
  int64_t dim, depth, heads;
};
constexpr Preset kPresets[] = {{"dit_s", 384, 12, 6},
                               {"dit_b", 768, 12, 12},
                               {"dit_l", 1024, 24, 16},
                               {"dit_xl", 1152, 28, 16}};

/// Layer norm without scale and shift: the condition brings them.
torch::Tensor plain_norm(const torch::Tensor& x) {
  return at::layer_norm(x, {x.size(-1)}, {}, {}, kModulatedEps);
}

/// Tokens that follow one another, and the rows of the condition that apply to them.
struct Part {
  int64_t first_token, count, first_row, rows;

  /// [B, tokens, dim] -> [B, rows, tokens of a row, dim]
  torch::Tensor tokens(const torch::Tensor& x) const {
    return x.narrow(1, first_token, count).unflatten(1, {rows, count / rows});
  }
  /// [B, G, dim] -> [B, rows, 1, dim]
  torch::Tensor of_rows(const torch::Tensor& condition) const {
    return condition.narrow(1, first_row, rows).unsqueeze(2);
  }
};

/// `apply` on the words and on the patches of `tokens` tokens. Views and broadcasting: a
/// group's condition is never copied to each of its tokens.
template <class Apply>
torch::Tensor each_part(const TokenGroups& groups, int64_t tokens, const Apply& apply) {
  const auto patches =
      apply(Part{groups.words, tokens - groups.words, 0, groups.steps}).flatten(1, 2);
  if (groups.words == 0) return patches;
  return torch::cat({apply(Part{0, groups.words, groups.steps, 1}).flatten(1, 2), patches}, 1);
}

torch::Tensor modulate(const torch::Tensor& x, const torch::Tensor& shift,
                       const torch::Tensor& scale, const TokenGroups& groups) {
  const auto h = plain_norm(x);
  const auto factor = scale + 1;
  return each_part(groups, x.size(1), [&](const Part& part) {
    return at::addcmul(part.of_rows(shift), part.tokens(h), part.of_rows(factor));
  });
}

/// x + gate branch
torch::Tensor add_gated(const torch::Tensor& x, const torch::Tensor& gate,
                        const torch::Tensor& branch, const TokenGroups& groups) {
  return each_part(groups, x.size(1), [&](const Part& part) {
    return at::addcmul(part.tokens(x), part.of_rows(gate), part.tokens(branch));
  });
}

/// Cosines and sines of 1000 t: [B, G] -> [B, G, 256].
torch::Tensor embed_times(const torch::Tensor& t) {
  const int64_t half = kTimeWidth / 2;
  const auto frequencies = torch::exp(-std::log(10000.0) / static_cast<double>(half) *
                                      torch::arange(half, t.options().dtype(torch::kFloat32)));
  const auto angles = kTimeScale * t.unsqueeze(-1) * frequencies;
  return torch::cat({angles.cos(), angles.sin()}, -1);
}

/// z = t x + (1 - t) e brought to the best linear guess at x, but for its mean: given pixels stay
/// as they are, noise becomes little.
torch::Tensor damped(const torch::Tensor& z, const torch::Tensor& t, double deviation) {
  if (deviation == 0) return z;
  const double variance = deviation * deviation;
  const auto gain = t * variance / (t.square() * variance + (1 - t).square());
  return z * spread_times(gain, z);
}

void xavier(const torch::Tensor& weight, at::Generator& generator) {
  const auto matrix = weight.flatten(1);
  const double bound = std::sqrt(6.0 / static_cast<double>(matrix.size(0) + matrix.size(1)));
  weight.uniform_(-bound, bound, generator);
}

void clear(nn::Linear& linear) {
  linear->weight.zero_();
  linear->bias.zero_();
}

}  // namespace

void DiffusionTransformerOptions::describe(OptionVisitor& visit) {
  visit("preset", preset,
        {.help = "published shape", .choices = {"custom", "dit_s", "dit_b", "dit_l", "dit_xl"}});
  visit("dim", dim, {.help = "token width (preset custom)", .min = 4});
  visit("depth", depth, {.help = "blocks (preset custom)", .min = 1});
  visit("heads", heads, {.help = "attention heads (preset custom)", .min = 1});
  visit("mlp_ratio", mlp_ratio, {.help = "hidden width over token width", .min = 0.1});
  visit("tubelet", tubelet, {.help = "frames in one patch", .unit = "frames", .min = 1});
  visit("patch", patch, {.help = "side of one patch", .unit = "px", .min = 1});
  visit("attention", attention,
        {.help = "all tokens, or in turns within a time step and along time",
         .choices = {"full", "factorised"}});
  visit(
      "data_deviation", data_deviation,
      {.help = "noisy pixels are damped as suits data of this deviation; 0: not at all", .min = 0});
}

DiffusionTransformerOptions DiffusionTransformerOptions::resolved() const {
  DiffusionTransformerOptions filled = *this;
  if (preset == "custom") return filled;
  for (const auto& row : kPresets) {
    if (preset != row.name) continue;
    filled.dim = row.dim;
    filled.depth = row.depth;
    filled.heads = row.heads;
    return filled;
  }
  throw ConfigError("diffusion transformer preset " + preset +
                    " is not one of custom, dit_s, dit_b, dit_l, dit_xl");
}

Condition Condition::nothing() const {
  return {prompt.defined() ? torch::zeros_like(prompt) : prompt,
          latents.defined() ? torch::zeros_like(latents) : latents};
}

Condition Condition::rows(int64_t start, int64_t count) const {
  return {prompt.defined() ? prompt.narrow(0, start, count) : prompt,
          latents.defined() ? latents.narrow(0, start, count) : latents};
}

Condition Condition::to(torch::Device device) const {
  return {prompt.defined() ? to_device(prompt, device) : prompt,
          latents.defined() ? to_device(latents, device) : latents};
}

AdaptiveBlockImpl::AdaptiveBlockImpl(int64_t dim, int64_t heads, int64_t mlp_hidden) {
  modulation_ = register_module("modulation", nn::Linear(dim, 6 * dim));
  attn_ = register_module("attn", nn::Attention(dim, heads));
  mlp_ = register_module("mlp", nn::Mlp(dim, mlp_hidden));
}

torch::Tensor AdaptiveBlockImpl::forward(const torch::Tensor& x, const torch::Tensor& condition,
                                         const TokenGroups& groups, const nn::RotaryTable& rotary,
                                         Attention attention, const TokenGrid& grid) {
  // [B, G, 6 dim] -> six of [B, G, dim]
  const auto modulation = modulation_->forward(torch::silu(condition)).chunk(6, 2);
  auto h = modulate(x, modulation[0], modulation[1], groups);
  const int64_t batch = x.size(0);
  const int64_t dim = x.size(2);
  if (attention == Attention::kSpace) {
    h = attn_->forward(h.reshape({batch * grid.t, grid.frame_size(), dim})).view({batch, -1, dim});
  } else if (attention == Attention::kTime) {
    h = attn_
            ->forward(h.view({batch, grid.t, grid.frame_size(), dim})
                          .transpose(1, 2)
                          .reshape({batch * grid.frame_size(), grid.t, dim}))
            .view({batch, grid.frame_size(), grid.t, dim})
            .transpose(1, 2)
            .reshape({batch, -1, dim});
  } else {
    h = attn_->forward(h, rotary);
  }
  const auto y = add_gated(x, modulation[2], h, groups);
  return add_gated(y, modulation[5],
                   mlp_->forward(modulate(y, modulation[3], modulation[4], groups)), groups);
}

void AdaptiveBlockImpl::clear_modulation() {
  const torch::NoGradGuard no_grad;
  clear(modulation_);
}

DiffusionTransformerImpl::DiffusionTransformerImpl(DiffusionTransformerOptions options)
    : options_(options.resolved()) {
  const auto& o = options_;
  if (o.dim % o.heads != 0 || o.dim % 4 != 0) {
    throw ConfigError(c10::str("diffusion transformer: dim ", o.dim,
                               " does not divide by 4 and by ", o.heads, " heads"));
  }
  patch_embed_ = register_module(
      "patch_embed", nn::PatchEmbedding(o.channels, o.dim, o.tubelet, o.patch, /*flat=*/false));
  time_in_ = register_module("time_in", nn::Linear(kTimeWidth, o.dim));
  time_out_ = register_module("time_out", nn::Linear(o.dim, o.dim));
  if (o.condition_width > 0) {
    condition_ = register_module("condition", nn::Linear(o.condition_width, o.dim));
    latent_mean_ = register_buffer("latent_mean", torch::zeros({o.condition_width}));
    latent_deviation_ = register_buffer("latent_deviation", torch::ones({o.condition_width}));
  }
  if (o.words > 0) {
    word_table_ = register_parameter("word_table", torch::empty({o.words + 1, o.dim}));
  }
  auto list = register_module("blocks", torch::nn::ModuleList());
  const auto hidden = static_cast<int64_t>(std::lround(o.mlp_ratio * static_cast<double>(o.dim)));
  for (int64_t i = 0; i < o.depth; ++i) {
    blocks_.emplace_back(o.dim, o.heads, hidden);
    list->push_back(blocks_.back());
  }
  last_modulation_ = register_module("last_modulation", nn::Linear(o.dim, 2 * o.dim));
  head_ = register_module("head", nn::Linear(o.dim, o.channels * o.tubelet * o.patch * o.patch));
}

TokenGrid DiffusionTransformerImpl::grid(at::IntArrayRef sizes) const {
  const auto& o = options_;
  if (sizes.size() != 5 || sizes[1] != o.channels || sizes[2] % o.tubelet != 0 ||
      sizes[3] % o.patch != 0 || sizes[4] % o.patch != 0) {
    throw DataError(c10::str("clip ", sizes, ": expected [B, ", o.channels, ", T, H, W] with T in ",
                             o.tubelet, "s and H, W in ", o.patch, "s"));
  }
  return {sizes[2] / o.tubelet, sizes[3] / o.patch, sizes[4] / o.patch};
}

nn::RotaryTable DiffusionTransformerImpl::rotary(const TokenGrid& grid, int64_t words) {
  const auto device = head_->weight.device();
  if (grid == rotary_grid_ && words == rotary_words_ && rotary_.cos.device() == device) {
    return rotary_;
  }
  const torch::NoGradGuard no_grad;
  const auto patches = nn::rotary_table(nn::grid_positions(grid, 0), options_.dim / options_.heads,
                                        nn::RotaryLayout::kInterleaved);
  const int64_t width = patches.cos.size(1);
  // Words stand nowhere: they are not turned.
  rotary_ = {torch::cat({torch::ones({words, width}), patches.cos}).to(device),
             torch::cat({torch::zeros({words, width}), patches.sin}).to(device)};
  rotary_grid_ = grid;
  rotary_words_ = words;
  return rotary_;
}

DiffusionTransformerImpl::Sequence DiffusionTransformerImpl::begin(const torch::Tensor& z,
                                                                   const torch::Tensor& t,
                                                                   const Condition& condition) {
  Sequence s;
  s.grid = grid(z.sizes());
  const int64_t batch = z.size(0);
  const auto device = z.device();
  auto patches = patch_embed_->forward(damped(z, t, options_.data_deviation).contiguous()) +
                 to_device(nn::sincos_3d(options_.dim, s.grid, /*uniform_power=*/true), device);
  if (options_.condition_width > 0) {
    TORCH_CHECK(condition.latents.defined() && condition.latents.size(1) == s.grid.size(),
                "diffusion transformer: one latent a patch expected");
    patches = patches + condition_->forward(condition.latents);
  }
  // The condition of each group: its time, and all words together.
  auto times = t.dim() == 1 ? t.unsqueeze(1) : t;
  TORCH_CHECK(times.size(0) == batch && (times.size(1) == 1 || times.size(1) == s.grid.t),
              "diffusion transformer: times ", t.sizes(), " for ", s.grid.t, " time steps");
  s.groups.steps = times.size(1);
  const bool full = options_.attention == "full";
  if (options_.words > 0 && full) {
    times = torch::cat({times, torch::ones_like(times.slice(1, 0, 1))}, 1);
  }
  s.condition = time_out_->forward(torch::silu(time_in_->forward(embed_times(times))));
  s.tokens = patches;
  if (options_.words > 0) {
    TORCH_CHECK(condition.prompt.defined(), "diffusion transformer: a prompt expected");
    const auto words = at::embedding(word_table_, condition.prompt);  // [B, slots, dim]
    s.condition = s.condition + words.sum(1, /*keepdim=*/true);
    if (full) {
      s.groups.words = words.size(1);
      s.tokens = torch::cat({words, patches}, 1);
    }
  }
  if (full) s.rotary = rotary(s.grid, s.groups.words);
  return s;
}

void DiffusionTransformerImpl::run(size_t block, Sequence& s) {
  using Attention = AdaptiveBlockImpl::Attention;
  Attention attention = Attention::kAll;
  if (options_.attention == "factorised")
    attention = block % 2 == 0 ? Attention::kSpace : Attention::kTime;
  s.tokens = blocks_[block]->forward(s.tokens, s.condition, s.groups, s.rotary, attention, s.grid);
}

torch::Tensor DiffusionTransformerImpl::forward(const torch::Tensor& z, const torch::Tensor& t,
                                                const Condition& condition) {
  Sequence s = begin(z, t, condition);
  for (size_t i = 0; i < blocks_.size(); ++i) run(i, s);
  const auto modulation = last_modulation_->forward(torch::silu(s.condition)).chunk(2, 2);
  const auto patches = s.tokens.narrow(1, s.groups.words, s.grid.size());
  const auto h =
      modulate(patches, modulation[0], modulation[1], {.words = 0, .steps = s.groups.steps});
  return nn::fold_patches(head_->forward(h), s.grid, options_.tubelet, options_.patch);
}

std::vector<torch::Tensor> DiffusionTransformerImpl::layers(const torch::Tensor& z,
                                                            const torch::Tensor& t,
                                                            const Condition& condition,
                                                            const std::vector<int64_t>& layers) {
  Sequence s = begin(z, t, condition);
  std::vector<torch::Tensor> outputs;
  for (size_t i = 0; i < blocks_.size() && outputs.size() < layers.size(); ++i) {
    run(i, s);
    if (layers[outputs.size()] == static_cast<int64_t>(i)) {
      outputs.push_back(s.tokens.narrow(1, s.groups.words, s.grid.size()));
    }
  }
  TORCH_CHECK(outputs.size() == layers.size(), "diffusion transformer: layers ", layers, " of ",
              blocks_.size());
  return outputs;
}

void DiffusionTransformerImpl::set_latent_statistics(const torch::Tensor& mean,
                                                     const torch::Tensor& deviation) {
  const torch::NoGradGuard no_grad;
  latent_mean_.copy_(mean);
  latent_deviation_.copy_(deviation.clamp_min(1e-6));
}

torch::Tensor DiffusionTransformerImpl::normalise_latents(const torch::Tensor& latents) const {
  return (latents - latent_mean_) / latent_deviation_;
}

void DiffusionTransformerImpl::initialise(at::Generator generator) {
  const torch::NoGradGuard no_grad;
  for (const auto& module : modules()) {
    if (auto* linear = module->as<nn::LinearImpl>()) {
      xavier(linear->weight, generator);
      linear->bias.zero_();
    } else if (auto* patches = module->as<nn::PatchProjectionImpl>()) {
      xavier(patches->weight, generator);
      patches->bias.zero_();
    }
  }
  time_in_->weight.normal_(0, kTableDeviation, generator);
  time_out_->weight.normal_(0, kTableDeviation, generator);
  if (word_table_.defined()) word_table_.normal_(0, kTableDeviation, generator);
  for (auto& block : blocks_) block->clear_modulation();
  clear(last_modulation_);
  clear(head_);
}

double DiffusionTransformerImpl::flops(const TokenGrid& grid) const {
  const auto& o = options_;
  const double dim = static_cast<double>(o.dim);
  const double depth = static_cast<double>(o.depth);
  const double n = static_cast<double>(grid.size());
  const bool full = o.attention == "full";
  // Words are tokens only where all tokens attend to one another; three of them.
  const double words = o.words > 0 && full ? 3 : 0;
  const double tokens = n + words;
  const double pixels = static_cast<double>(o.channels * o.tubelet * o.patch * o.patch);
  // Summed over blocks; factorised ones begin with space.
  const double in_space = static_cast<double>((o.depth + 1) / 2 * grid.frame_size());
  const double in_time = static_cast<double>(o.depth / 2 * grid.t);
  const double seen = full ? depth * tokens : in_space + in_time;
  const double linear = depth * tokens * (8 + 4 * o.mlp_ratio) * dim * dim;
  const double attention = 4 * tokens * seen * dim;
  const double groups = static_cast<double>(grid.t) + (words > 0 ? 1 : 0);
  const double modulation = groups * (depth * 12 + 4) * dim * dim;
  const double times = groups * 2 * (kTimeWidth + dim) * dim;
  const double latents = 2 * n * static_cast<double>(o.condition_width) * dim;
  return linear + attention + modulation + times + latents + 4 * n * pixels * dim;
}

}  // namespace jepa::eval::diffusion
