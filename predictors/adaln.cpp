#include <jepa/errors.hpp>
#include <jepa/nn/folder.hpp>
#include <jepa/nn/mlp_kernel.hpp>
#include <predictors/adaln.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace jepa::predictors {
namespace {

using nn::folder;

constexpr double kNormEps = 1e-5;       // of norms with parameters
constexpr double kModulatedEps = 1e-6;  // of the ones before a modulation, which have none
constexpr double kPositionDeviation = 0.02;

torch::Tensor modulate(const torch::Tensor& x, const torch::Tensor& shift,
                       const torch::Tensor& scale) {
  return at::layer_norm(x, {x.size(-1)}, {}, {}, kModulatedEps) * (1 + scale) + shift;
}

constexpr int64_t kLanes = 16;

// Sum of products, in lanes that the compiler keeps side by side.
float dot(const float* a, const float* b, int64_t d) {
  std::array<float, kLanes> lanes{};
  for (int64_t k = 0; k < d; k += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] += a[k + j] * b[k + j];
  }
  return std::accumulate(lanes.begin(), lanes.end(), 0.0F);
}

// Attention of a few frames: the library's fused kernel spends far longer on calling itself than on
// three keys. q [B, n, heads, d], keys and values [B, T, heads, d], the n queries come last.
torch::Tensor window_attention(const torch::Tensor& queries, const torch::Tensor& keys,
                               const torch::Tensor& values) {
  const int64_t rows = queries.size(0), n = queries.size(1), frames = keys.size(1);
  const int64_t d = queries.size(3), width = queries.size(2) * d;
  const float scale = 1 / std::sqrt(static_cast<float>(d));
  auto result = torch::empty_like(queries);
  const float *q = queries.const_data_ptr<float>(), *k = keys.const_data_ptr<float>(),
              *v = values.const_data_ptr<float>();
  float* out = result.mutable_data_ptr<float>();
  std::vector<float> weights(static_cast<size_t>(frames));
  for (int64_t b = 0; b < rows; ++b, k += frames * width, v += frames * width) {
    for (int64_t i = 0; i < n; ++i, q += width, out += width) {
      const int64_t seen = frames - n + i + 1;
      for (int64_t head = 0; head < width; head += d) {
        float most = -INFINITY, sum = 0;
        for (int64_t t = 0; t < seen; ++t) {
          weights[t] = scale * dot(q + head, k + t * width + head, d);
          most = std::max(most, weights[t]);
        }
        for (int64_t t = 0; t < seen; ++t) sum += weights[t] = std::exp(weights[t] - most);
        std::fill(out + head, out + head + d, 0.0F);
        for (int64_t t = 0; t < seen; ++t) {
          const float share = weights[t] / sum;
          const float* value = v + t * width + head;
          for (int64_t j = 0; j < d; ++j) out[head + j] += share * value[j];
        }
      }
    }
  }
  return result;
}

}  // namespace

void AdaLnOptions::describe(OptionVisitor& visit) {
  visit("dim", dim, {.help = "token width; 0: the encoder's", .min = 0});
  visit("depth", depth, {.help = "blocks", .min = 1});
  visit("heads", heads, {.help = "attention heads", .min = 1});
  visit("head_dim", head_dim, {.help = "width of a head", .min = 1});
  visit("mlp_hidden", mlp_hidden, {.help = "hidden width of the MLP", .min = 1});
  visit("frames", frames, {.help = "longest history", .min = 1});
  visit("tokens", tokens, {.help = "tokens of a frame; 0: the encoder's", .min = 0});
  visit("dropout", dropout, {.help = "share dropped in training", .min = 0, .max = 0.99});
}

AdaLnPredictorImpl::AdaLnPredictorImpl(AdaLnOptions options) : options_(options) {
  const auto& o = options_;
  if (o.dim < 1 || o.depth < 1 || o.heads < 1 || o.head_dim < 1 || o.mlp_hidden < 1 ||
      o.frames < 1 || o.tokens < 1) {
    throw ConfigError(c10::str("AdaLN predictor: dim ", o.dim, ", depth ", o.depth, ", heads ",
                               o.heads, " x ", o.head_dim, ", hidden ", o.mlp_hidden, ", frames ",
                               o.frames, " and tokens ", o.tokens, " must be 1 or more"));
  }
  const int64_t inner = o.heads * o.head_dim;
  pos_embedding_ =
      register_parameter("pos_embedding", torch::empty({1, o.frames * o.tokens, o.dim}));
  auto transformer = folder(*this, "transformer");
  auto list = folder(*transformer, "layers");
  for (int64_t i = 0; i < o.depth; ++i) {
    auto place = folder(*list, std::to_string(i));
    auto attention = folder(*place, "attn");
    auto mlp = folder(*folder(*place, "mlp"), "net");
    Block block;
    block.modulation =
        folder(*place, "adaLN_modulation")->register_module("1", nn::Linear(o.dim, 6 * o.dim));
    block.attention_norm = attention->register_module("norm", nn::LayerNorm(o.dim, kNormEps));
    block.qkv = attention->register_module("to_qkv", nn::Linear(o.dim, 3 * inner, false));
    block.out = folder(*attention, "to_out")->register_module("0", nn::Linear(inner, o.dim));
    block.mlp_norm = mlp->register_module("0", nn::LayerNorm(o.dim, kNormEps));
    block.up = mlp->register_module("1", nn::Linear(o.dim, o.mlp_hidden));
    block.down = mlp->register_module("4", nn::Linear(o.mlp_hidden, o.dim));
    blocks_.push_back(std::move(block));
  }
  norm_ = transformer->register_module("norm", nn::LayerNorm(o.dim, kNormEps));
}

torch::Tensor AdaLnPredictorImpl::drop(const torch::Tensor& x) const {
  return options_.dropout > 0 ? at::dropout(x, options_.dropout, is_training()) : x;
}

torch::Tensor AdaLnPredictorImpl::attend(const Block& block, const torch::Tensor& x,
                                         const torch::Tensor& mask) const {
  const auto parts = block.qkv->forward(block.attention_norm->forward(x))
                         .view({x.size(0), x.size(1), 3, options_.heads, options_.head_dim})
                         .permute({2, 0, 3, 1, 4})
                         .unbind(0);
  const double dropped = is_training() ? options_.dropout : 0;
  const auto seen = at::scaled_dot_product_attention(
      parts[0], parts[1], parts[2], mask.defined() ? std::optional(mask) : std::nullopt, dropped,
      /*is_causal=*/!mask.defined());
  return drop(block.out->forward(seen.transpose(1, 2).flatten(2)));
}

torch::Tensor AdaLnPredictorImpl::feed_forward(const Block& block, const torch::Tensor& x) const {
  const auto y = block.mlp_norm->forward(x);
  const bool drops = is_training() && options_.dropout > 0;
  if (!drops && nn::mlp_kernel_fits(y)) {
    return nn::mlp_kernel(torch::zeros_like(y), y, block.up->weight, block.up->bias,
                          block.down->weight, block.down->bias);
  }
  return drop(block.down->forward(drop(at::gelu(block.up->forward(y)))));
}

torch::Tensor AdaLnPredictorImpl::forward(const torch::Tensor& tokens,
                                          const torch::Tensor& actions) {
  const auto& o = options_;
  const int64_t frames = actions.dim() == 3 ? actions.size(1) : -1;
  TORCH_CHECK(tokens.dim() == 3 && frames >= 1 && frames <= o.frames &&
                  tokens.size(1) == frames * o.tokens && tokens.size(2) == o.dim &&
                  actions.size(2) == o.dim,
              "AdaLnPredictor: tokens [B, T*", o.tokens, ", ", o.dim,
              "] and actions [B, T <= ", o.frames, ", ", o.dim, "] expected, got ", tokens.sizes(),
              " and ", actions.sizes());
  auto x = tokens + pos_embedding_.narrow(1, 0, tokens.size(1));
  torch::Tensor mask;  // of one token a frame: plainly causal
  if (o.tokens > 1) {
    const auto frame = torch::arange(frames, torch::kInt64).repeat_interleave(o.tokens);
    mask = frame.unsqueeze(1).ge(frame.unsqueeze(0)).to(x.device());
  }
  const auto condition = at::silu(actions);
  for (const auto& block : blocks_) {
    auto signals = block.modulation->forward(condition);
    if (o.tokens > 1) signals = signals.repeat_interleave(o.tokens, 1);
    const auto part = signals.chunk(6, -1);
    x = x + part[2] * attend(block, modulate(x, part[0], part[1]), mask);
    x = x + part[5] * feed_forward(block, modulate(x, part[3], part[4]));
  }
  return norm_->forward(x);
}

std::vector<torch::Tensor> AdaLnPredictorImpl::signals(const torch::Tensor& actions) const {
  const auto condition = at::silu(actions);
  std::vector<torch::Tensor> all;
  for (const auto& block : blocks_) all.push_back(block.modulation->forward(condition));
  return all;
}

torch::Tensor AdaLnPredictorImpl::attend_window(const Block& block, const torch::Tensor& x,
                                                bool last, Window& window, size_t i) const {
  const auto& o = options_;
  const auto joint = block.qkv->forward(block.attention_norm->forward(x))
                         .view({x.size(0), x.size(1), 3, o.heads, o.head_dim});
  const auto longer = [](torch::Tensor& past, const torch::Tensor& more) {
    past = past.defined() ? torch::cat({past, more}, 1) : more.contiguous();
    return past;
  };
  const auto keys = longer(window.keys[i], joint.select(2, 1));
  const auto values = longer(window.values[i], joint.select(2, 2));
  auto q = joint.select(2, 0);
  if (last) q = q.narrow(1, x.size(1) - 1, 1);
  torch::Tensor seen;
  if (x.device().is_cpu() && !joint.requires_grad() && o.head_dim % kLanes == 0) {
    const auto full = [](const torch::Tensor& t) { return t.to(torch::kFloat32).contiguous(); };
    seen = window_attention(full(q), full(keys), full(values)).to(joint.scalar_type());
  } else {
    const int64_t n = q.size(1), frames = keys.size(1);
    const auto mask = torch::ones({n, frames}, torch::kBool).tril(frames - n).to(x.device());
    seen = at::scaled_dot_product_attention(q.transpose(1, 2), keys.transpose(1, 2),
                                            values.transpose(1, 2), mask)
               .transpose(1, 2);
  }
  return block.out->forward(seen.flatten(2));
}

torch::Tensor AdaLnPredictorImpl::extend(Window& window, const torch::Tensor& tokens,
                                         const std::vector<torch::Tensor>& signals) const {
  const auto& o = options_;
  const int64_t count = tokens.size(1);
  TORCH_CHECK(o.tokens == 1 && count >= 1 && window.frames + count <= o.frames,
              "AdaLnPredictor: windows are of up to ", o.frames, " frames of one token, got ",
              window.frames, " and ", count, " more of ", o.tokens);
  window.keys.resize(blocks_.size());
  window.values.resize(blocks_.size());
  auto x = tokens + pos_embedding_.narrow(1, window.frames, count);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const bool last = i + 1 == blocks_.size();
    auto part = signals[i].chunk(6, -1);
    const auto seen = modulate(x, part[0], part[1]);
    if (last) {  // nothing comes after it that needs the frames before
      x = x.narrow(1, count - 1, 1);
      for (auto& one : part) one = one.narrow(1, count - 1, 1);
    }
    x = x + part[2] * attend_window(blocks_[i], seen, last, window, i);
    x = x + part[5] * feed_forward(blocks_[i], modulate(x, part[3], part[4]));
  }
  window.frames += count;
  return norm_->forward(x);
}

void AdaLnPredictorImpl::initialise(at::Generator generator) {
  nn::initialise_layers(*this, generator);
  const torch::NoGradGuard no_grad;
  pos_embedding_.normal_(0, kPositionDeviation, generator);
  for (auto& block : blocks_) block.modulation->weight.zero_();
}

ActionEncoderImpl::ActionEncoderImpl(int64_t action_width, int64_t dim, int64_t smoothed,
                                     int64_t scale) {
  auto smoothing = folder(*this, "patch_embed");
  weight_ = smoothing->register_parameter("weight", torch::empty({smoothed, action_width, 1}));
  bias_ = smoothing->register_parameter("bias", torch::empty({smoothed}));
  auto embed = folder(*this, "embed");
  up_ = embed->register_module("0", nn::Linear(smoothed, scale * dim));
  down_ = embed->register_module("2", nn::Linear(scale * dim, dim));
}

torch::Tensor ActionEncoderImpl::forward(const torch::Tensor& actions) const {
  TORCH_CHECK(actions.size(-1) == action_width(), "ActionEncoder: actions of ", action_width(),
              " numbers expected, got ", actions.sizes());
  const auto smooth = at::linear(actions, weight_.squeeze(-1), bias_);
  return down_->forward(at::silu(up_->forward(smooth)));
}

void ActionEncoderImpl::initialise(at::Generator generator) {
  nn::initialise_layers(*this, generator, /*xavier=*/true);
  nn::truncated_normal(weight_, 0.3, generator);
  const torch::NoGradGuard no_grad;
  bias_.zero_();
}

BatchNormMlpImpl::BatchNormMlpImpl(int64_t in, int64_t hidden, int64_t out) {
  auto net = folder(*this, "net");
  first_ = net->register_module("0", nn::Linear(in, hidden));
  norm_ = net->register_module("1", torch::nn::BatchNorm1d(hidden));
  second_ = net->register_module("3", nn::Linear(hidden, out));
}

torch::Tensor BatchNormMlpImpl::forward(const torch::Tensor& x) {
  const auto rows = first_->forward(x).flatten(0, -2);
  const auto y = second_->forward(at::gelu(norm_->forward(rows)));
  auto sizes = x.sizes().vec();
  sizes.back() = y.size(-1);
  return y.view(sizes);
}

void BatchNormMlpImpl::initialise(at::Generator generator) {
  nn::initialise_layers(*this, std::move(generator), /*xavier=*/true);
  norm_->reset_parameters();
}

}  // namespace jepa::predictors
